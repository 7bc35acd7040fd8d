from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mars_pyg.nn.recommender import Recommender


class MatrixFactorization(Recommender):
    """A small recommender whose epochs differ, as dropped edges make them."""

    def __init__(self, num_users: int, num_items: int, dim: int = 4) -> None:
        super().__init__(num_users, num_items)
        generator = torch.Generator().manual_seed(0)
        self.user = torch.nn.Parameter(
            torch.randn(num_users, dim, generator=generator) / 10
        )
        self.item = torch.nn.Parameter(
            torch.randn(num_items, dim, generator=generator) / 10
        )
        self.scale = torch.ones(dim)

    def forward(self) -> tuple[Tensor, Tensor]:
        return self.user, self.item

    def start_epoch(self, generator: torch.Generator) -> None:
        self.scale = torch.rand(self.user.size(1), generator=generator) + 0.5

    def loss(
        self, user: Tensor, positive: Tensor, negative: Tensor
    ) -> dict[str, Tensor]:
        difference = self.item[positive] - self.item[negative]
        score = (self.user[user] * self.scale * difference).sum(dim=1)
        bpr = -torch.nn.functional.logsigmoid(score).mean()
        norm = self.user[user].square().mean()
        return {"loss": bpr + 1e-3 * norm, "bpr": bpr, "norm": norm}


def make_data(num_users: int, num_items: int, seed: int = 0) -> HeteroData:
    """Random interactions, each pair in one split only."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(num_users * num_items, generator=generator)
    sizes = [len(order) // 4, len(order) // 10, len(order) // 10]
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = num_users, num_items
    names = ("edge_index", "val_edge_index", "test_edge_index")
    parts = order[: sum(sizes)].split(sizes)
    for name, part in zip(names, parts, strict=True):
        data["user", "interacts", "item"][name] = torch.stack(
            [part // num_items, part % num_items]
        )
    return data


@pytest.fixture
def data() -> HeteroData:
    return make_data(30, 20)


@pytest.fixture
def model(data: HeteroData) -> MatrixFactorization:
    return MatrixFactorization(data["user"].num_nodes, data["item"].num_nodes)
