"""Recommendations by catalogue ids, with the factor values behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mars_pyg.errors import DataError
from mars_pyg.item_values import item_value_edges
from mars_pyg.names import names_in, names_of
from mars_pyg.nn.recommender import Recommender, check_graph
from mars_pyg.training.evaluation import rank
from mars_pyg.user_items import UserItems, splits_of


@dataclass(frozen=True)
class SharedValue:
    """A factor value that a recommended item shares with a user's history.

    Args:
        factor: Name of the factor.
        value: Name of the value.
        count: Number of items in the user's history that have the value.
    """

    factor: str
    value: str
    count: int


@dataclass(frozen=True)
class Recommendation:
    """An item that is recommended to a user.

    Args:
        item: The item's id in the catalogue.
        title: The item's title; empty where it has none.
        score: The recommender's score of the item for the user.
        shared: The factor values that the item shares with the user's history, those
            of most items first.
    """

    item: str
    title: str
    score: float
    shared: tuple[SharedValue, ...]


def recommend(
    recommender: Recommender,
    data: HeteroData,
    users: Sequence[str],
    k: int = 10,
    *,
    splits: Sequence[str] | None = None,
    chunk_size: int = 1024,
) -> dict[str, list[Recommendation]]:
    r"""Recommends items to users, and lists what they share with the users' histories.

    A user's history are the interactions of :obj:`splits`; its items are left out. The
    shared values say what the items have in common, not how the score came about, which
    :func:`~mars_pyg.explain` says.

    Args:
        recommender: The model; its mode (training or not) is left as it was.
        data: The graph that the model was made for.
        users: Ids of users in the catalogue.
        k: Number of items per user; all items where there are fewer.
            (default: :obj:`10`)
        splits: The splits that make up a history. (default: :obj:`None`, those that
            there are)
        chunk_size: Number of users that are scored at once. (default: :obj:`1024`)

    Returns:
        The recommendations of each user, best first.

    Raises:
        DataError: If a user is not in the catalogue, or the graph has other numbers of
            users or items than the model, or no names of what it holds.
    """
    check_graph(recommender, data)
    users = names_of("users", users)
    index = {name: position for position, name in enumerate(names_in(data, "user"))}
    for name in users:
        if name not in index:
            raise DataError(
                f"there is no user {name!r}",
                mend=f"give the id of a user of the data, as {next(iter(index))!r}",
                field="user",
            )
    wanted = list(dict.fromkeys(users))
    splits = splits_of(data) if splits is None else splits
    history = UserItems.from_data(data, *splits).to(torch.device("cpu"))
    item_values = _values_of_items(data)
    item_id = names_in(data, "item")
    result: dict[str, list[Recommendation]] = {}
    user = torch.tensor([index[name] for name in wanted], dtype=torch.int64)
    for chunk, score, item in rank(recommender, user, k, history, chunk_size):
        chunk, score, item = chunk.cpu(), score.cpu(), item.cpu()
        shared = _shared_values(data, item_values, history, chunk, item)
        for row in range(chunk.numel()):
            result[data["user"].id[int(chunk[row])]] = [
                Recommendation(
                    item=item_id[i],
                    title=data["item"].title[i] if "title" in data["item"] else "",
                    score=s,
                    shared=tuple(shared.get((row, i), ())),
                )
                for s, i in zip(score[row].tolist(), item[row].tolist(), strict=True)
                if i < history.num_items
            ]
    return result


def _values_of_items(data: HeteroData) -> UserItems | None:
    """The values of each item over all modalities, in compressed rows."""
    if not any((kind[0], kind[2]) == ("item", "value") for kind in data.edge_types):
        return None
    return UserItems.from_edge_index(
        item_value_edges(data).cpu(), data["item"].num_nodes, data["value"].num_nodes
    )


def _shared_values(
    data: HeteroData,
    item_values: UserItems | None,
    history: UserItems,
    user: Tensor,
    item: Tensor,
) -> dict[tuple[int, int], list[SharedValue]]:
    """What the items ``[C, k]`` of some users ``[C]`` share with their histories."""
    if item_values is None:
        return {}
    num_values = data["value"].num_nodes
    row, seen = history.select(user)
    position, value = item_values.select(seen)
    known, count = (row[position] * num_values + value).unique(return_counts=True)

    valid = (item < history.num_items).nonzero()
    candidate = item[valid[:, 0], valid[:, 1]]
    position, value = item_values.select(candidate)
    row, candidate = valid[position, 0], candidate[position]
    key = row * num_values + value
    if not known.numel():
        return {}
    place = torch.searchsorted(known, key).clamp(max=known.numel() - 1)
    hit = known[place] == key
    result: dict[tuple[int, int], list[SharedValue]] = {}
    store = data["value"]
    value_name = names_in(data, "value", "name")
    factor_name = names_in(data, "value", "factor_name")
    factor = store.factor.tolist()
    for r, i, v, c in zip(
        row[hit].tolist(),
        candidate[hit].tolist(),
        value[hit].tolist(),
        count[place[hit]].tolist(),
        strict=True,
    ):
        shared = SharedValue(factor_name[factor[v]], value_name[v], c)
        result.setdefault((r, i), []).append(shared)
    for values in result.values():
        values.sort(key=lambda shared: -shared.count)
    return result
