"""Reasons add up to the scores, and each is what it says."""

from __future__ import annotations

import math

import pytest
import torch
from explained_data import make_catalogue, make_recommender
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import HeteroData

from mars_pyg import (
    BPR,
    AddItems,
    DataError,
    HeadedRecommender,
    ScoreExplainer,
    explain,
    recommend,
)
from mars_pyg.explanations.explanation import (
    ClusterReason,
    FactorReason,
    HistoryReason,
    PartReason,
    PopularityReason,
)
from mars_pyg.heads import EASE, FactorAffinity, Popularity, ScoreHead
from mars_pyg.heads.build import HEADS
from mars_pyg.user_items import UserItems


@pytest.fixture(scope="module")
def data() -> HeteroData:
    return make_catalogue()


def total(explanation):
    return sum(reason.contribution for reason in explanation.reasons)


@settings(deadline=None, max_examples=30)
@given(
    model=st.sampled_from(["none", "bpr", "lightgcn", "mars"]),
    heads=st.lists(st.sampled_from(HEADS), unique=True),
    item_graphs=st.sampled_from(
        ["factors+structure", "factors", "structure", "concat", "none"]
    ),
    fusion=st.sampled_from(["joint", "mean", "gated"]),
    item_input=st.sampled_from(["features", "id"]),
    factor_source=st.sampled_from(["profiles", "clusters"]),
    layers=st.integers(1, 2),
    user=st.integers(0, 29),
)
def test_reasons_add_up_to_the_score(
    model, heads, item_graphs, fusion, item_input, factor_source, layers, user
):
    data = make_catalogue()
    if model == "none" and not heads:
        heads = ["ease"]
    options = {}
    if model == "mars":
        options = {
            "item_graphs": item_graphs,
            "fusion": fusion,
            "item_input": item_input,
            "factor_source": factor_source,
            "num_item_layers": layers,
        }
    recommender = make_recommender(data, model, heads, **options)
    name, index = data["user"].id[user], torch.tensor([user])
    score = recommender.eval().score(index, recommender())[0]
    found = explain(recommender, data, name, data["item"].id)
    assert [entry.item for entry in found] == data["item"].id
    for expected, entry in zip(score.tolist(), found, strict=True):
        assert entry.score == pytest.approx(expected, rel=1e-12)
        assert total(entry) == pytest.approx(expected, rel=1e-6, abs=1e-12)
        sizes = [abs(reason.contribution) for reason in entry.reasons]
        assert sizes == sorted(sizes, reverse=True)
        assert 0 not in sizes


@pytest.mark.parametrize("model", ["none", "bpr", "mars"])
def test_reasons_of_new_items_add_up_too(model):
    data = make_catalogue()
    recommender = make_recommender(data, model, HEADS)
    row = {"id": "new", data["value"].factor_name[0]: data["value"].name[0]}
    extended = AddItems([row])(data.clone())
    after = recommender.add_items(extended).double()
    after.heads["new"].weight.data.fill_(0.7)
    name = data["user"].id[3]
    (found,) = explain(after, extended, name, ["new"])
    score = after.score(torch.tensor([3]), after())[0, -1]
    assert found.score == pytest.approx(score.item(), rel=1e-12)
    assert total(found) == pytest.approx(score.item(), rel=1e-6)
    (reason,) = (reason for reason in found.reasons if reason.source == "new")
    assert reason.contribution == pytest.approx(0.7)
    assert reason.text() == "new item"
    (reason,) = (reason for reason in found.reasons if reason.source == "popularity")
    assert reason.text().startswith("popularity: new, as if chosen by ")
    (other,) = explain(after, extended, name, data["item"].id[:1])
    assert "new" not in {reason.source for reason in other.reasons}


