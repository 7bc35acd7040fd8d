"""MARS against a dense recomputation, and what each of its switches does."""

from __future__ import annotations

import copy
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from dense_oracle import dense_factor_conv, dense_mars_conv, structure_adjacency
from mars_models import NUM_ITEMS, make, make_graph
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.utils import coalesce

from mars_pyg import (
    MARS,
    LightGCN,
    MARSConv,
    SemanticFactorLoss,
)
from mars_pyg.errors import DataError
from mars_pyg.factors.clusters import cluster_values
from mars_pyg.nn.mars import prepare_features


@pytest.fixture(scope="module")
def data() -> HeteroData:
    return make_graph()


def value_edges(data: HeteroData, view: str) -> Tensor:
    """The item-value edges of a view; those of joint and ID are the union."""
    names = ["text", "image"] if view in ("joint", "id") else [view]
    edges = [data["item", f"{name}_value", "value"].edge_index for name in names]
    return torch.cat(edges, dim=1).unique(dim=1)


def content_features(model: MARS, modality: str) -> Tensor:
    """The prepared features, of which the model keeps the known rows."""
    x = model.get_buffer(f"x_{modality}")
    out = x.new_zeros(model.num_items, x.size(1))
    out[model.get_buffer(f"known_{modality}")] = x
    return out


def features(model: MARS, view: str) -> Tensor:
    identity = model.item_embedding.weight
    if view == "id":
        return identity
    if view != "joint":
        return content_features(model, view)
    parts = [content_features(model, m) for m in model.content_modalities]
    return torch.cat([*parts, identity], dim=1)


def dense_conv(
    x: Tensor, conv: MARSConv, data: HeteroData, view: str, structure: str | None
) -> Tensor:
    """Eq. 6 to 8 for a view, by dense matrices."""
    edges = None if structure is None else data["item", structure, "item"].edge_index
    out, _ = dense_mars_conv(
        x,
        None,
        conv.gate.weight,
        value_edges(data, view),
        data["value"].factor,
        3,
        edges,
    )
    return out


def dense_view(model: MARS, data: HeteroData, view: str) -> Tensor:
    """Eq. 5 to 8 for a view, by dense matrices."""
    (conv,) = model.convs[view]
    x = features(model, view) @ model.projections[view].weight.t()
    return dense_conv(x, conv, data, view, None if view == "id" else "similar")


TRIPLETS = torch.randint(0, NUM_ITEMS, (3, 12), generator=torch.manual_seed(1))


@pytest.mark.parametrize("semantic_items", ["batch", "all"])
def test_equals_dense(data: HeteroData, semantic_items: str) -> None:
    model = make(
        data, semantic_weight=0.3, view_weight=0.2, semantic_items=semantic_items
    )
    content = dense_view(model, data, "joint")
    torch.testing.assert_close(model.item_content(), content, atol=1e-10, rtol=0)
    views = [dense_view(model, data, view) for view in ("image", "text", "id")]
    for found, expected in zip(model.views().values(), views, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)

    users, items = LightGCN.forward(model)
    final = items + content
    torch.testing.assert_close(model()[1], final, atol=1e-10, rtol=0)
    user, positive, negative = TRIPLETS
    scores = ((users[user] * final[index]).sum(1) for index in (positive, negative))
    bpr = -F.logsigmoid(next(scores) - next(scores)).mean()
    x = features(model, "joint") @ model.projections["joint"].weight.t()
    tables = [model.item_embedding.weight, x]
    norm = model.user_embedding.weight[user].square().sum()
    norm = norm + sum(t[i].square().sum() for t in tables for i in (positive, negative))
    bpr = bpr + model.regularization * norm / 12

    labels = torch.zeros(NUM_ITEMS, data["value"].num_nodes, dtype=torch.float64)
    labels[tuple(value_edges(data, "joint"))] = 1
    factor = data["value"].factor
    logits = model.decoder(content)
    chosen = range(NUM_ITEMS)
    if semantic_items == "batch":
        chosen = sorted({*positive.tolist(), *negative.tolist()})
    semantic = 0.0
    for i in chosen:
        known = {int(factor[v]) for v in labels[i].nonzero()}
        for v in range(len(factor)):
            if int(factor[v]) in known:
                semantic = semantic + F.binary_cross_entropy_with_logits(
                    logits[i, v], labels[i, v]
                )
    semantic = semantic / len(chosen)
    view = sum(
        (views[a] - views[b]).square().sum() / NUM_ITEMS
        for a, b in ((0, 1), (0, 2), (1, 2))
    )
    expected = {
        "loss": bpr + 0.3 * semantic + 0.2 * view,
        "bpr": bpr,
        "semantic": semantic,
        "view": view,
    }
    found = model.loss(user, positive, negative)
    assert set(found) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-10, rtol=0)
    parameters = list(model.parameters())
    for one, other in zip(
        torch.autograd.grad(found["loss"], parameters),
        torch.autograd.grad(expected["loss"], parameters),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=0)


