"""The graph of some of the items."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mars_pyg.edge_forms import edges_of
from mars_pyg.user_items import EDGE_NAMES, INTERACTS, split_edges, splits_of


def take_items(data: HeteroData, item: Tensor) -> HeteroData:
    """Take some of the items, with their values and interactions.

    All users and values stay. Graphs between items, and what else interactions have
    than their items, are left out.

    Args:
        data: The graph.
        item: The items, in the order in which they are numbered anew ``[M]``, int64,
            distinct.
    """
    num_items, item = data["item"].num_nodes, item.cpu()
    place = torch.full((num_items,), -1)
    place[item] = torch.arange(item.numel())
    result = HeteroData()
    result["user"].update(data["user"].to_dict())
    for name, value in data["item"].items():
        if isinstance(value, list) and len(value) == num_items:
            result["item"][name] = [value[i] for i in item.tolist()]
        else:
            result["item"][name] = value[item] if isinstance(value, Tensor) else value
    result["item"].num_nodes = item.numel()
    if "value" in data.node_types:
        result["value"].update(data["value"].to_dict())
    for edge_type in data.edge_types:
        if (edge_type[0], edge_type[2]) == ("item", "value"):
            owner, value = edges_of(data[edge_type])
            owner = place.to(owner.device)[owner]
            kept = owner >= 0
            result[edge_type].edge_index = torch.stack([owner[kept], value[kept]])
    for split in splits_of(data):
        user, chosen = split_edges(data, split)
        chosen = place.to(chosen.device)[chosen]
        kept = chosen >= 0
        edges = torch.stack([user[kept], chosen[kept]])
        result[INTERACTS][EDGE_NAMES[split]] = edges
    return result
