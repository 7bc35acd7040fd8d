"""The baselines are scripts' modules, and no part of the package."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from torch_geometric.data import HeteroData

from mars_pyg import SyntheticFactorDataset

# Last, so that no script hides a module of the same name.
sys.path.append(str(Path(__file__).parents[3] / "benchmarks"))


@pytest.fixture(scope="module")
def data() -> HeteroData:
    """Items with features of text and image, some without text; one is unknown."""
    data = SyntheticFactorDataset(20, 15, seed=1)[0]
    edges = data["user", "interacts", "item"].edge_index
    data["user", "interacts", "item"].edge_index = edges[:, edges[1] != 5]
    data["item"].x_text[:2] = 0
    return data
