"""Data with all graphs, and models of MARS away from their start."""

from __future__ import annotations

from typing import Any

import torch
from torch_geometric.data import HeteroData

from mars_pyg import MARS, AddItemCooccurrence, AddItemKNN, SyntheticFactorDataset

NUM_ITEMS = 20


def make_graph() -> HeteroData:
    """A small generated catalogue with structure and co-occurrence graphs."""
    data = SyntheticFactorDataset(30, NUM_ITEMS, num_factors=3, seed=4)[0]
    return AddItemCooccurrence(k=3)(AddItemKNN(k=4)(data))


def make(data: HeteroData, **options: Any) -> MARS:
    """A model in double precision whose weights are all away from their start."""
    torch.manual_seed(0)
    model = MARS(data, embedding_dim=8, **options).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model