def test_reasons_of_heads_are_those_of_the_formulas(data):
    names = ["affinity", "ease", "popularity"]
    recommender = make_recommender(data, "none", names)
    affinity, ease, popularity = recommender.head_list()
    assert isinstance(ease, EASE)
    weights = torch.zeros(25, 25, dtype=torch.float64)
    weights[UserItems(ease.ptr, ease.index, 25).rows(), ease.index] = ease.value
    edges = data["user", "interacts", "item"].edge_index
    relations = [data["item", f"{m}_value", "value"] for m in ("text", "image")]
    pairs = {tuple(p) for r in relations for p in r.edge_index.t().tolist()}
    store = data["value"]
    user = 5
    history = sorted(set(edges[1][edges[0] == user].tolist()))
    for i, entry in enumerate(
        explain(recommender, data, data["user"].id[user], data["item"].id)
    ):
        of_history = {r.item: r for r in entry.reasons if isinstance(r, HistoryReason)}
        for j in history:
            expected = float(ease.weight * weights[j, i])
            reason = of_history.pop(data["item"].id[j], None)
            assert (reason is None) == (expected == 0)
            if reason is not None:
                assert reason.contribution == pytest.approx(expected, rel=1e-12)
                assert reason.title == data["item"].title[j]
        assert not of_history

        by_factor = {r.factor: r for r in entry.reasons if isinstance(r, FactorReason)}
        for k, name in enumerate(store.factor_name):
            values = (store.factor == k).nonzero().view(-1).tolist()
            own = [v for v in values if (i, v) in pairs]
            if not own:
                assert name not in by_factor
                continue
            counts = {v: sum((j, v) in pairs for j in history) for v in own}
            known = sum(any((j, v) in pairs for v in values) for j in history)
            lifts = [
                math.log((counts[v] + 3 * p) / ((known + 3) * p))
                for v in own
                for p in [float(affinity.share[v])]
            ]
            reason = by_factor[name]
            assert reason.source == "affinity"
            expected = float(affinity.weight[k]) * sum(lifts) / len(lifts)
            assert reason.contribution == pytest.approx(expected)
            found = dict(zip(reason.values, reason.counts, strict=True))
            assert found == {store.name[v]: counts[v] for v in own}
            assert list(reason.counts) == sorted(reason.counts, reverse=True)
            assert reason.known == known

        number = len(set(edges[0][edges[1] == i].tolist()))
        expected = float(popularity.weight) * math.log1p(number)
        found = [r for r in entry.reasons if isinstance(r, PopularityReason)]
        if number:
            assert found[0].contribution == pytest.approx(expected)
            assert found[0].num_users == number
        else:
            assert not found


def test_the_best_items_are_those_that_are_recommended(data):
    recommender = make_recommender(data, "mars", list(HEADS))
    explainer = ScoreExplainer(recommender, data)
    splits = ("train", "val", "test")
    for name in data["user"].id[:5]:
        wanted = recommend(recommender, data, [name], 6, splits=splits)[name]
        found = explainer.explain(name, k=6, splits=splits)
        assert [entry.item for entry in found] == [entry.item for entry in wanted]
        assert [entry.title for entry in found] == [entry.title for entry in wanted]
        assert [e.score for e in found] == pytest.approx([e.score for e in wanted])
    assert len(explainer.explain(data["user"].id[0], k=1000)) < 25


def test_single_precision_adds_up_within_its_rounding(data):
    recommender = make_recommender(data, "mars", list(HEADS)).float()
    for entry in explain(recommender, data, data["user"].id[3], data["item"].id):
        size = sum(abs(reason.contribution) for reason in entry.reasons)
        assert total(entry) == pytest.approx(entry.score, abs=1e-6 * size)


def test_names_of_the_terms_of_the_graph(data):
    item = data["item"].id[2]
    recommender = make_recommender(data, "mars", [])
    (entry,) = explain(recommender, data, data["user"].id[0], [item])
    sources = {reason.source for reason in entry.reasons}
    assert sources == {"collaborative", "structure", "factors"}
    of_factor = [r for r in entry.reasons if isinstance(r, FactorReason)]
    assert of_factor
    names = set(data["value"].name)
    assert all(set(reason.values) <= names for reason in of_factor)

    recommender = make_recommender(data, "mars", [], factor_source="clusters")
    (entry,) = explain(recommender, data, data["user"].id[0], [item])
    assert any(isinstance(reason, ClusterReason) for reason in entry.reasons)
    assert not any(isinstance(reason, FactorReason) for reason in entry.reasons)


