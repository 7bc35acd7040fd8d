from __future__ import annotations

import math

import dense_reference as dense
import pytest
import torch
from baselines import SMORE
from baselines.smore import FUSED
from torch import Tensor
from torch_geometric.data import HeteroData

SIZE = 8


def spectrum(z: Tensor) -> Tensor:
    """The first half of the unitary discrete Fourier transform of each row."""
    index = torch.arange(SIZE).double()
    angle = -2 * math.pi * index[:, None] * index / SIZE
    matrix = torch.complex(angle.cos(), angle.sin()) / SIZE**0.5
    return (z.to(torch.complex128) @ matrix)[:, : SIZE // 2 + 1]


def signal(half: Tensor) -> Tensor:
    """The real rows whose first half of the spectrum this is."""
    whole = torch.cat([half, half[:, 1 : SIZE // 2].flip(1).conj()], dim=1)
    index = torch.arange(SIZE).double()
    angle = 2 * math.pi * index[:, None] * index / SIZE
    matrix = torch.complex(angle.cos(), angle.sin()) / SIZE**0.5
    return (whole @ matrix).real


def linear(layer: torch.nn.Linear, x: Tensor) -> Tensor:
    out = x @ layer.weight.t()
    return out if layer.bias is None else out + layer.bias


def reference(model: SMORE, data: HeteroData) -> tuple[list[Tensor], list[Tensor]]:
    """What comes of interactions, and what content adds, of users and of items."""
    ratings = dense.interactions(data)
    item_embedding = model.item_embedding.weight
    behavior = dense.light_gcn(model.user_embedding.weight, item_embedding, ratings, 2)
    e = torch.cat(behavior)
    spectra, graphs = {}, {}
    for name in ("image", "text"):
        x = data["item"][f"x_{name}"].double()
        spectra[name] = spectrum(linear(model.projections[name], x))
        near = dense.nearest(x, 4) * dense.cosines(x).clamp(min=0)
        near[range(15), range(15)] = 1
        graphs[name] = dense.normalize(near)
    spectra[FUSED] = spectra["image"] * spectra["text"]
    graphs[FUSED] = torch.maximum(graphs["image"], graphs["text"])
    both = {}
    for name, half in spectra.items():
        real, imaginary = model.filters[name].unbind(1)
        z = signal(half * torch.complex(real, imaginary))
        h = graphs[name] @ (item_embedding * linear(model.gates[name], z).sigmoid())
        both[name] = torch.cat([ratings @ h, h])
    side = linear(model.preferences[FUSED], e).sigmoid() * both[FUSED]
    for name in ("image", "text"):
        first, _, second = model.attentions[name]
        attention = linear(second, linear(first, both[FUSED]).tanh()).exp()
        attention = attention / attention.sum(1, keepdim=True)
        prefer = linear(model.preferences[name], e).sigmoid()
        side = side + prefer * attention * both[name]
    return list(behavior), list((side / 3).split([20, 15]))


def info_nce(first: Tensor, second: Tensor) -> Tensor:
    first = first / first.norm(dim=1, keepdim=True)
    second = second / second.norm(dim=1, keepdim=True)
    likeness = (first @ second.t() / 0.2).exp()
    return -(likeness.diagonal() / likeness.sum(1)).log().mean()


@pytest.fixture
def model(data: HeteroData) -> SMORE:
    torch.manual_seed(0)
    return SMORE(
        data,
        SIZE,
        num_layers=2,
        num_neighbors=4,
        dropout=0.0,
        contrastive_weight=0.5,
        regularization=0.1,
    ).double()


def test_equals_dense_matrices(model: SMORE, data: HeteroData) -> None:
    behavior, side = reference(model, data)
    users, items = behavior[0] + side[0], behavior[1] + side[1]
    torch.testing.assert_close(model(), (users, items), atol=1e-10, rtol=0)

    user, positive, negative = dense.triplets(data)
    pairs = torch.cat([positive, negative])
    expected = dense.bpr(users[user], items[positive], items[negative])
    rows = [(model.user_embedding.weight, user), (model.item_embedding.weight, pairs)]
    expected = expected + 0.1 * dense.squares(rows, 13)
    expected = expected + 0.5 * info_nce(side[1][positive], behavior[1][positive])
    expected = expected + 0.5 * info_nce(side[0][user], behavior[0][user])
    found = model.loss(user, positive, negative)
    dense.assert_same_loss(model, found["loss"], expected)


def test_batches_are_contrasted_in_groups(model: SMORE, data: HeteroData) -> None:
    behavior, side = reference(model, data)
    model.contrastive_batch_size = 5
    _, positive, _ = dense.triplets(data)
    expected = sum(
        info_nce(side[1][group], behavior[1][group]) * len(group) / 13
        for group in (positive[:5], positive[5:10], positive[10:])
    )
    found = model._contrast(side[1], behavior[1], positive)
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)


def test_a_temperature_whose_exponentials_overflow_is_refused(data: HeteroData) -> None:
    with pytest.raises(ValueError, match=r"'temperature' must be at least 0.02"):
        SMORE(data, temperature=0.001)


def test_a_wave_is_filtered_by_its_own_weight(model: SMORE, data: HeteroData) -> None:
    # The rows are waves of frequency one, and the filter halves and turns it.
    place = torch.arange(SIZE).double()
    wave = (2 * math.pi * place / SIZE).cos()
    projection = model.projections["text"]
    with torch.no_grad():
        projection.weight.zero_()
        projection.bias.copy_(wave)
        model.filters["text"].zero_()
        model.filters["text"][1] = torch.tensor([0.0, -0.5])
    expected = 0.5 * (2 * math.pi * place / SIZE).sin()
    found = model.fuse()["text"]
    torch.testing.assert_close(found, expected.expand_as(found))
