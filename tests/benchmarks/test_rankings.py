"""Metrics of users from the places of held-out items."""

from __future__ import annotations

import math
from types import ModuleType

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mars_pyg import SyntheticFactorDataset
from mars_pyg.nn import BPR
from mars_pyg.training import evaluate, evaluate_users


@pytest.fixture
def rankings(training_runs: ModuleType) -> ModuleType:
    import rankings

    return rankings


def test_metrics_are_those_of_the_package(rankings: ModuleType) -> None:
    data = SyntheticFactorDataset(50, 40, seed=1)[0]
    torch.manual_seed(0)
    model = BPR(data, embedding_dim=4)
    places = rankings.held_out_places(model, data)
    metrics = rankings.user_metrics(places)
    user, recall, ndcg = evaluate_users(model, data, "test", k=20)
    assert metrics.index.tolist() == user.tolist()
    assert metrics["recall"].to_numpy() == pytest.approx(recall.numpy())
    assert metrics["ndcg"].to_numpy() == pytest.approx(ndcg.numpy())
    expected = evaluate(model, data, "test", k=[10, 20])
    means = rankings.user_metrics(places, 10).mean()
    assert means["recall"] == pytest.approx(expected["recall@10"], abs=1e-6)
    assert means["ndcg"] == pytest.approx(expected["ndcg@10"], abs=1e-6)


@given(
    places=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from([0, 1, 2, 5, 19, 20])),
        min_size=1,
        max_size=12,
    ),
    k=st.integers(1, 20),
)
@settings(max_examples=50, deadline=None)
def test_metrics_equal_a_loop(places: list[tuple[int, int]], k: int) -> None:
    import rankings

    table = pd.DataFrame(places, columns=["user", "place"])
    found = rankings.user_metrics(table, k)
    for user in {user for user, _ in places}:
        own = [place for other, place in places if other == user]
        hits = [place for place in own if 1 <= place <= k]
        ideal = sum(1 / math.log2(p + 1) for p in range(1, min(len(own), k) + 1))
        gain = sum(1 / math.log2(place + 1) for place in hits)
        assert found.loc[user, "recall"] == pytest.approx(len(hits) / len(own))
        assert found.loc[user, "ndcg"] == pytest.approx(gain / ideal)


def test_means_over_runs_and_wrong_cuts(rankings: ModuleType) -> None:
    one = pd.DataFrame({"user": [3, 3, 5], "place": [1, 0, 0]})
    other = pd.DataFrame({"user": [3, 3, 5], "place": [2, 1, 20]})
    mean = rankings.mean_user_metrics([one, other])
    assert mean["recall"].to_dict() == {3: 0.75, 5: 0.5}
    with pytest.raises(ValueError, match="'k'"):
        rankings.user_metrics(one, 21)
