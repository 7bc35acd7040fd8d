"""A small catalogue with names, and recommenders over it."""

from __future__ import annotations

import torch
from torch_geometric.data import HeteroData

from mars_pyg import (
    BPR,
    MARS,
    AddItemCooccurrence,
    AddItemKNN,
    HeadedRecommender,
    LightGCN,
    Recommender,
    SyntheticFactorDataset,
)
from mars_pyg.heads.build import build_heads


def make_catalogue() -> HeteroData:
    """A generated catalogue with all graphs, and items without a title."""
    data = SyntheticFactorDataset(30, 25, num_factors=3, seed=1)[0]
    data["item"].title[4] = data["item"].title[7] = ""
    return AddItemCooccurrence(k=3)(AddItemKNN(k=4)(data))


def make_recommender(
    data: HeteroData, model: str, heads: list[str], **options: object
) -> Recommender:
    """A recommender in double precision, its weights drawn at random."""
    torch.manual_seed(0)
    base: Recommender | None = None
    if model == "mars":
        base = MARS(data, embedding_dim=8, **options)  # type: ignore[arg-type]
    elif model != "none":
        base = {"bpr": BPR, "lightgcn": LightGCN}[model](data, embedding_dim=8)
    recommender = base
    if heads or base is None:
        recommender = HeadedRecommender(base, data, build_heads(data, heads))
    assert recommender is not None
    recommender = recommender.double().requires_grad_(False)
    for parameter in recommender.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
    return recommender
