"""Where a recommender ranks what was held out, and the metrics of any part of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch_geometric.data import HeteroData

from mars_pyg import Recommender
from mars_pyg.training import UserItems, rank

#: The largest cut that can be asked for.
MAX_K = 20


def held_out_places(
    recommender: Recommender, data: HeteroData, split: str = "test"
) -> pd.DataFrame:
    """The place of each held-out item in the full ranking of its user.

    Args:
        recommender: The model.
        data: The graph with the splits.
        split: ``val`` or ``test``.

    Returns:
        Columns ``user``, ``item`` and ``place``, from 1 on; 0 where the item is not
        among the best 20.
    """
    held_out = UserItems.from_data(data, split)
    user = held_out.count.nonzero().view(-1)
    seen = UserItems.from_data(data, "train")
    users, items, places = [], [], []
    for chunk, _, best in rank(recommender, user, MAX_K, seen):
        row, wanted = held_out.select(chunk.cpu())
        hit = best.cpu()[row] == wanted[:, None]
        first = hit.int().argmax(dim=1) + 1
        users.append(chunk.cpu()[row])
        items.append(wanted)
        places.append(torch.where(hit.any(dim=1), first, 0))
    return pd.DataFrame(
        {
            "user": torch.cat(users).numpy().astype(np.int32),
            "item": torch.cat(items).numpy().astype(np.int32),
            "place": torch.cat(places).numpy().astype(np.int8),
        }
    )


def user_metrics(places: pd.DataFrame, k: int = MAX_K) -> pd.DataFrame:
    """Recall and NDCG of each user, as :func:`mars_pyg.evaluate` defines them.

    Args:
        places: What :func:`held_out_places` returns.
        k: The cut.

    Returns:
        Columns ``recall`` and ``ndcg``, by user.
    """
    if not 1 <= k <= MAX_K:
        raise ValueError(f"'k' must be from 1 to {MAX_K} (got {k})")
    place = places["place"].to_numpy().astype(np.int64)
    hit = (place >= 1) & (place <= k)
    gain = np.where(hit, 1 / np.log2(np.maximum(place, 1) + 1), 0.0)
    sums = (
        pd.DataFrame({"user": places["user"], "hit": hit, "gain": gain, "number": 1})
        .groupby("user")
        .sum()
    )
    discount = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(discount)[np.minimum(sums["number"], k) - 1]
    return pd.DataFrame(
        {"recall": sums["hit"] / sums["number"], "ndcg": sums["gain"] / ideal}
    )


def read_places(folder: Path, dataset: str, model: str) -> list[pd.DataFrame]:
    """What is kept of the runs of a model, a table a seed."""
    files = sorted(folder.glob(f"{dataset}-{model}-*.parquet"))
    return [pd.read_parquet(file) for file in files]


def mean_user_metrics(runs: list[pd.DataFrame], k: int = MAX_K) -> pd.DataFrame:
    """The metrics of each user, the means over the runs of a model."""
    tables = [user_metrics(run, k) for run in runs]
    return sum(tables[1:], tables[0]) / len(tables)
