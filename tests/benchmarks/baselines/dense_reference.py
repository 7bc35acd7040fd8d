"""What the baselines share, by dense matrices in float64."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch_geometric.data import HeteroData


def interactions(data: HeteroData) -> Tensor:
    """The normalised train interactions [U, N]."""
    user, item = data["user", "interacts", "item"].edge_index
    ratings = torch.zeros(data["user"].num_nodes, data["item"].num_nodes).double()
    ratings[user, item] = 1
    left, right = ratings.sum(1).clamp(min=1), ratings.sum(0).clamp(min=1)
    return ratings / (left[:, None] * right).sqrt()


def light_gcn(
    user: Tensor, item: Tensor, ratings: Tensor, num_layers: int
) -> tuple[Tensor, Tensor]:
    users, items = [user], [item]
    for _ in range(num_layers):
        users, items = (
            [*users, ratings @ items[-1]],
            [*items, ratings.t() @ users[-1]],
        )
    return torch.stack(users).mean(0), torch.stack(items).mean(0)


def cosines(x: Tensor) -> Tensor:
    unit = x / x.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return unit @ unit.t()


def nearest(x: Tensor, k: int) -> Tensor:
    """Whether an item's k nearest, itself included, hold another [N, N]."""
    similarity = cosines(x.detach())
    chosen = torch.eye(x.size(0), dtype=torch.bool)
    known = x.detach().abs().sum(1) > 0
    for i in known.nonzero().view(-1).tolist():
        others = similarity[i].masked_fill(~known, -2)
        others[i] = 2
        best = others.argsort(descending=True)[:k]
        chosen[i, best[others[best] > -2]] = True
    return chosen


def normalize(adjacency: Tensor) -> Tensor:
    degree = adjacency.sum(1)
    return adjacency / (degree[:, None] * degree).sqrt()


def bpr(user: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    difference = (user * positive).sum(1) - (user * negative).sum(1)
    return -difference.sigmoid().log().mean()


def squares(tables: Iterable[tuple[Tensor, Tensor]], size: int) -> Tensor:
    """The squares of rows, each as often as it is named, for each triplet."""
    return sum(table[row].square().sum() for table, row in tables) / size  # type: ignore[return-value]


def triplets(data: HeteroData, size: int = 13) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    num_items = data["item"].num_nodes
    return (
        torch.randint(0, data["user"].num_nodes, (size,), generator=generator),
        torch.randint(0, num_items, (size,), generator=generator),
        torch.randint(0, num_items, (size,), generator=generator),
    )


def assert_same_loss(model: torch.nn.Module, found: Tensor, expected: Tensor) -> None:
    """Compare a loss, and its gradients by all parameters of the model."""
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-10)
    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad(found, list(parameters.values()))
    wanted = torch.autograd.grad(expected, list(parameters.values()))
    for name, one, other in zip(parameters, gradients, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-8, msg=name)
