"""Edges from users to the factor values of their items."""

from __future__ import annotations

import torch
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from mars_pyg.item_values import count_values, item_value_edges
from mars_pyg.user_items import UserItems


@functional_transform("add_user_values")
class AddUserValues(BaseTransform):
    r"""Links each user to the values of their items, the metapath user–item–value
    (functional name: :obj:`add_user_values`).

    Writes ``('user', 'chose', 'value')`` with ``edge_index [2, E]``, sorted by user,
    then value, and ``edge_weight [E]``, float32: how many of the user's train items
    have the value, under any modality. Validation and test interactions are not read.
    """

    def forward(self, data: HeteroData) -> HeteroData:
        """Add the edges to a graph."""
        edges = item_value_edges(data)
        item_values = UserItems.from_edge_index(
            edges, data["item"].num_nodes, data["value"].num_nodes
        )
        train = UserItems.from_data(data, "train")
        user, value, count = count_values(train, item_values)
        store = data["user", "chose", "value"]
        store.edge_index = torch.stack([user, value])
        store.edge_weight = count.float()
        return data
