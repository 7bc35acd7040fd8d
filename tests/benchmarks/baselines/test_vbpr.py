from __future__ import annotations

import dense_reference as dense
import pytest
import torch
from baselines import VBPR
from torch_geometric.data import HeteroData


def test_equals_the_paper_s_sum(data: HeteroData) -> None:
    model = VBPR(data, 4, regularization=0.1).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.cat([data["item"].x_image, data["item"].x_text], dim=1).double()
    gamma_user, theta = model.user_embedding.weight.split(4, dim=1)
    gamma_item, beta = model.item_embedding.weight, model.item_bias
    score = beta + gamma_user @ gamma_item.t()
    content = x @ model.projection.weight.t()
    score = score + theta @ content.t()
    score = score + (x @ model.content_bias.weight.t()).t()
    everyone = torch.arange(20)
    torch.testing.assert_close(model.score(everyone, model()), score)

    user, positive, negative = dense.triplets(data)
    difference = score[user, positive] - score[user, negative]
    expected = -difference.sigmoid().log().mean()
    pairs = torch.cat([positive, negative])
    rows = [(gamma_user, user), (theta, user), (gamma_item, pairs), (beta, pairs)]
    rows += [(content, pairs)]
    expected = expected + 0.1 * dense.squares(rows, 13)
    found = model.loss(user, positive, negative)
    dense.assert_same_loss(model, found["loss"], expected)


def test_needs_features(data: HeteroData) -> None:
    bare = data.clone()
    del bare["item"].x_text, bare["item"].x_image
    with pytest.raises(ValueError, match="no features"):
        VBPR(bare)
