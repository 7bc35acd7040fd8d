"""The terms of MARS's items: each against the dense graphs, and all as a sum."""

from __future__ import annotations

import pytest
import torch
from mars_models import NUM_ITEMS, make, make_graph
from torch import Tensor
from torch_geometric.data import HeteroData

from mars_pyg import BPR, MARS, LightGCN
from mars_pyg.kernels.reference import reference_adjacency
from mars_pyg.nn.item_terms import Term


@pytest.fixture(scope="module")
def data() -> HeteroData:
    return make_graph()


@pytest.mark.parametrize("view", ["text", "id", "joint"])
def test_each_term_equals_the_dense_graph(data: HeteroData, view: str) -> None:
    modalities = ["text", "id"] if view == "joint" else [view]
    model = make(
        data,
        modalities=modalities,
        fusion="joint" if view == "joint" else "mean",
        cooccurrence=view == "id",
    )
    # A view of its own, of weight one: its gate is that of its only layer.
    (conv,) = model.convs[view]
    x = model._input(view)
    graph, structure = model._view_graphs(view)
    assert structure is not None
    _, gate = conv(x, graph, struct_edge_index=structure, return_gate=True)
    dense = torch.zeros(NUM_ITEMS, NUM_ITEMS, dtype=torch.float64)
    assert structure.weight is not None
    dense[structure.rows(), structure.col.long()] = structure.weight
    expected = {Term("collaborative"): LightGCN.forward(model)[1]}
    name = "cooccurrence" if view == "id" else "structure"
    expected[Term(name)] = gate[:, :1] * (dense @ x)
    for k, adjacency in enumerate(reference_adjacency(graph)):
        expected[Term("factors", k)] = gate[:, k + 1, None] * (adjacency @ x)

    item = torch.tensor([3, 0, 19, 3])
    terms = model.item_terms()
    for place, term in enumerate(terms.terms):
        found = terms.vectors(item)[:, place]
        wanted = expected.get(term, torch.zeros(NUM_ITEMS, 8, dtype=torch.float64))
        torch.testing.assert_close(found, wanted[item], atol=1e-12, rtol=0)
        if term in expected:
            assert wanted[item].abs().sum() > 0


@pytest.mark.parametrize("item_input", ["features", "id"])
@pytest.mark.parametrize("fusion", ["joint", "mean", "gated"])
@pytest.mark.parametrize(
    "item_graphs", ["factors+structure", "factors", "structure", "concat", "none"]
)
@pytest.mark.parametrize("layers", [1, 3])
def test_terms_add_up(
    data: HeteroData, item_input: str, fusion: str, item_graphs: str, layers: int
) -> None:
    model = make(
        data,
        item_input=item_input,
        fusion=fusion,
        item_graphs=item_graphs,
        num_item_layers=layers,
        cooccurrence=fusion != "joint" and item_graphs not in ("concat", "none"),
    )
    users, items = model()
    terms = model.item_terms()
    torch.testing.assert_close(terms.users, users)
    vectors = terms.vectors(torch.arange(NUM_ITEMS))
    assert vectors.shape == (NUM_ITEMS, len(terms.terms), 8)
    torch.testing.assert_close(vectors.sum(dim=1), items, atol=1e-12, rtol=0)
    torch.testing.assert_close(
        vectors[:, 0], LightGCN.forward(model)[1], atol=1e-12, rtol=0
    )
    sources = [term.source for term in terms.terms]
    if item_graphs == "none":
        assert sources == ["collaborative"]
    elif item_graphs == "concat":
        assert sources == ["collaborative", "content"]
    else:
        assert sources[3:] == ["factors"] * 3


def test_clusters_are_not_called_by_the_names_of_factors(data: HeteroData) -> None:
    model = make(data, factor_source="clusters")
    terms = model.item_terms()
    assert [term.source for term in terms.terms[3:]] == ["clusters"] * 3
    vectors = terms.vectors(torch.arange(NUM_ITEMS))
    torch.testing.assert_close(vectors.sum(dim=1), model()[1], atol=1e-12, rtol=0)


def test_other_recommenders_have_one_term(data: HeteroData) -> None:
    model = BPR(data, embedding_dim=4)
    terms = model.item_terms()
    assert terms.terms == [Term("collaborative")]
    item = torch.tensor([2, 5])
    torch.testing.assert_close(terms.vectors(item)[:, 0], model()[1][item])


class OwnForward(MARS):
    def forward(self) -> tuple[Tensor, Tensor]:
        users, items = super().forward()
        return users, items * self.scale


class OwnContent(MARS):
    def item_content(self) -> Tensor | None:
        content = super().item_content()
        assert content is not None
        return content * self.scale


@pytest.mark.parametrize("kind", [OwnForward, OwnContent])
def test_a_subclass_trains_and_explains_its_own_items(
    data: HeteroData, kind: type[MARS]
) -> None:
    model = kind(data, embedding_dim=8)
    model.scale = torch.nn.Parameter(torch.full((8,), 2.0))
    index = torch.arange(4)
    model.loss(index, index, index + 4)["loss"].backward()
    assert model.scale.grad is not None
    assert model.scale.grad.abs().sum() > 0
    found = model.item_terms().vectors(index).sum(dim=1)
    torch.testing.assert_close(found, model()[1][index])
