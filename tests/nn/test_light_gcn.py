from __future__ import annotations

import pytest
import torch
from torch_geometric.data import HeteroData
from torch_geometric.nn import LightGCN as PyGLightGCN
from torch_geometric.utils import to_undirected

from mars_pyg import BPR, MARS, LightGCN, SyntheticFactorDataset
from mars_pyg.nn.light_gcn import _weighted_square
from mars_pyg.nn.light_gcn_propagation import propagate_layers

INTERACTS = ("user", "interacts", "item")


@pytest.fixture(scope="module")
def data() -> HeteroData:
    data = SyntheticFactorDataset(40, 30, seed=1)[0]
    # A user and an item that nobody knows.
    edges = data[INTERACTS].edge_index
    data[INTERACTS].edge_index = edges[:, (edges[0] != 3) & (edges[1] != 5)]
    return data


@pytest.mark.parametrize("num_layers", [0, 1, 2, 3])
def test_equals_pyg(data: HeteroData, num_layers: int) -> None:
    model = LightGCN(data, 8, num_layers).double()
    edges = data[INTERACTS].edge_index + torch.tensor([[0], [40]])
    # Its default is the same, in single precision.
    alpha = torch.full((num_layers + 1,), 1 / (num_layers + 1), dtype=torch.float64)
    other = PyGLightGCN(70, 8, num_layers, alpha).double()
    weight = torch.cat([model.user_embedding.weight, model.item_embedding.weight])
    other.embedding.weight = torch.nn.Parameter(weight.detach().clone())
    expected = other.get_embedding(to_undirected(edges))
    out = torch.cat(model())
    torch.testing.assert_close(out, expected, atol=1e-10, rtol=0)
    probe = torch.randn(70, 8, dtype=torch.float64)
    gradients = torch.autograd.grad(
        (out * probe).sum(), [model.user_embedding.weight, model.item_embedding.weight]
    )
    (wanted,) = torch.autograd.grad((expected * probe).sum(), [other.embedding.weight])
    torch.testing.assert_close(torch.cat(gradients), wanted, atol=1e-10, rtol=0)


