from __future__ import annotations

import dense_reference as dense
import torch
from baselines import FREEDOM
from torch_geometric.data import HeteroData


def test_equals_dense_matrices(data: HeteroData) -> None:
    model = FREEDOM(
        data,
        8,
        num_item_layers=2,
        num_neighbors=4,
        image_weight=0.3,
        content_weight=0.5,
        regularization=0.1,
    ).double()
    user_embedding = model.user_embedding.weight
    item_embedding = model.item_embedding.weight
    graph = 0.0
    features = {name: data["item"][f"x_{name}"].double() for name in ("image", "text")}
    for (_, x), weight in zip(features.items(), (0.3, 0.7), strict=True):
        graph = graph + weight * dense.normalize(dense.nearest(x, 4).double())
    users, items = dense.light_gcn(
        user_embedding, item_embedding, dense.interactions(data), 2
    )
    items = items + graph @ graph @ item_embedding
    torch.testing.assert_close(model(), (users, items), atol=1e-10, rtol=0)

    user, positive, negative = dense.triplets(data)
    pairs = torch.cat([positive, negative])
    expected = dense.bpr(users[user], items[positive], items[negative])
    rows = [(user_embedding, user), (item_embedding, pairs)]
    expected = expected + 0.1 * dense.squares(rows, 13)
    for name, x in features.items():
        z = x @ model.projections[name].weight.t()
        # Of an item without text there is no such loss.
        known = x.abs().sum(1) > 0
        kept = known[positive] & known[negative]
        u, p, n = user[kept], positive[kept], negative[kept]
        expected = expected + 0.5 * dense.bpr(users[u], z[p], z[n])
    assert not kept.all()
    found = model.loss(user, positive, negative)
    dense.assert_same_loss(model, found["loss"], expected)


def test_text_alone_has_the_whole_weight(data: HeteroData) -> None:
    text = data.clone()
    del text["item"].x_image
    model = FREEDOM(text, 8, num_neighbors=4).double()
    graph = dense.normalize(dense.nearest(data["item"].x_text.double(), 4).double())
    eye = torch.eye(15).double()
    found = model.graphs()["items"].matmul(eye)
    torch.testing.assert_close(found, graph, atol=1e-10, rtol=0)


def test_interactions_are_pruned_in_training_alone(data: HeteroData) -> None:
    model = FREEDOM(data, 8, edge_dropout=0.8)
    whole = model()[0].detach()
    model.start_epoch(torch.Generator().manual_seed(0))
    number = data["user", "interacts", "item"].edge_index.size(1)
    assert model._graphs["kept"].col.numel() == round(0.2 * number)
    assert not torch.equal(model()[0], whole)
    assert torch.equal(model.eval()()[0], whole)
