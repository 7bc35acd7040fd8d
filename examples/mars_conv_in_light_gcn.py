"""MARSConv in PyG's own LightGCN: items that share factor values inform each other.

The model is ten lines on top of ``torch_geometric.nn.LightGCN``; everything else is
PyG's documented loop. Run ``python examples/mars_conv_in_light_gcn.py``.
"""

import argparse

import torch
from torch_geometric.nn import LightGCN
from torch_geometric.utils import to_undirected

from mars_pyg import MARSConv, SyntheticFactorDataset
from mars_pyg.training.evaluation import rank_metrics
from mars_pyg.training.negative_sampling import NegativeSampler


class FactorLightGCN(LightGCN):
    """LightGCN whose items also listen to the items that share a factor value."""

    def __init__(self, num_users, num_items, channels, num_layers, num_factors):
        super().__init__(num_users + num_items, channels, num_layers)
        self.num_users = num_users
        self.conv = MARSConv(channels, channels, num_factors, project=False)

    def get_embedding(self, edge_index, edge_weight=None):
        out = super().get_embedding(edge_index, edge_weight)
        items = self.embedding.weight[self.num_users :]
        content = self.conv(items, self.value_edge_index, self.factor)
        return torch.cat([out[: self.num_users], out[self.num_users :] + content])