def test_a_head_of_ones_own_is_explained_by_its_parts(data):
    class Freshness(ScoreHead):
        name = "freshness"

        def score(self, history):
            row = torch.arange(history.num_users).repeat_interleave(25)
            item = torch.arange(25).repeat(history.num_users)
            return self(history, row, item).view(-1, 25)

        def pair_parts(self, history, row, item, leave_out=None):
            return torch.stack([item / 10, -item / 5], dim=1).to(self.weight.dtype)

    head = Freshness(["age", "season"])
    recommender = HeadedRecommender(BPR(data, 4), data, [head, Popularity(data)])
    recommender = recommender.double().requires_grad_(False)
    (entry,) = explain(recommender, data, data["user"].id[1], [data["item"].id[20]])
    assert total(entry) == pytest.approx(entry.score, rel=1e-6)
    found = {r.part: r for r in entry.reasons if isinstance(r, PartReason)}
    assert found["age"].contribution == pytest.approx(2.0)
    assert found["season"].contribution == pytest.approx(-4.0)
    assert found["season"].text() == "freshness: season"


def test_a_user_without_history_and_a_catalogue_without_names(data):
    bare = HeteroData()
    bare["user"].num_nodes, bare["item"].num_nodes = 2, 3
    bare["user"].id, bare["item"].id = ["a", "b"], ["x", "y", "z"]
    bare["user", "interacts", "item"].edge_index = torch.tensor([[0, 0], [0, 1]])
    recommender = make_recommender(bare, "lightgcn", ["ease", "popularity"])
    found = explain(recommender, bare, "b")
    assert {entry.item for entry in found} == {"x", "y", "z"}
    for entry in found:
        assert {r.source for r in entry.reasons} <= {"collaborative", "popularity"}
        assert total(entry) == pytest.approx(entry.score, rel=1e-6)
    (entry,) = explain(recommender, bare, "a", ["z"])
    assert entry.title == ""
    assert entry.reasons[0].text() == "what users with similar histories choose"


def test_the_mode_is_left_as_it_was_and_no_gradient_is_kept(data):
    recommender = make_recommender(data, "mars", list(HEADS)).requires_grad_(True)
    recommender.train()
    explain(recommender, data, data["user"].id[0], k=2)
    assert recommender.training
    assert all(module.training for module in recommender.modules())


def test_dropped_edges_of_training_are_no_part_of_an_explanation(data):
    recommender = make_recommender(data, "mars", [], edge_dropout=0.5)
    name, items = data["user"].id[0], data["item"].id[:3]
    before = explain(recommender, data, name, items)
    recommender.train()
    recommender.start_epoch(torch.Generator().manual_seed(0))
    assert explain(recommender, data, name, items) == before


def test_unknown_ids_are_named(data):
    recommender = make_recommender(data, "bpr", [])
    with pytest.raises(DataError, match=r"field 'user': there is no user 'nobody'"):
        explain(recommender, data, "nobody")
    with pytest.raises(DataError, match=r"field 'item': there is no item 'nothing'"):
        explain(recommender, data, data["user"].id[0], ["nothing"])
    with pytest.raises(ValueError, match="'k'"):
        explain(recommender, data, data["user"].id[0], k=0)
    assert explain(recommender, data, data["user"].id[0], []) == []


def test_affinity_alone_reads_the_train_history(data):
    recommender = make_recommender(data, "none", ["affinity"])
    (head,) = recommender.head_list()
    assert isinstance(head, FactorAffinity)
    edges = data["user", "interacts", "item"].edge_index
    for entry in explain(recommender, data, data["user"].id[2], k=3):
        for reason in entry.reasons:
            assert reason.known <= int((edges[0] == 2).sum())


def test_without_any_split_a_user_has_no_history() -> None:
    data = make_catalogue()
    recommender = make_recommender(data, "none", ["popularity"])
    (first, *_) = explain(recommender, data, data["user"].id[0], k=3, splits=())
    assert [reason.source for reason in first.reasons] == ["popularity"]


def test_an_ease_of_no_weight_has_no_reasons(data):
    recommender = HeadedRecommender(
        BPR(data, 4), data, [EASE(data["item"].num_nodes, 5.0).fit(data)]
    )
    recommender.heads["ease"].weight.data.zero_()
    (found, *_) = explain(recommender, data, data["user"].id[0], k=3)
    assert not [r for r in found.reasons if isinstance(r, HistoryReason)]
    assert total(found) == pytest.approx(found.score, abs=1e-5)
