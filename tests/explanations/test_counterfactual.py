"""Ranks without an item of the history, against ranking anew, history by history."""

from __future__ import annotations

import pytest
import torch
from explained_data import make_catalogue, make_recommender
from torch_geometric.data import HeteroData

from mars_pyg import EASE, HeadedRecommender, LightGCN, counterfactuals, explain
from mars_pyg.explanations import counterfactual
from mars_pyg.heads.build import HEADS
from mars_pyg.user_items import UserItems


@pytest.fixture(scope="module")
def data() -> HeteroData:
    return make_catalogue()


def naive_scores(recommender, data, history, user):
    """Scores of a history by the heads' pairs and the base's product."""
    _, items = recommender.base()
    score = items @ propagated(recommender.base, data, history, user)
    one = UserItems(torch.tensor([0, len(history)]), torch.tensor(history), 25)
    everything = torch.arange(25)
    for head in recommender.head_list():
        score = score + head(one, torch.zeros_like(everything), everything)
    return score


def propagated(base, data, history, user):
    """The user of a graph in which they have this history."""
    changed = data.clone()
    edges = changed["user", "interacts", "item"].edge_index
    own = torch.tensor([[user] * len(history), history])
    edges = torch.cat([edges[:, edges[0] != user], own], dim=1)
    changed["user", "interacts", "item"].edge_index = edges
    model = LightGCN(changed, base.embedding_dim, base.num_layers).double()
    model.user_embedding, model.item_embedding = (
        base.user_embedding,
        base.item_embedding,
    )
    return model()[0][user]


@pytest.mark.parametrize("max_scores", [1, 60, 2**26])
@pytest.mark.parametrize("splits", [("train",), ("train", "val", "test")])
@pytest.mark.parametrize("heads", [list(HEADS), ["ease"]])
def test_ranks_are_those_of_the_shorter_history(
    data, monkeypatch, max_scores, splits, heads
):
    monkeypatch.setattr(counterfactual, "MAX_SCORES", max_scores)
    recommender = make_recommender(data, "mars", heads)
    user = 7
    store = data["user", "interacts", "item"]
    names = {"train": "edge_index", "val": "val_edge_index", "test": "test_edge_index"}
    seen = {
        item
        for split in splits
        for other, item in store[names[split]].t().tolist()
        if other == user
    }
    edges = store.edge_index
    history = sorted(set(edges[1][edges[0] == user].tolist()))
    name, ids = data["user"].id[user], data["item"].id
    found = counterfactuals(recommender, data, name, k=5, splits=splits)
    best = explain(recommender, data, name, k=5, splits=splits)
    assert list(found) == [entry.item for entry in best]

    def place(score, i):
        return 1 + sum(
            float(score[o]) > float(score[i])
            for o in range(25)
            if o not in seen and o != i
        )

    whole = naive_scores(recommender, data, history, user)
    for position, entry in enumerate(best, start=1):
        i = ids.index(entry.item)
        entries = found[entry.item]
        assert sorted(e.without for e in entries) == sorted(ids[j] for j in history)
        order = [(-e.rank_without, e.score_without) for e in entries]
        assert order == sorted(order)
        for e in entries:
            j = ids.index(e.without)
            assert e.without_title == data["item"].title[j]
            assert e.rank == position
            assert e.score == pytest.approx(float(whole[i]))
            rest = [h for h in history if h != j]
            shorter = naive_scores(recommender, data, rest, user)
            assert e.score_without == pytest.approx(float(shorter[i]))
            assert e.rank_without == place(shorter, i)


def ranks_by_hand(weights):
    """Ranks of a user who chose a and b, by what each item speaks for, and how much."""
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 1, 5
    data["user"].id, data["item"].id = ["u"], ["a", "b", "c", "d", "e"]
    data["user", "interacts", "item"].edge_index = torch.tensor([[0, 0], [0, 1]])
    ease = EASE(5)
    rows = [weights.get(name, {}) for name in data["item"].id]
    ease.ptr = torch.tensor([0, *(len(row) for row in rows)]).cumsum(0)
    ease.index = torch.tensor([data["item"].id.index(i) for row in rows for i in row])
    ease.value = torch.tensor([value for row in rows for value in row.values()])
    recommender = HeadedRecommender(None, data, [ease])
    return {
        item: [(e.without, e.rank, e.rank_without, e.score_without) for e in entries]
        for item, entries in counterfactuals(recommender, data, "u", k=2).items()
    }


def test_a_hand_worked_case():
    weights = {"a": {"c": 3.0, "d": 1.0}, "b": {"d": 1.0, "e": 1.5}}
    # c 3, d 2, e 1.5; without a: e 1.5, d 1, c 0; without b: c 3, d 1, e 0.
    assert ranks_by_hand(weights) == {
        "c": [("a", 1, 3, 0.0), ("b", 1, 1, 3.0)],
        "d": [("a", 2, 2, 1.0), ("b", 2, 2, 1.0)],
    }


def test_an_item_of_which_nothing_is_left_is_behind_all_others():
    # Without a, all of c, d and e have zero.
    assert ranks_by_hand({"a": {"c": 3.0, "d": 1.0}}) == {
        "c": [("a", 1, 3, 0.0), ("b", 1, 1, 3.0)],
        "d": [("a", 2, 3, 0.0), ("b", 2, 2, 1.0)],
    }


def test_a_user_without_history_has_none(data):
    other = data.clone()
    edges = other["user", "interacts", "item"].edge_index
    other["user", "interacts", "item"].edge_index = edges[:, edges[0] != 0]
    recommender = make_recommender(other, "bpr", ["ease"])
    found = counterfactuals(recommender, other, other["user"].id[0], k=2)
    assert list(found.values()) == [[], []]


def test_a_graph_alone_knows_what_it_propagates_without_an_item(data):
    recommender = make_recommender(data, "lightgcn", [])
    user = 3
    edges = data["user", "interacts", "item"].edge_index
    history = edges[1][edges[0] == user].unique().tolist()
    ids = data["item"].id
    found = counterfactuals(recommender, data, data["user"].id[user], ids)
    for j in history:
        rest = [h for h in history if h != j]
        shorter = recommender()[1] @ propagated(recommender, data, rest, user)
        scores = {
            e.item: e.score_without
            for i in ids
            for e in found[i]
            if e.without == ids[j]
        }
        assert [scores[i] for i in ids] == pytest.approx(shorter.tolist())


def test_a_recommender_that_reads_no_history_is_refused(data):
    recommender = make_recommender(data, "bpr", [])
    with pytest.raises(ValueError, match="need heads"):
        counterfactuals(recommender, data, data["user"].id[0])
