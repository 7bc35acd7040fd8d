"""What a model was trained on beside interactions: the items' values and features."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor
from torch.nn import Module
from torch_geometric.data import HeteroData

from mars_pyg.edge_forms import edges_of
from mars_pyg.errors import DataError
from mars_pyg.heads import (
    EASE,
    ContentSimilarity,
    FactorAffinity,
    HeadedRecommender,
    Popularity,
)
from mars_pyg.modalities import feature_modalities
from mars_pyg.nn import BPR, MARS, LightGCN
from mars_pyg.tensor_bytes import tensor_bytes

#: The name of the digest of the factor values.
VALUES = "value"


def content_digests(data: HeteroData, readers: Iterable[Module]) -> dict[str, str]:
    """Digest what models and heads read of the items beside interactions.

    Features that are made of texts are known by these and by their encoder: another
    machine rounds the features otherwise.

    Args:
        data: The graph.
        readers: The models and heads; one of a class that is not of the package is
            taken to read everything.

    Returns:
        Hexadecimal numbers, of factor values as :obj:`"value"` and of features as
        :obj:`"x_<modality>"`; of none that is not read or not there.
    """
    names = sorted({name for reader in readers for name in _names_read(reader, data)})
    digests = {}
    for name in names:
        digest = hashlib.sha256()
        for part in _values(data) if name == VALUES else _features(data, name):
            _update(digest, part)
        digests[name] = digest.hexdigest()
    return digests


def check_content(
    digests: Mapping[str, str] | None, data: HeteroData, readers: Iterable[Module]
) -> None:
    """Refuse items that are not those that models and heads were trained on.

    Args:
        digests: The :func:`content_digests` of what they were trained on; :obj:`None`,
            of an older file, where that is not known.
        data: The graph.
        readers: The models and heads.

    Raises:
        DataError: If what they read is not the same.
    """
    if digests is None:
        return
    found = content_digests(data, readers)
    changed = [
        name
        for name in sorted({*digests, *found})
        if digests.get(name) != found.get(name)
    ]
    if changed:
        what = "factor values" if changed[0] == VALUES else f"features {changed[0]!r}"
        raise DataError(
            f"the data is not what the run was trained on: the {what} of the items "
            "have changed",
            mend="bring factors, texts and features back as they were, or train anew",
            field=changed[0],
        )


def _names_read(reader: Module, data: HeteroData) -> list[str]:
    values = [VALUES] if _relations(data) else []
    features = [f"x_{modality}" for modality in feature_modalities(data)]
    kind = type(reader)
    if isinstance(reader, HeadedRecommender):
        readers = [reader.base, *reader.head_list()]
        return [
            name
            for part in readers
            if part is not None
            for name in _names_read(part, data)
        ]
    if isinstance(reader, MARS) and kind is MARS:
        if reader.factor_source == "profiles":
            features = [f"x_{modality}" for modality in reader.content_modalities]
        return [*values, *features]
    if kind in (LightGCN, BPR, Popularity):
        return []
    if kind is ContentSimilarity:
        return features
    if kind is FactorAffinity:
        return values
    if isinstance(reader, EASE) and kind is EASE:
        return values if reader.clique_weight else []
    return [*values, *features]


def _relations(data: HeteroData) -> list[tuple[str, str, str]]:
    return sorted(
        kind for kind in data.edge_types if (kind[0], kind[2]) == ("item", "value")
    )


def _values(data: HeteroData) -> list[Any]:
    store = data["value"]
    parts: list[Any] = [store.get(name) for name in ("factor", "factor_name", "name")]
    for relation in _relations(data):
        parts += [relation, edges_of(data[relation])]
    return parts


def _features(data: HeteroData, name: str) -> list[Any]:
    store = data["item"]
    if name == "x_text" and "text_encoder" in store and "text" in store:
        encoder = store.get("text_encoder_digest", store.text_encoder)
        return [encoder, store.text]
    return [store[name]]


def _update(digest: Any, part: Any) -> None:
    if isinstance(part, Tensor):
        digest.update(repr((part.dtype, tuple(part.shape))).encode())
        digest.update(tensor_bytes(part))
    else:
        digest.update(repr(part).encode())
