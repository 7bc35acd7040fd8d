"""The graph of some of the items."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mars_pyg.user_items import EDGE_NAMES, INTERACTS, splits_of


def take_items(data: HeteroData, item: Tensor) -> HeteroData:
    """Take some of the items, with their values and interactions.

    All users and values stay. Graphs between items, and what else interactions have
    than their items, are left out.

    Args:
        data: The graph.
        item: The items, in the order in which they are numbered anew ``[M]``, int64,
            distinct.
    """
    num_items = data["item"].num_nodes
    place = torch.full((num_items,), -1)
    place[item] = torch.arange(item.numel())
    result = HeteroData()
    result["user"].update(data["user"].to_dict())
    for name, value in data["item"].items():
        if isinstance(value, list):
            result["item"][name] = [value[i] for i in item.tolist()]
        else:
            result["item"][name] = value[item] if isinstance(value, Tensor) else value
    result["item"].num_nodes = item.numel()
    if "value" in data.node_types:
        result["value"].update(data["value"].to_dict())
    for edge_type in data.edge_types:
        if (edge_type[0], edge_type[2]) == ("item", "value"):
            owner, value = data[edge_type].edge_index
            kept = place[owner] >= 0
            edges = torch.stack([place[owner[kept]], value[kept]])
            result[edge_type].edge_index = edges
    for split in splits_of(data):
        name = EDGE_NAMES[split]
        user, chosen = data[INTERACTS][name]
        kept = place[chosen] >= 0
        edges = torch.stack([user[kept], place[chosen[kept]]])
        result[INTERACTS][name] = edges
    return result
