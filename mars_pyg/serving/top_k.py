"""The best items of all users, in parquet files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from tqdm import tqdm

from mars_pyg.errors import DataError
from mars_pyg.files import atomic_path
from mars_pyg.nn.recommender import Recommender
from mars_pyg.training.evaluation import rank
from mars_pyg.user_items import UserItems, splits_of

#: Readers of parquet pass over files whose names begin with an underscore.
PLAN, FINISHED = "_export.json", "_SUCCESS"
#: Users of a file.
PART_USERS = 10_000


def write_top_k(
    recommender: Recommender,
    data: HeteroData,
    folder: Path,
    k: int,
    digest: str,
    progress: bool = True,
) -> None:
    """Write the best items of all users, in parts; those that are whole are kept.

    Args:
        recommender: The recommender.
        data: The graph that it was trained on.
        folder: The folder of the parts.
        k: Number of items for each user.
        digest: A digest of the recommender and the data.
        progress: Whether to show progress. (default: :obj:`True`)

    Raises:
        DataError: If the folder holds parts of another recommender, or of another
            number of items.
        FloatingPointError: If scores are not numbers.
    """
    plan = json.dumps({"recommender": digest, "k": k, "part_users": PART_USERS})
    path = folder / PLAN
    if not path.exists():
        with atomic_path(path) as temporary:
            temporary.write_text(plan)
    elif path.read_text() != plan:
        raise DataError(
            "the folder holds the best items of another recommender, or another number "
            "of them",
            mend="choose another folder, or delete this one",
            file=folder,
        )
    parts = torch.arange(data["user"].num_nodes).split(PART_USERS)
    paths = [folder / f"part-{number:05}.parquet" for number in range(len(parts))]
    left = [p for p, file in enumerate(paths) if not _is_whole(file)]
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


def _is_whole(path: Path) -> bool:
    """Whether a part is there and has its end, which a crash can take."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        pq.read_metadata(path)
    except (pa.ArrowInvalid, OSError):
        return False
    return True


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
    seen = UserItems.from_data(data, *splits_of(data))
    for chunk in rank(recommender, torch.cat(parts), k, seen):
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

    row, place = (item < data["item"].num_nodes).nonzero().unbind(1)
    users = [data["user"].id[u] for u in user[row].tolist()]
    items = [data["item"].id[i] for i in item[row, place].tolist()]
    table = pa.table(
        {
            "user": pa.array(users, pa.string()),
            "item": pa.array(items, pa.string()),
            "rank": pa.array((place + 1).int().numpy()),
            "score": pa.array(score[row, place].float().numpy()),
        }
    )
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary)