@pytest.mark.parametrize(
    ("item_graphs", "item_input", "fusion"),
    product(
        ["factors+structure", "factors", "structure", "concat", "none"],
        ["features", "id"],
        ["joint", "mean", "gated"],
    ),
)
@pytest.mark.parametrize(
    "modalities", [None, ["id"], ["text"], ["id", "image"], ["text", "image"]]
)
def test_every_combination_trains(
    data: HeteroData,
    item_graphs: str,
    item_input: str,
    fusion: str,
    modalities: list[str] | None,
) -> None:
    options = {"item_graphs": item_graphs, "item_input": item_input, "fusion": fusion}
    if modalities == ["id"] and item_graphs == "structure":
        with pytest.raises(ValueError, match="no edges to run over"):
            make(data, modalities=modalities, **options)
        return
    model = make(data, modalities=modalities, **options)
    user, item = model()
    assert (user.shape, item.shape) == ((30, 8), (NUM_ITEMS, 8))
    losses = model.loss(*TRIPLETS)
    losses["loss"].backward()
    assert losses["loss"].isfinite()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all()
        # A gate of a single term is 1 whatever its weights.
        if "gate" not in name:
            assert parameter.grad.any(), name


def test_modalities_are_ordered_and_chosen(data: HeteroData) -> None:
    assert make(data).modalities == ["image", "text", "id"]
    assert make(data, modalities=["id", "text", "id"]).modalities == ["text", "id"]
    model = make(data, modalities=["text"])
    assert model.projections["joint"].weight.shape == (8, 64)


def test_ablations(data: HeteroData) -> None:
    """The switches that the docstring names for the ablations of the paper."""
    without_fp = make(data, semantic_weight=0)
    assert without_fp.decoder is None
    assert set(without_fp.loss(*TRIPLETS)) == {"loss", "bpr", "view"}
    without_cl = make(data, view_weight=0)
    assert set(without_cl.loss(*TRIPLETS)) == {"loss", "bpr", "semantic"}
    assert list(without_cl.convs) == ["joint"]
    without_mm = make(data, modalities=["id"])
    assert set(without_mm.loss(*TRIPLETS)) == {"loss", "bpr", "semantic"}
    assert not [name for name, _ in without_mm.named_buffers() if name.startswith("x_")]
    concat = make(data, item_graphs="concat")
    expected = features(concat, "joint") @ concat.projections["joint"].weight.t()
    torch.testing.assert_close(concat.item_content(), expected, atol=1e-10, rtol=0)
    none = make(data, item_graphs="none")
    assert none.item_content() is None
    plain = LightGCN(data, 8, 2).double()
    plain.load_state_dict(none.state_dict(), strict=False)
    assert torch.equal(none()[1], plain()[1])
    assert set(none.loss(*TRIPLETS)) == {"loss", "bpr", "semantic"}


def test_clusters_in_place_of_profiles(data: HeteroData) -> None:
    clusters = make(data, factor_source="clusters")
    graph = clusters._graphs["factors"]["union"]
    profiles = make(data)._graphs["factors"]["union"]
    assert graph.num_factors == profiles.num_factors
    assert torch.equal(graph.factor, profiles.factor)
    edges = set(map(tuple, graph.edge_index().t().tolist()))
    assert edges != set(map(tuple, profiles.edge_index().t().tolist()))


