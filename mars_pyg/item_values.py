"""The factor values of items, and of the items of users."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.utils import coalesce

from mars_pyg.edge_forms import check_range, edges_of
from mars_pyg.user_items import UserItems


def item_value_edges(data: HeteroData) -> Tensor:
    """The distinct edges from items to values of all modalities ``[2, E]``.

    Raises:
        DataError: If one is of an item or a value that is not there.
        ValueError: If there are none.
    """
    relations = [
        check_range(edges_of(data[edge_type]), data, edge_type)
        for edge_type in data.edge_types
        if edge_type[0] == "item" and edge_type[2] == "value"
    ]
    if not relations:
        raise ValueError(
            "'data' has no edges from items to factor values; apply the transform "
            "AddFactorValues"
        )
    return coalesce(torch.cat(relations, dim=1))


def count_values(
    history: UserItems, item_values: UserItems
) -> tuple[Tensor, Tensor, Tensor]:
    """Count the values of the items of users; see
    :meth:`FactorAffinity.value_counts <mars_pyg.heads.FactorAffinity.value_counts>`.

    Args:
        history: The items of each user.
        item_values: The values of each item.
    """
    place, value = item_values.select(history.item)
    num_values = max(item_values.num_items, 1)
    key = history.rows()[place] * num_values + value
    key, count = key.unique(return_counts=True)
    row = key.div(num_values, rounding_mode="floor")
    return row, key - row * num_values, count
