"""A recommender with heads, untrained but with weights that matter."""

from __future__ import annotations

import torch
from torch_geometric.data import HeteroData

from mars_pyg import BPR, HeadedRecommender, SyntheticFactorDataset
from mars_pyg.heads.build import HEADS, build_heads


def make_graph(num_users: int = 150, num_items: int = 80) -> HeteroData:
    return SyntheticFactorDataset(num_users=num_users, num_items=num_items, seed=1)[0]


def make_recommender(
    data: HeteroData, with_base: bool = True, heads: tuple[str, ...] = HEADS
) -> HeadedRecommender:
    torch.manual_seed(0)
    base = None
    if with_base:
        base = BPR(data, embedding_dim=8)
        for embedding in (base.user_embedding, base.item_embedding):
            torch.nn.init.normal_(embedding.weight)
    recommender = HeadedRecommender(base, data, build_heads(data, heads=heads))
    for head in recommender.head_list():
        head.weight.data.uniform_(-0.5, 1.0)
    return recommender.requires_grad_(False)