def test_columns_of_the_catalogue_give_way_to_clusters_of_the_texts(
    data: HeteroData,
) -> None:
    columns = data.clone()
    for kind in list(columns.edge_types):
        if kind[2] == "value":
            columns["item", "catalogue_value", "value"].edge_index = columns[
                kind
            ].edge_index
            del columns[kind]
    graphs = make(columns, factor_source="clusters")._graphs["factors"]
    found = graphs["union"].edge_index()
    expected = cluster_values(data["item"].x_text, data["value"].factor)
    assert torch.equal(found, coalesce(expected))
    del columns["item"].x_text
    with pytest.raises(ValueError, match=r"catalogue values.*AddTextFeatures"):
        MARS(columns, item_graphs="factors", factor_source="clusters")


@pytest.mark.parametrize("item_graphs", ["factors", "structure"])
def test_one_kind_of_graph(data: HeteroData, item_graphs: str) -> None:
    model = make(data, item_graphs=item_graphs, item_input="id")
    x = model.item_embedding.weight
    edges, factor = value_edges(data, "joint"), data["value"].factor
    if item_graphs == "structure":
        similar = data["item", "similar", "item"].edge_index
        expected = structure_adjacency(similar, NUM_ITEMS) @ x
    else:
        logits = x @ model.convs["joint"][0].gate.weight[1:].t()
        present = torch.zeros(NUM_ITEMS, 3, dtype=torch.bool)
        present[edges[0], factor[edges[1]]] = True
        gate = logits.masked_fill(~present, -torch.inf).softmax(1).nan_to_num(0)
        expected = dense_factor_conv(x, edges, factor, 3, gate, "hypergraph")
    torch.testing.assert_close(model.item_content(), expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("fusion", ["mean", "gated"])
def test_fusion_of_views(data: HeteroData, fusion: str) -> None:
    model = make(data, fusion=fusion)
    views = [dense_view(model, data, view) for view in ("image", "text", "id")]
    weights = [1 / 3] * 3
    if fusion == "gated":
        logits = torch.cat([view @ model.view_gate.weight.t() for view in views], dim=1)
        weights = logits.softmax(dim=1).unbind(dim=1)
        weights = [weight[:, None] for weight in weights]
    expected = sum(w * view for w, view in zip(weights, views, strict=True))
    torch.testing.assert_close(model.item_content(), expected, atol=1e-10, rtol=0)


def test_layers_follow_each_other(data: HeteroData) -> None:
    model = make(data, num_item_layers=2, item_input="id", view_weight=0)
    x = model.item_embedding.weight
    for conv in model.convs["joint"]:
        x = dense_conv(x, conv, data, "joint", "similar")
    torch.testing.assert_close(model.item_content(), x, atol=1e-10, rtol=0)


def test_cooccurrence_is_the_structure_of_the_id_view(data: HeteroData) -> None:
    model = make(data, cooccurrence=True)
    (conv,) = model.convs["id"]
    x = model.item_embedding.weight @ model.projections["id"].weight.t()
    expected = dense_conv(x, conv, data, "id", "cooccurs")
    torch.testing.assert_close(model.views()["id"], expected, atol=1e-10, rtol=0)


def test_start(data: HeteroData) -> None:
    """X starts as the ID embedding, and content moves no faster than it."""
    model = MARS(data, embedding_dim=8)
    x = features(model, "joint") @ model.projections["joint"].weight.t()
    assert torch.equal(x, model.item_embedding.weight)
    for modality in ("image", "text"):
        z = content_features(model, modality)
        assert z.abs().sum(dim=1).max() <= 1 + 1e-6
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    before = model.item_embedding.weight.detach().clone()
    model.loss(*TRIPLETS)["loss"].backward()
    optimizer.step()
    step = (model.item_embedding.weight.detach() - before).abs().max()
    weight = model.projections["joint"].weight.detach()
    for modality, block in zip(
        ("image", "text"), weight[:, :-8].split([32, 64], dim=1), strict=True
    ):
        content = content_features(model, modality) @ block.t()
        assert 0 < content.abs().max() <= step * (1 + 1e-4)


@pytest.mark.parametrize(
    "options", [{"view_weight": 0.0}, {"item_input": "id"}, {"item_graphs": "none"}]
)
def test_views_that_are_not_there(data: HeteroData, options: dict) -> None:
    with pytest.raises(ValueError, match="no views"):
        MARS(data, embedding_dim=8, **options).views()


def test_prepared_features() -> None:
    x = torch.randn(6, 4) + 5
    x[2] = 0
    out = prepare_features(x)
    known = torch.tensor([0, 1, 3, 4, 5])
    torch.testing.assert_close(out[known].norm(dim=1), torch.full((5,), 0.5))
    assert not out[2].any()
    centred = x[known] - x[known].mean(dim=0)
    torch.testing.assert_close(F.cosine_similarity(out[known], centred), torch.ones(5))
    assert prepare_features(torch.zeros(3, 0)).shape == (3, 0)
    assert not prepare_features(torch.zeros(3, 2)).any()
    # All alike but for rounding: no direction is left, and none is made up.
    alike = torch.rand(5).repeat(7, 1)
    alike[3] *= 1 + 1e-7
    assert not prepare_features(alike).any()


def test_same_seed_same_bits(data: HeteroData) -> None:
    first, second = make(data), make(data)
    assert torch.equal(first()[1], second()[1])
    first.reset_parameters()
    assert not torch.equal(first()[1], second()[1])


def test_state_holds_parameters_only(data: HeteroData) -> None:
    model = make(data)
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}


