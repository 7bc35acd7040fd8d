"""Exports of a recommender: a folder to serve from, and the best items of all users."""

from __future__ import annotations

import hashlib
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.utils import is_sparse

from mars_pyg.edge_forms import to_edge_index
from mars_pyg.errors import DataError
from mars_pyg.files import only_writer, user_path
from mars_pyg.heads import ScoreHead
from mars_pyg.nn.recommender import Recommender, check_graph
from mars_pyg.serving.folder import (
    ITEMS,
    MANIFEST,
    USERS,
    Catalogue,
    Exported,
    check_files,
    read_manifest,
    write_folder,
)
from mars_pyg.serving.retrieval_index import RetrievalIndex
from mars_pyg.serving.top_k import write_top_k
from mars_pyg.tables import TABLE_SUFFIXES
from mars_pyg.tensor_bytes import tensor_bytes
from mars_pyg.training.evaluation import compute_representations
from mars_pyg.user_items import UserItems, splits_of

#: The folder of the best items within the folder of an export.
TOP_K = "top_k"


def export(
    recommender: Recommender,
    data: HeteroData,
    folder: str | PathLike[str],
    k: int = 20,
    *,
    approximate: str | None = None,
    progress: bool = True,
) -> None:
    """Write a folder that :func:`mars_pyg.load` and ``mars-pyg serve`` read.

    It holds the retrieval index with the names of users, items and values, and in
    ``top_k`` a parquet dataset of the best items of all users: ``user``, ``item``,
    ``rank`` from 1, and ``score``. Items of a user's train, validation and test
    interactions are left out. An interrupted export goes on where it was when it is
    called again: users are ranked in parts of 10,000, each of which is a file that is
    written whole or not at all. The memory that it takes does not depend on the number
    of users, but for their representations.

    Args:
        recommender: The recommender.
        data: The graph that it was trained on.
        folder: The folder; made when missing.
        k: Number of items for each user; zero for the index alone.
            (default: :obj:`20`)
        approximate: The form of an index of faiss that is built too, so that
            :func:`mars_pyg.load` need not: :obj:`"auto"`, or what
            ``faiss.index_factory`` takes. One of another form that is there gives way
            to it. (default: :obj:`None`, none is built)
        progress: Whether to show progress. (default: :obj:`True`)

    Raises:
        DataError: If the folder holds the export of another recommender, or of another
            number of items, or a catalogue, or another export writes into it; if faiss
            is not installed, or does not know the form.
        ValueError: If the recommender cannot be folded; see
            :class:`~mars_pyg.serving.RetrievalIndex`.
        FloatingPointError: If scores are not numbers.
    """
    if k < 0:
        raise ValueError(f"'k' must not be negative (got {k})")
    target = user_path(folder)
    _check_no_catalogue(target)
    digest = _digest(recommender, data)
    origin = {
        "recommender": digest,
        "options": _options(recommender),
        "approximate": approximate or None,
    }
    # The manifest of one would vouch for files of the other.
    with only_writer(target):
        known = read_manifest(target) if (target / MANIFEST).exists() else None
        if known is not None:
            _check_same(known, origin, target)
            origin["approximate"] = approximate or known.get("approximate")
        if known is None or known.get("approximate") != origin["approximate"]:
            _write_index(recommender, data, target, origin)
        else:
            try:
                check_files(target, known)
            except DataError:
                _write_index(recommender, data, target, origin)
        if k > 0:
            write_top_k(recommender, data, target / TOP_K, k, digest, progress)


def _check_no_catalogue(folder: Path) -> None:
    """Refuse the folder of a dataset, whose items are in a file of the same name."""
    names = [f"{name}{s}" for name in ("interactions", "items") for s in TABLE_SUFFIXES]
    if (folder / USERS).exists():
        # An export writes its users first: the items are its own.
        names.remove(ITEMS)
    for name in names:
        if (folder / name).exists():
            raise DataError(
                "the folder holds a catalogue, and the export has a file of items too",
                mend="choose another folder",
                file=folder / name,
            )


def _check_same(known: dict[str, Any], origin: dict[str, Any], folder: Path) -> None:
    """Refuse to mix the exports of two recommenders."""
    problem = "the folder holds the export of another recommender"
    if known["recommender"] == origin["recommender"]:
        # Exports of before name no options, those of other versions perhaps others.
        there, here = known.get("options", {}), origin["options"]
        changed = [x for x in here if x in there and there[x] != here[x]]
        if not changed:
            return
        name = changed[0]
        problem += f", whose {name} is {there[name]!r}, not {here[name]!r}"
    raise DataError(
        problem, mend="choose another folder, or delete this one", file=folder
    )


def _write_index(
    recommender: Recommender, data: HeteroData, folder: Path, origin: dict[str, Any]
) -> None:
    exported = fold(recommender, data)
    search = None
    if origin["approximate"] is not None:
        from mars_pyg.serving.approximate import ApproximateSearch

        search = ApproximateSearch(exported.index, factory=origin["approximate"])
    write_folder(folder, exported, origin, search)


def fold(recommender: Recommender, data: HeteroData) -> Exported:
    """What an export holds, without writing it.

    Args:
        recommender: The recommender.
        data: The graph that it was trained on.

    Raises:
        DataError: If the graph has other numbers of users or items.
        ValueError: If the recommender cannot be folded.
        FloatingPointError: If its representations are not numbers.
    """
    check_graph(recommender, data)
    index = RetrievalIndex.from_recommender(recommender, data)
    representation = compute_representations(recommender)[0].cpu()
    if not (index.dense.isfinite().all() and representation.isfinite().all()):
        raise FloatingPointError(
            "the representations are not numbers (NaN): the training has diverged; "
            "lower the learning rate"
        )
    return Exported(
        index=index,
        representation=representation,
        train=UserItems.from_data(data, "train"),
        seen=UserItems.from_data(data, *splits_of(data)),
        catalogue=Catalogue.from_data(data),
    )


def _digest(recommender: Recommender, data: HeteroData) -> str:
    """A digest of the weights and the data that an export depends on."""
    digest = hashlib.sha256(repr(Catalogue.from_data(data)).encode())
    tensors = [*sorted(recommender.state_dict().items())]
    for kind, store in [*data.node_items(), *data.edge_items()]:
        for name, x in sorted(store.items()):
            x = to_edge_index(x) if is_sparse(x) else x
            tensors.append((f"{kind} {name}", x))
    for name, tensor in tensors:
        if isinstance(tensor, Tensor):
            digest.update(name.encode())
            digest.update(tensor_bytes(tensor))
    return digest.hexdigest()


def _options(recommender: Recommender) -> dict[str, Any]:
    """What scores depend on beside weights and data: classes, and their options."""
    options: dict[str, Any] = {}
    for place, module in recommender.named_modules():
        if not isinstance(module, Recommender | ScoreHead):
            continue
        options[place or "class"] = type(module).__qualname__
        for name, value in vars(module).items():
            is_plain = isinstance(value, bool | int | float | str)
            if is_plain and name != "training" and not name.startswith("_"):
                options[f"{place}.{name}".lstrip(".")] = value
    return options
