"""The affinity of users for factor values, against the formula, pair by pair."""

import copy
import math

import pytest
import torch
from factor_data import make_data, problems
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric import EdgeIndex

from mars_pyg import AddUserValues, DataError, FactorAffinity, SyntheticFactorDataset
from mars_pyg.user_items import UserItems


def naive(data, factor, item_values, history, item, alpha):
    """The formula of one pair, in loops: the affinity of each factor."""
    train = set(map(tuple, data["user", "interacts", "item"].edge_index.t().tolist()))
    result = []
    for k in range(max(factor) + 1):
        size = factor.count(k)
        known = [i for _, i in train if any(factor[v] == k for v in item_values[i])]
        n = sum(any(factor[v] == k for v in item_values[j]) for j in history)
        parts = []
        for v in sorted(item_values[item]):
            if factor[v] != k:
                continue
            p = (sum(v in item_values[i] for i in known) + 1) / (len(known) + size)
            c = sum(v in item_values[j] for j in history)
            parts.append(math.log((c + alpha * p) / ((n + alpha) * p)))
        result.append(sum(parts) / len(parts) if parts else 0.0)
    return result


@settings(deadline=None, max_examples=60)
@given(problems(), st.floats(0.1, 10.0))
def test_scores_and_pairs_follow_the_formula(problem, alpha):
    num_users, num_items, factor, item_values, interactions = problem
    data = make_data(*problem)
    head = FactorAffinity(data, smoothing=alpha).double().requires_grad_(False)
    torch.manual_seed(0)
    head.weight.data.normal_()
    history = UserItems.from_data(data, "train")
    row, item = torch.cartesian_prod(
        torch.arange(num_users), torch.arange(num_items)
    ).t()
    parts = head.pair_parts(history, row, item)
    owned = [{i for u, i in interactions if u == user} for user in range(num_users)]
    expected = torch.tensor(
        [
            naive(data, factor, item_values, owned[u], i, alpha)
            for u, i in zip(row.tolist(), item.tolist(), strict=True)
        ],
        dtype=torch.float64,
    )
    torch.testing.assert_close(parts, expected, atol=1e-12, rtol=1e-12)
    scores = head.score(history)
    assert scores.dtype == torch.float64
    torch.testing.assert_close(
        scores.reshape(-1), expected @ head.weight, atol=1e-11, rtol=1e-11
    )
    # Some users alone, in another order, one of them twice.
    chosen = torch.tensor([num_users - 1, 0, 0])
    torch.testing.assert_close(head.score(history.take(chosen)), scores[chosen])


@settings(deadline=None, max_examples=30)
@given(problems())
def test_a_positive_is_left_out_of_its_own_history(problem):
    _, _, factor, item_values, interactions = problem
    data = make_data(*problem)
    head = FactorAffinity(data).double()
    history = UserItems.from_data(data, "train")
    row, item = history.rows(), history.item
    parts = head.pair_parts(history, row, item, torch.ones_like(row, dtype=torch.bool))
    for place, (u, i) in enumerate(zip(row.tolist(), item.tolist(), strict=True)):
        others = {j for v, j in interactions if v == u} - {i}
        expected = naive(data, factor, item_values, others, i, 3.0)
        assert parts[place].tolist() == pytest.approx(expected, abs=1e-12)


def test_a_hand_worked_case():
    # Red is had by items 0 and 1, blue by 2; item 3 has no colour.
    data = make_data(
        2, 4, [0, 0], [{0}, {0}, {1}, set()], [(0, 0), (0, 1), (0, 3), (1, 2)]
    )
    head = FactorAffinity(data, smoothing=1.0).double().requires_grad_(False)
    assert head.share.tolist() == pytest.approx([3 / 5, 2 / 5])
    score = head.score(UserItems.from_data(data, "train"))
    assert score[0].tolist() == pytest.approx(
        [
            math.log((2 + 0.6) / (3 * 0.6)),
            math.log((2 + 0.6) / (3 * 0.6)),
            math.log(0.4 / (3 * 0.4)),
            0.0,
        ]
    )
    assert score[1, 2] == pytest.approx(math.log((1 + 0.4) / (2 * 0.4)))