def test_profiles_of_one_modality_only(data: HeteroData) -> None:
    partial = data.clone()
    del partial["item", "image_value", "value"]
    model = make(partial, view_weight=0.1)
    # The image view has no factors, and listens to the structure graph alone.
    assert "image" in model.view_modalities
    alone = make(partial, item_graphs="factors")
    assert alone.view_modalities == ["text", "id"]
    x = features(model, "image") @ model.projections["image"].weight.t()
    similar = structure_adjacency(data["item", "similar", "item"].edge_index, NUM_ITEMS)
    torch.testing.assert_close(model.views()["image"], similar @ x, atol=1e-10, rtol=0)


def test_without_profiles(data: HeteroData) -> None:
    bare = data.clone()
    for name in ("image_value", "text_value"):
        del bare["item", name, "value"]
    with pytest.raises(ValueError, match="AddFactorValues"):
        MARS(bare)
    model = make(bare, item_graphs="structure")
    assert model.decoder is None
    assert model.loss(*TRIPLETS)["loss"].isfinite()


@pytest.mark.parametrize("name", ["id", "joint", "union", "a.b", "", "values"])
def test_features_of_a_name_that_means_something_else(
    data: HeteroData, name: str
) -> None:
    named = data.clone()
    named["item"][f"x_{name}"] = named["item"].x_text
    with pytest.raises(ValueError, match=f"'x_{name}'.*rename it"):
        MARS(named)


def test_wrong_options_are_refused(data: HeteroData) -> None:
    for option in (
        {"item_graphs": "all"},
        {"item_input": "text"},
        {"fusion": "sum"},
        {"factor_source": "words"},
        {"semantic_items": "some"},
        {"num_item_layers": 0},
        {"decoder_hidden_channels": 0},
        {"modalities": []},
        {"modalities": ["sound"]},
        {"engine": "cuda"},
        {"semantic_weight": -1.0},
    ):
        with pytest.raises(ValueError, match=f"'{next(iter(option))}'"):
            MARS(data, **option)
    bare = data.clone()
    del bare["item", "similar", "item"]
    with pytest.raises(ValueError, match="AddItemKNN"):
        MARS(bare)
    del bare["item", "cooccurs", "item"]
    with pytest.raises(ValueError, match="AddItemCooccurrence"):
        MARS(bare, item_graphs="factors", cooccurrence=True)
    del bare["item"].x_text
    with pytest.raises(ValueError, match="x_text"):
        MARS(bare, item_graphs="factors", factor_source="clusters")


