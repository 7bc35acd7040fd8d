"""From checked arrays to the graph that every dataset returns."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mars_pyg.errors import DataError
from mars_pyg.factors import FactorProfiles
from mars_pyg.modalities import is_feature_modality
from mars_pyg.transforms import AddFactorValues

#: Attributes of items that are no texts, beside their features.
RESERVED = ("id", "num_nodes", "text_encoder", "text_encoder_digest")


def build_graph(
    *,
    user_ids: Sequence[str],
    item_ids: Sequence[str],
    train: Tensor,
    val: Tensor,
    test: Tensor,
    item_text: Mapping[str, Sequence[str]] | None = None,
    features: Mapping[str, Tensor] | None = None,
    profiles: Mapping[str, FactorProfiles] | None = None,
) -> HeteroData:
    r"""Build the graph of a catalogue and its interactions.

    The graph has

    - ``user``: ``num_nodes`` and ``id``, the catalogue's ids of the users;
    - ``item``: ``num_nodes``, ``id``, ``title`` and other texts, lists of strings in
      which the empty string is a missing text, and the features ``x_<modality>``;
    - ``(user, interacts, item)``: ``edge_index``, the train interactions, with
      ``val_edge_index`` and ``test_edge_index``, all sorted by user and item;
    - ``value`` and ``(item, <modality>_value, value)`` where there are profiles, see
      :class:`~mars_pyg.transforms.AddFactorValues`.

    An interaction that is repeated within a split counts once. Users without a train
    interaction are kept. Both are counted in a warning.

    Args:
        user_ids: The catalogue's ids of the ``U`` users.
        item_ids: The catalogue's ids of the ``N`` items.
        train: Users (row 0) and items (row 1) of the train interactions ``[2, E]``,
            int64.
        val: The validation interactions ``[2, E']``, int64.
        test: The test interactions ``[2, E'']``, int64.
        item_text: Texts of the items by name, such as ``title``.
            (default: :obj:`None`)
        features: Features ``[N, D]`` of the items by modality, of which rows of zeros
            are missing. (default: :obj:`None`)
        profiles: Factor profiles of the items by modality. (default: :obj:`None`)

    Returns:
        The graph, for which :meth:`~torch_geometric.data.HeteroData.validate` passes.

    Raises:
        DataError: If an id is repeated or empty, an interaction is out of range or in
            two splits, there is no train interaction, a text, feature or profile does
            not fit the items, or a modality has a name that a model cannot use.
    """
    _check_ids(user_ids, "user")
    _check_ids(item_ids, "item")
    num_users, num_items = len(user_ids), len(item_ids)
    splits = {"train": train, "val": val, "test": test}
    for name, edge_index in splits.items():
        _check_edges(edge_index, name, num_users, num_items)
    if not train.size(1):
        raise DataError(
            "there is no train interaction",
            mend="give the train split at least one interaction",
            field="train",
        )
    splits = _merge_repeated(splits, num_items)
    _check_overlap(splits, user_ids, item_ids)
    without = num_users - len(splits["train"][0].unique())
    if without:
        warnings.warn(
            f"{without} of {num_users} users have no train interaction; they are kept",
            stacklevel=2,
        )

    data = HeteroData()
    data["user"].num_nodes = num_users
    data["user"].id = list(user_ids)
    data["item"].num_nodes = num_items
    data["item"].id = list(item_ids)
    for name, texts in {"title": [""] * num_items, **(item_text or {})}.items():
        if len(texts) != num_items:
            raise DataError(
                f"expected {num_items} texts, one per item, got {len(texts)}",
                mend="give an empty string for an item without text",
                field=name,
            )
        if is_reserved(name):
            raise DataError(
                "a graph has this name for something else than a text",
                mend="give the text another name",
                field=name,
            )
        data["item"][name] = list(texts)
    for modality, x in (features or {}).items():
        _check_features(x, modality, item_ids)
        data["item"][f"x_{modality}"] = x.float()
    store = data["user", "interacts", "item"]
    store.edge_index = splits["train"]
    store.val_edge_index = splits["val"]
    store.test_edge_index = splits["test"]
    if profiles:
        for modality, entry in profiles.items():
            if entry.num_items != num_items:
                raise DataError(
                    f"the profiles are of {entry.num_items} items, the catalogue has "
                    f"{num_items}",
                    mend="make the profiles with the ids of this catalogue",
                    field=modality,
                )
        data = AddFactorValues(profiles)(data)
    return data


def is_reserved(name: str) -> bool:
    """Whether an attribute of the items is something else than a text."""
    return name in RESERVED or name.startswith("x_")


def _check_ids(ids: Sequence[str], kind: str) -> None:
    if not len(ids):
        raise DataError(
            f"there are no {kind}s", mend=f"give at least one {kind}", field=kind
        )
    if len(set(ids)) == len(ids) and "" not in ids:
        return
    seen: set[str] = set()
    for position, name in enumerate(ids):
        if name in seen or not name:
            problem = f"the id {name!r} is there twice" if name else "the id is empty"
            raise DataError(
                f"{problem}, at position {position}",
                mend=f"give every {kind} an id of its own",
                field=kind,
            )
        seen.add(name)


def _check_edges(edge_index: Tensor, name: str, num_users: int, num_items: int) -> None:
    if edge_index.dim() != 2 or edge_index.size(0) != 2:
        raise DataError(
            f"expected the shape [2, E], got {list(edge_index.shape)}",
            mend="give users in the first row and items in the second",
            field=name,
        )
    if edge_index.dtype != torch.long:
        raise DataError(
            f"expected int64, got {edge_index.dtype}",
            mend="convert the interactions with .long()",
            field=name,
        )
    for row, kind, size in [(0, "user", num_users), (1, "item", num_items)]:
        fault = (edge_index[row] < 0) | (edge_index[row] >= size)
        if fault.any():
            position = int(fault.nonzero()[0])
            raise DataError(
                f"unknown {kind} {int(edge_index[row, position])} in interaction "
                f"{position}; there are {size}",
                mend=f"number the {kind}s from 0 to {size - 1}",
                field=name,
            )


def _merge_repeated(splits: dict[str, Tensor], num_items: int) -> dict[str, Tensor]:
    merged = {}
    for name, edge_index in splits.items():
        # One number per pair: sorting these sorts by user and item.
        key = (edge_index[0] * num_items + edge_index[1]).unique()
        merged[name] = torch.stack([key // num_items, key % num_items])
        repeated = edge_index.size(1) - len(key)
        if repeated:
            warnings.warn(
                f"{repeated} of {edge_index.size(1)} {name} interactions repeat "
                f"another one; each pair counts once",
                stacklevel=3,
            )
    return merged


def _check_overlap(
    splits: dict[str, Tensor], user_ids: Sequence[str], item_ids: Sequence[str]
) -> None:
    users, items = torch.cat(list(splits.values()), dim=1)
    pair, count = (users * len(item_ids) + items).unique(return_counts=True)
    overlap = pair[count > 1].tolist()
    if overlap:
        user, item = divmod(overlap[0], len(item_ids))
        raise DataError(
            f"{len(overlap)} interactions are in two splits, the first is of user "
            f"{user_ids[user]!r} and item {item_ids[item]!r}",
            mend="keep each pair in one split",
            field="interactions",
        )


def _check_features(x: Tensor, modality: str, item_ids: Sequence[str]) -> None:
    field = f"x_{modality}"
    if not is_feature_modality(modality):
        raise DataError(
            f"{modality!r} cannot be the name of a modality",
            mend="use another word of letters, digits and underscores",
            field=field,
        )
    if x.dim() != 2 or x.size(0) != len(item_ids) or not x.size(1):
        raise DataError(
            f"expected the shape [{len(item_ids)}, D], got {list(x.shape)}",
            mend="give one row per item, in the order of the items",
            field=field,
        )
    broken = ~x.isfinite().all(dim=1)
    if broken.any():
        row = int(broken.nonzero()[0])
        raise DataError(
            f"{int(broken.sum())} rows hold NaN or infinite numbers, the first is row "
            f"{row} of the matrix, item {item_ids[row]!r}",
            mend="replace them; a row of zeros stands for a missing feature",
            field=field,
        )