def test_gradcheck_of_the_propagation(data: HeteroData) -> None:
    matrix = LightGCN(data, 2)._graphs["interactions"]
    embeddings = [
        torch.randn(size, 2, dtype=torch.float64, requires_grad=True)
        for size in (40, 30)
    ]

    def run(user: torch.Tensor, item: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return propagate_layers(user, item, matrix, 3)

    assert torch.autograd.gradcheck(run, embeddings)
    assert torch.autograd.gradgradcheck(run, embeddings)


def test_bpr_is_light_gcn_without_layers(data: HeteroData) -> None:
    model = BPR(data, 8)
    user, item = model()
    assert torch.equal(user, model.user_embedding.weight)
    assert torch.equal(item, model.item_embedding.weight)


@pytest.mark.parametrize("regularization", [0.0, 0.1])
def test_loss_equals_a_loop(data: HeteroData, regularization: float) -> None:
    model = LightGCN(data, 8, 2, regularization).double()
    user, positive, negative = torch.randint(0, 30, (3, 11))
    users, items = model()
    expected = 0.0
    for u, p, n in zip(user, positive, negative, strict=True):
        difference = users[u] @ items[p] - users[u] @ items[n]
        expected -= torch.log(torch.sigmoid(difference))
        rows = (
            model.user_embedding.weight[u],
            model.item_embedding.weight[p],
            model.item_embedding.weight[n],
        )
        expected += regularization * sum(row.square().sum() for row in rows)
    found = model.loss(user, positive, negative)
    assert set(found) == {"loss"}
    torch.testing.assert_close(found["loss"], expected / 11, atol=1e-10, rtol=0)


@pytest.mark.parametrize("model", [BPR, LightGCN, MARS])
def test_the_loss_of_no_triplets_is_zero(
    data: HeteroData, model: type[LightGCN]
) -> None:
    options = {} if model is not MARS else {"modalities": ["id"], "view_weight": 0}
    recommender = model(data, embedding_dim=4, **options)
    losses = recommender.loss(*torch.empty(3, 0, dtype=torch.int64))
    assert all(loss.item() == 0 for loss in losses.values())
    losses["loss"].backward()
    assert not recommender.user_embedding.weight.grad.any()


def test_scores_are_inner_products(data: HeteroData) -> None:
    model = LightGCN(data, 8)
    users, items = model()
    chosen = torch.tensor([7, 0, 7])
    torch.testing.assert_close(
        model.score(chosen, (users, items)),
        torch.stack([items @ users[u] for u in chosen]),
    )


def test_edge_dropout(data: HeteroData) -> None:
    model = LightGCN(data, 8, 1, edge_dropout=0.5)
    whole = LightGCN(data, 8, 1)
    whole.load_state_dict(model.state_dict())

    def draw(seed: int) -> torch.Tensor:
        model.start_epoch(torch.Generator().manual_seed(seed))
        return model()[1].detach()

    first, other, again = draw(0), draw(1), draw(0)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    num_edges = data[INTERACTS].edge_index.size(1)
    kept = model._graphs["kept"]
    assert kept.col.numel() == round(num_edges / 2)
    all_edges = set(map(tuple, data[INTERACTS].edge_index.t().tolist()))
    edges = zip(kept.rows().tolist(), kept.col.tolist(), strict=True)
    assert set(edges) < all_edges
    model.eval()
    assert torch.equal(model()[1], whole()[1])


def test_edges_of_popular_nodes_are_dropped_more_often() -> None:
    # Item 0 has nine users of one item; item 1 has one.
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 10, 2
    items = torch.tensor([0] * 9 + [1])
    data[INTERACTS].edge_index = torch.stack([torch.arange(10), items])
    model = LightGCN(data, 2, 1, edge_dropout=0.9)
    kept = 0
    for seed in range(1000):
        model.start_epoch(torch.Generator().manual_seed(seed))
        kept += int(model._graphs["kept"].col[0])
    # One edge is drawn, in proportion to 1 / sqrt(d_u d_i): 1 against 9 / 3.
    assert kept / 1000 == pytest.approx(1 / 4, abs=0.05)


def test_state_holds_parameters_only_and_moves(data: HeteroData) -> None:
    model = LightGCN(data, 8)
    assert set(model.state_dict()) == {"user_embedding.weight", "item_embedding.weight"}
    assert model.double()()[0].dtype == torch.float64
    assert "num_layers=3" in repr(model)


@pytest.mark.parametrize(
    "option",
    [
        {"embedding_dim": 0},
        {"num_layers": -1},
        {"edge_dropout": 1.0},
        {"regularization": -0.1},
        {"regularization": float("nan")},
    ],
)
def test_wrong_options_are_refused(data: HeteroData, option: dict) -> None:
    with pytest.raises(ValueError, match=f"'{next(iter(option))}'"):
        LightGCN(data, **option)


def test_nothing_to_drop() -> None:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 2, 3
    data[INTERACTS].edge_index = torch.empty(2, 0, dtype=torch.int64)
    model = LightGCN(data, 4, edge_dropout=0.5)
    model.start_epoch(torch.Generator())
    assert model()[1].shape == (3, 4)


def test_gradients_of_the_regularisation() -> None:
    table = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    index = torch.tensor([0, 2, 2, 3])
    torch.testing.assert_close(
        _weighted_square(table, index), table[index].square().sum()
    )
    assert torch.autograd.gradcheck(lambda x: _weighted_square(x, index), table)
    assert torch.autograd.gradgradcheck(lambda x: _weighted_square(x, index), table)


def test_the_regularisation_of_a_large_batch_fits_half_precision() -> None:
    table = torch.ones(2, 8, requires_grad=True)
    index = torch.zeros(70_000, dtype=torch.int64)
    with torch.autocast("cpu", dtype=torch.float16):
        square = _weighted_square(table, index)
    (gradient,) = torch.autograd.grad(square, table)
    assert square.item() == 560_000
    assert gradient[0].tolist() == [140_000] * 8
