from __future__ import annotations

import pytest
from served_data import make_graph, make_recommender
from torch_geometric.data import HeteroData

from mars_pyg import HeadedRecommender


@pytest.fixture(scope="package")
def data() -> HeteroData:
    return make_graph()


@pytest.fixture(scope="package")
def recommender(data: HeteroData) -> HeadedRecommender:
    return make_recommender(data)
