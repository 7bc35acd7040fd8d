from __future__ import annotations

import dense_reference as dense
import torch
from baselines import LATTICE
from torch import Tensor
from torch_geometric.data import HeteroData


def reference(model: LATTICE, data: HeteroData, k: int) -> tuple[Tensor, Tensor]:
    graph = 0.0
    share = model.modality_logits.softmax(0)
    for alpha, name in zip(share, ("image", "text"), strict=True):
        x = data["item"][f"x_{name}"].double()
        linear = model.projections[name]
        z = x @ linear.weight.t() + linear.bias
        known = x.abs().sum(1, keepdim=True) > 0
        original = dense.nearest(x, k) * dense.cosines(x).clamp(min=0)
        original[range(15), range(15)] = 1
        near = dense.nearest(z * known, k)
        learned = near * dense.cosines(z).clamp(min=0)
        graph = graph + alpha * (
            0.7 * dense.normalize(original) + 0.3 * dense.normalize(learned)
        )
    users, items = dense.light_gcn(
        model.user_embedding.weight,
        model.item_embedding.weight,
        dense.interactions(data),
        2,
    )
    h = graph @ graph @ model.item_embedding.weight
    return users, items + h / h.norm(dim=1, keepdim=True)


def make(data: HeteroData) -> LATTICE:
    torch.manual_seed(0)
    model = LATTICE(
        data,
        8,
        num_item_layers=2,
        num_neighbors=4,
        skip_weight=0.7,
        regularization=0.1,
    ).double()
    torch.nn.init.normal_(model.modality_logits)
    return model


def test_equals_dense_matrices(data: HeteroData) -> None:
    model = make(data)
    model.start_epoch(torch.Generator())
    users, items = reference(model, data, 4)
    torch.testing.assert_close(model(), (users, items), atol=1e-10, rtol=0)

    user, positive, negative = dense.triplets(data)
    pairs = torch.cat([positive, negative])
    expected = dense.bpr(users[user], items[positive], items[negative])
    rows = [(model.user_embedding.weight, user), (model.item_embedding.weight, pairs)]
    expected = expected + 0.1 * dense.squares(rows, 13)
    found = model.loss(user, positive, negative)
    dense.assert_same_loss(model, found["loss"], expected)


def test_neighbors_are_found_once_an_epoch_and_in_evaluation(data: HeteroData) -> None:
    model = make(data)
    model.start_epoch(torch.Generator())
    before = model._learned["text"][0]
    torch.nn.init.normal_(model.projections["text"].weight)
    model()
    assert torch.equal(model._learned["text"][0], before)
    evaluated = model.eval()()
    expected = reference(model, data, 4)
    torch.testing.assert_close(evaluated, expected, atol=1e-10, rtol=0)
    model.train().start_epoch(torch.Generator())
    assert not torch.equal(model._learned["text"][0], before)
    torch.testing.assert_close(model(), expected, atol=1e-10, rtol=0)