def test_a_user_without_known_values_gets_zeros():
    data = make_data(2, 3, [0, 0], [{0}, {1}, set()], [(0, 2), (1, 0)])
    score = FactorAffinity(data).score(UserItems.from_data(data, "train"))
    assert score[0].abs().max() < 1e-6


def test_gradients_reach_the_weights():
    data = make_data(
        2, 4, [0, 0, 1], [{0, 2}, {0}, {1}, set()], [(0, 0), (0, 1), (1, 2)]
    )
    head = FactorAffinity(data).double()
    history = UserItems.from_data(data, "train")

    def score(weight):
        return torch.func.functional_call(
            head, {"weight": weight}, (history, row, item)
        )

    row, item = torch.tensor([0, 1, 1]), torch.tensor([2, 0, 3])
    weight = torch.rand(2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(score, (weight,))


def test_what_cannot_be_scored_is_refused():
    data = make_data(1, 1, [0], [{0}], [(0, 0)])
    with pytest.raises(ValueError, match="smoothing"):
        FactorAffinity(data, smoothing=0.0)
    del data["item", "text_value", "value"]
    with pytest.raises(ValueError, match="AddFactorValues"):
        FactorAffinity(data)


@pytest.mark.parametrize("row", [0, 1])
def test_items_and_values_that_are_not_there_are_refused(row):
    data = SyntheticFactorDataset(num_users=20, num_items=30)[0]
    data["item", "text_value", "value"].edge_index[row, 0] = 1000
    with pytest.raises(DataError, match=r"text_value.*: the edges refer to .* to 1000"):
        FactorAffinity(data)


def test_the_transform_counts_the_values_of_train_items():
    data = make_data(
        2,
        3,
        [0, 0, 1],
        [{0, 2}, {0}, {1}],
        [(0, 0), (0, 1), (0, 1), (1, 2)],
    )
    data["user", "interacts", "item"].val_edge_index = torch.tensor([[1], [0]])
    data = AddUserValues()(data)
    store = data["user", "chose", "value"]
    assert store.edge_index.tolist() == [[0, 0, 1], [0, 2, 1]]
    assert store.edge_weight.tolist() == [2.0, 1.0, 1.0]
    assert data.validate()


def test_values_of_users_from_edges_as_edge_index() -> None:
    data = SyntheticFactorDataset(20, 15, num_factors=2, seed=1)[0]
    expected = AddUserValues()(copy.copy(data))
    for kind in data.edge_types:
        if kind[2] == "value":
            data[kind].edge_index = EdgeIndex(data[kind].edge_index.contiguous())
    found = AddUserValues()(data)
    kinds = [kind for kind in expected.edge_types if kind[0] == "user"]
    for kind in kinds:
        edge_index = torch.as_tensor(found[kind].edge_index)
        assert torch.equal(edge_index, expected[kind].edge_index)


def test_new_values_leave_the_scores_of_known_items():
    problem = (4, 3, [0, 0, 1], [{0}, {1, 2}, {0, 2}], [(0, 0), (0, 1), (1, 2), (2, 0)])
    head = FactorAffinity(make_data(*problem)).double().requires_grad_(False)
    users, _, _, values, train = problem
    # A new value of the first factor, and an item with it and an old one.
    more = make_data(users, 5, [0, 0, 1, 0], [*values, {3}, {0, 3}], train)
    after = head.add_items(more)
    history = UserItems.from_data(make_data(*problem), "train")
    longer = UserItems.from_data(more, "train")
    assert torch.equal(after.score(longer)[:, :3], head.score(history))
    # Of three train interactions with two values, one is added to each count.
    assert after.share.tolist() == [*head.share.tolist(), 1 / (4 + 2)]
    again = after.add_items(more)
    assert torch.equal(again.share, after.share)
