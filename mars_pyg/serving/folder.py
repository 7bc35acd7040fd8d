"""The folder of an export: what a server needs, without the data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mars_pyg.errors import DataError
from mars_pyg.files import atomic_path, load_tensors
from mars_pyg.names import names_in
from mars_pyg.serving.retrieval_index import RetrievalIndex
from mars_pyg.user_items import UserItems

if TYPE_CHECKING:
    from mars_pyg.serving.approximate import ApproximateSearch

#: Raised whenever the form of the folder changes.
FORMAT = 1
MANIFEST, TENSORS, SEARCHER = "index.json", "index.pt", "index.faiss"
ITEMS, USERS, VALUES = "items.parquet", "users.parquet", "values.parquet"
MEND = "export again with 'mars-pyg export', into a folder of its own"


@dataclass(frozen=True)
class Catalogue:
    """The names of users, items and values.

    Args:
        user_id: The ids of the users.
        item_id: The ids of the items.
        title: The titles of the items; empty where there is none.
        factor_name: The names of the factors.
        value_name: The names of the values.
    """

    user_id: list[str]
    item_id: list[str]
    title: list[str]
    factor_name: list[str]
    value_name: list[str]

    @classmethod
    def from_data(cls, data: HeteroData) -> Catalogue:
        """Take the names of a graph."""
        item = data["item"]
        values = "value" in data.node_types
        return cls(
            user_id=names_in(data, "user"),
            item_id=names_in(data, "item"),
            title=list(item.get("title", [""] * item.num_nodes)),
            factor_name=names_in(data, "value", "factor_name") if values else [],
            value_name=names_in(data, "value", "name") if values else [],
        )


@dataclass(frozen=True)
class Exported:
    """What the folder of an export holds.

    Args:
        index: The retrieval index.
        representation: The representations of the users ``[U, d]``.
        train: The items that the heads read of each user.
        seen: All items that each user is known to have.
        catalogue: The names.
    """

    index: RetrievalIndex
    representation: Tensor
    train: UserItems
    seen: UserItems
    catalogue: Catalogue


def write_folder(
    folder: Path,
    exported: Exported,
    origin: dict[str, Any],
    approximate: ApproximateSearch | None = None,
) -> None:
    """Write the folder, the manifest last.

    Args:
        folder: The folder.
        exported: What it is to hold.
        origin: What the manifest says of how it was made.
        approximate: The approximate search, if there is to be one.
            (default: :obj:`None`)
    """
    names = exported.catalogue
    factor = [names.factor_name[k] for k in exported.index.factor.tolist()]
    _write_table(folder / USERS, {"user": names.user_id})
    _write_table(folder / ITEMS, {"item": names.item_id, "title": names.title})
    _write_table(folder / VALUES, {"factor": factor, "value": names.value_name})
    state = {
        "index": exported.index.tensors(),
        "representation": exported.representation,
        "train": (exported.train.ptr, exported.train.item),
        "seen": (exported.seen.ptr, exported.seen.item),
    }
    with atomic_path(folder / TENSORS) as temporary:
        torch.save(state, temporary)
    files = [USERS, ITEMS, VALUES, TENSORS]
    if approximate is not None:
        with atomic_path(folder / SEARCHER) as temporary:
            approximate.write(temporary)
        files.append(SEARCHER)
    else:
        (folder / SEARCHER).unlink(missing_ok=True)
    from mars_pyg import __version__

    manifest = {
        "format": FORMAT,
        "mars_pyg": __version__,
        **origin,
        "factors": names.factor_name,
        "sha256": {name: _digest(folder / name) for name in files},
    }
    with atomic_path(folder / MANIFEST) as temporary:
        temporary.write_text(json.dumps(manifest, indent=1) + "\n")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read what the folder holds.

    Raises:
        DataError: If it is no export, or one of another format.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise DataError(
            f"the folder holds no finished export: there is no {MANIFEST}",
            mend="give a folder that 'mars-pyg export' wrote; one that was interrupted "
            "goes on when the command is given again",
            file=folder,
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version = manifest["format"]
        known = isinstance(manifest["sha256"], dict)
        known = known and isinstance(manifest["factors"], list)
    except (ValueError, KeyError, TypeError):
        raise DataError("the file is damaged", mend=MEND, file=path) from None
    if version != FORMAT or not known:
        raise DataError(
            f"the export has the format {version!r}, and this version of mars_pyg "
            f"reads {FORMAT}",
            mend=MEND,
            file=path,
            field="format",
        )
    return manifest


def check_files(folder: Path, manifest: dict[str, Any]) -> None:
    """Refuse a folder whose files are not those of the manifest.

    Raises:
        DataError: If one is missing or damaged, or of another export.
    """
    for name, digest in manifest["sha256"].items():
        if not (folder / name).is_file():
            raise DataError("there is no such file", mend=MEND, file=folder / name)
        if _digest(folder / name) != digest:
            raise DataError(
                "the file is damaged, or is of another export",
                mend=MEND,
                file=folder / name,
            )


def read_folder(folder: Path) -> Exported:
    """Read the folder.

    Raises:
        DataError: If it is no export, or a file is missing or damaged, or does not
            belong to the others.
    """
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    users, items, values = (_read_table(folder / n) for n in (USERS, ITEMS, VALUES))
    catalogue = Catalogue(
        users["user"],
        items["item"],
        items["title"],
        manifest["factors"],
        values["value"],
    )
    state = load_tensors(folder / TENSORS, MEND)
    index = RetrievalIndex.from_tensors(state["index"])
    (train, train_item), (seen, seen_item) = state["train"], state["seen"]
    return Exported(
        index,
        state["representation"],
        UserItems(train, train_item, index.num_items),
        UserItems(seen, seen_item, index.num_items),
        catalogue,
    )


def _write_table(path: Path, columns: dict[str, Sequence[str]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({k: pa.array(v, pa.string()) for k, v in columns.items()})
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary)


def _read_table(path: Path) -> dict[str, list[str]]:
    import pyarrow.parquet as pq

    return pq.read_table(path).to_pydict()


def _digest(path: str | PathLike[str]) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