def test_semantic_loss_takes_a_sample_of_a_large_batch(
    data: HeteroData, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make(data)
    seen = []
    loss = model.decoder.loss
    monkeypatch.setattr(
        model.decoder, "loss", lambda x, *rest: seen.append(len(x)) or loss(x, *rest)
    )
    user, item = torch.arange(12) % 5, torch.arange(12)
    model.loss(user, item, item.flip(0))
    monkeypatch.setattr("mars_pyg.nn.mars.MAX_SEMANTIC_ITEMS", 7)
    model.loss(user, item, item.flip(0))
    assert seen == [12, 7]


@pytest.mark.parametrize("hidden", [None, 5])
def test_semantic_loss_is_that_of_all_logits(
    data: HeteroData, hidden: int | None
) -> None:
    """Eq. 9 and 10 of the layers and labels as they are defined."""
    model = make(data, decoder_hidden_channels=hidden).double()
    user, positive = torch.arange(6) % 5, torch.arange(6)
    negative = torch.arange(6) + 3
    found = model.loss(user, positive, negative)["semantic"]
    graph = model.graphs()["factors"]["union"]
    rows = graph.incidence.rows(), graph.incidence.col.long()
    target = torch.zeros(NUM_ITEMS, graph.num_values, dtype=torch.float64)
    target[rows] = 1
    item = torch.cat([positive, negative]).unique()
    mask = graph.present[:, graph.factor]
    logits = model.decoder(model.item_content())
    expected = SemanticFactorLoss()(logits[item], target[item], mask[item])
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    parameters = [p for p in model.parameters() if p.requires_grad]
    pairs = zip(
        torch.autograd.grad(found, parameters, allow_unused=True),
        torch.autograd.grad(expected, parameters, allow_unused=True),
        strict=True,
    )
    for one, other in pairs:
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x[:5], "'x_image'.*20 rows"),
        (lambda x: x[0], "'x_image'.*20 rows"),
        (lambda x: x.index_fill(0, torch.tensor([3]), torch.nan), "item 3 .*finite"),
    ],
)
def test_features_that_do_not_fit_are_refused(change, words) -> None:
    data = make_graph()
    data["item"].x_image = change(data["item"].x_image)
    with pytest.raises(DataError, match=words):
        MARS(data, 8)


def test_features_may_be_of_any_kind() -> None:
    data = make_graph()
    expected = make(data)()
    x = data["item"].x_image
    for kind in (x.double(), torch.nn.Parameter(x.clone())):
        data["item"].x_image = kind
        model = make(data)
        torch.testing.assert_close(copy.deepcopy(model)(), expected)
        for _ in range(2):
            model()[1].sum().backward()
    data["item"].x_image = (x * 100).long()
    MARS(data, 8)()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_graphs_are_made_where_the_data_is() -> None:
    data = make_graph()
    expected = make(data)()
    model = make(data.to("cuda")).to("cuda")
    torch.testing.assert_close([x.cpu() for x in model()], list(expected))


def test_views_need_edges_of_their_own_alone(data: HeteroData) -> None:
    other = HeteroData()
    for name in ("user", "item", "value"):
        other[name].update(data[name].to_dict())
    edges = data["item", "text_value", "value"].edge_index
    other["item", "catalogue_value", "value"].edge_index = edges
    interacts = "user", "interacts", "item"
    other[interacts].update(data[interacts].to_dict())
    # The relation is of no modality: the joint form runs over it, and no view does.
    keys = {"modalities": ["text"], "item_graphs": "factors"}
    assert MARS(other, 4, **keys)()[1].isfinite().all()
    with pytest.raises(ValueError, match="no edges to run over"):
        MARS(other, 4, **keys, fusion="mean")
    # And the ID's view runs over co-occurrences, where the joint form has nothing.
    keys = {"modalities": ["id"], "item_graphs": "structure", "cooccurrence": True}
    model = make(data, **keys, fusion="mean")
    assert list(model.views()) == ["id"]
    assert model()[1].isfinite().all()


def test_cooccurrences_that_nothing_reads_are_refused(data: HeteroData) -> None:
    for keys in (
        {"view_weight": 0.0},
        {"view_weight": 0.0, "item_input": "id"},
        {"modalities": ["text", "image"]},
        {"item_graphs": "none"},
        {"item_graphs": "concat"},
    ):
        with pytest.raises(ValueError, match="'cooccurrence' is the graph of the ID's"):
            make(data, cooccurrence=True, **keys)


def test_a_model_that_was_looked_at_in_inference_mode_trains(data: HeteroData) -> None:
    model = MARS(data, embedding_dim=8)
    with torch.inference_mode():
        model()
    index = torch.arange(4)
    model.loss(index, index, index + 4)["loss"].backward()
    assert model.user_embedding.weight.grad is not None
