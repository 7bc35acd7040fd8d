from __future__ import annotations

import dense_reference as dense
import torch
from baselines import BM3
from torch import Tensor
from torch_geometric.data import HeteroData


def test_equals_dense_matrices(data: HeteroData) -> None:
    model = BM3(data, 8, num_layers=2, dropout=0.0).double()
    users, items = dense.light_gcn(
        model.user_embedding.weight,
        model.item_embedding.weight,
        dense.interactions(data),
        2,
    )
    items = items + model.item_embedding.weight

    def predict(h: Tensor) -> Tensor:
        return h @ model.predictor.weight.t() + model.predictor.bias

    expected = predict(users), predict(items)
    torch.testing.assert_close(model(), expected, atol=1e-10, rtol=0)

    def distance(h: Tensor, target: Tensor) -> Tensor:
        target = target.detach()
        online = predict(h)
        cosine = (online * target).sum(1) / (online.norm(dim=1) * target.norm(dim=1))
        return (1 - cosine).mean()

    user, positive, negative = dense.triplets(data)
    row, column = users[user], items[positive]
    loss = distance(row, column) + distance(column, row)
    for name in ("image", "text"):
        linear = model.projections[name]
        x = data["item"][f"x_{name}"].double()
        # Of an item without text there is no such loss.
        known = x[positive].abs().sum(1) > 0
        z = (x @ linear.weight.t() + linear.bias)[positive[known]]
        loss = loss + 2 * (distance(z, column[known]) + distance(z, z))
    assert not known.all()
    norms = users.square().sum().sqrt() + items.square().sum().sqrt()
    loss = loss + 0.1 * norms / 15
    found = model.loss(user, positive, negative)
    dense.assert_same_loss(model, found["loss"], loss)
    # There are no negatives.
    other = model.loss(user, positive, negative.flip(0))
    assert torch.equal(found["loss"], other["loss"])


def test_targets_alone_are_dropped_out(data: HeteroData) -> None:
    model = BM3(data, 8, dropout=0.5)
    assert torch.equal(model()[1], model()[1])
    batch = dense.triplets(data)
    assert not torch.equal(model.loss(*batch)["loss"], model.loss(*batch)["loss"])
    target = model._target(torch.ones(1000, 8, requires_grad=True))
    assert not target.requires_grad
    assert set(target.unique().tolist()) == {0.0, 2.0}
    assert abs(float(target.mean()) - 1) < 0.05
