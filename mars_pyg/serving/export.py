"""Exports of a recommender: a folder to serve from, and the best items of all users."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from tqdm import tqdm

from mars_pyg.errors import DataError
from mars_pyg.files import atomic_path
from mars_pyg.nn.recommender import Recommender
from mars_pyg.serving.folder import (
    MANIFEST,
    SEARCHER,
    Catalogue,
    Exported,
    read_manifest,
    write_folder,
)
from mars_pyg.serving.retrieval_index import RetrievalIndex
from mars_pyg.training.evaluation import compute_representations, rank
from mars_pyg.user_items import EDGE_NAMES, INTERACTS, UserItems, interactions_digest

#: The folder of the best items within the folder of an export. Readers of parquet pass
#: over files whose names begin with an underscore.
TOP_K, PLAN, FINISHED = "top_k", "_export.json", "_SUCCESS"
#: Users in a file of the best items.
PART_USERS = 10_000


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
        approximate: Whether to build faiss's index too, and in which form, as
            ``faiss.index_factory`` takes it. (default: :obj:`None`, no)
        progress: Whether to show progress. (default: :obj:`True`)

    Raises:
        DataError: If the folder holds the export of another recommender, or of another
            number of items; if faiss is not installed.
        ValueError: If the recommender cannot be folded; see
            :class:`~mars_pyg.serving.RetrievalIndex`.
        FloatingPointError: If scores are not numbers.
    """
    if k < 0:
        raise ValueError(f"'k' must not be negative (got {k})")
    target, digest = Path(folder), _digest(recommender, data)
    known = read_manifest(target) if (target / MANIFEST).exists() else None
    if known is not None and known["recommender"] != digest:
        raise DataError(
            "the folder holds the export of another recommender",
            mend="choose another folder, or delete this one",
            file=target,
        )
    if known is None or (approximate and SEARCHER not in known["sha256"]):
        _write_index(recommender, data, target, digest, approximate)
    if k > 0:
        _write_top_k(recommender, data, target / TOP_K, k, digest, progress)


def _write_index(
    recommender: Recommender,
    data: HeteroData,
    folder: Path,
    digest: str,
    approximate: str | None,
) -> None:
    exported = fold(recommender, data)
    search = None
    if approximate:
        from mars_pyg.serving.approximate import ApproximateSearch

        search = ApproximateSearch(exported.index, factory=approximate)
    write_folder(folder, exported, digest, search)


def fold(recommender: Recommender, data: HeteroData) -> Exported:
    """What an export holds, without writing it.

    Args:
        recommender: The recommender.
        data: The graph that it was trained on.

    Raises:
        ValueError: If the recommender cannot be folded.
    """
    return Exported(
        index=RetrievalIndex.from_recommender(recommender, data),
        representation=compute_representations(recommender)[0].cpu(),
        train=UserItems.from_data(data, "train"),
        seen=_known_items(data),
        catalogue=Catalogue.from_data(data),
    )


def _write_top_k(
    recommender: Recommender,
    data: HeteroData,
    folder: Path,
    k: int,
    digest: str,
    progress: bool,
) -> None:
    """Write the parts that are not there."""
    plan = {"recommender": digest, "k": k, "part_users": PART_USERS}
    path = folder / PLAN
    if not path.exists():
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(plan) + "\n")
    elif json.loads(path.read_text()) != plan:
        raise DataError(
            "the folder holds the best items of another recommender, or another number "
            "of them",
            mend="choose another folder, or delete this one",
            file=folder,
        )
    parts = torch.arange(data["user"].num_nodes).split(PART_USERS)
    paths = [folder / f"part-{number:05}.parquet" for number in range(len(parts))]
    left = [p for p, file in enumerate(paths) if not file.exists()]
    done = sum(parts[p].numel() for p in range(len(parts)) if p not in left)
    with tqdm(
        total=data["user"].num_nodes,
        initial=done,
        unit="user",
        desc="Best items",
        disable=not progress,
    ) as bar:
        chosen = _rank_parts(recommender, data, [parts[p] for p in left], k, bar)
        for p, (user, score, item) in zip(left, chosen, strict=True):
            _write_part(paths[p], data, user, score, item)
    (folder / FINISHED).touch()


def _rank_parts(
    recommender: Recommender, data: HeteroData, parts: list[Tensor], k: int, bar: tqdm
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The users of each part, and their scores and items.

    One ranking goes over all parts, as it computes the representations once.
    """
    if not parts:
        return
    held: list[tuple[Tensor, ...]] = []
    number, part = 0, 0
    for chunk in rank(recommender, torch.cat(parts), k, _known_items(data)):
        held.append(tuple(x.cpu() for x in chunk))
        number += chunk[0].numel()
        bar.update(chunk[0].numel())
        while part < len(parts) and number >= parts[part].numel():
            size = parts[part].numel()
            user, score, item = (torch.cat(x) for x in zip(*held, strict=True))
            yield user[:size], score[:size], item[:size]
            held = [(user[size:], score[size:], item[size:])]
            number, part = number - size, part + 1


def _write_part(
    path: Path, data: HeteroData, user: Tensor, score: Tensor, item: Tensor
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    num_items = data["item"].num_nodes
    row, place = (item < num_items).nonzero().unbind(1)
    user_id, item_id = data["user"].id, data["item"].id
    table = pa.table(
        {
            "user": pa.array([user_id[u] for u in user[row].tolist()], pa.string()),
            "item": pa.array(
                [item_id[i] for i in item[row, place].tolist()], pa.string()
            ),
            "rank": pa.array((place + 1).int().numpy()),
            "score": pa.array(score[row, place].float().numpy()),
        }
    )
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary)


def _known_items(data: HeteroData) -> UserItems:
    """The interactions of all splits that there are."""
    splits = [s for s, name in EDGE_NAMES.items() if name in data[INTERACTS]]
    return UserItems.from_data(data, *splits)


def _digest(recommender: Recommender, data: HeteroData) -> str:
    """A digest of all that an export depends on."""
    digest = hashlib.sha256(interactions_digest(data).encode())
    for name, tensor in sorted(recommender.state_dict().items()):
        digest.update(name.encode())
        flat = tensor.detach().cpu().contiguous().view(-1)
        digest.update(flat.view(torch.uint8).numpy())
    names = Catalogue.from_data(data)
    digest.update(repr(names).encode())
    for edge_type in data.edge_types:
        if edge_type[0] == "item" and edge_type[2] == "value":
            edges = data[edge_type].edge_index.cpu().contiguous()
            digest.update(edges.numpy().tobytes())
    return digest.hexdigest()
