"""EASE against the normal equations, in both forms."""

import itertools
import pickle
from copy import deepcopy

import numpy as np
import pytest
import torch
from factor_data import make_data, problems
from hypothesis import given, settings
from hypothesis import strategies as st

from mars_pyg import EASE, AddItems, LightGCN, SyntheticFactorDataset
from mars_pyg.heads import HeadedRecommender, ease_dense
from mars_pyg.serving import RetrievalIndex
from mars_pyg.training import fit_head_weights
from mars_pyg.user_items import UserItems


def dense_kernel(problem, l2, clique_weight):
    """The matrix that is inverted, by loops."""
    num_users, num_items, factor, item_values, interactions = problem
    ratings = np.zeros((num_users, num_items))
    for user, item in interactions:
        ratings[user, item] = 1
    kernel = ratings.T @ ratings + l2 * np.eye(num_items)
    for value, owner in enumerate(factor):
        members = [i for i in range(num_items) if value in item_values[i]]
        for i in members:
            for j in members:
                number = [
                    sum(factor[v] == owner for v in item_values[item])
                    for item in (i, j)
                ]
                kernel[i, j] += (
                    clique_weight / len(members) / np.sqrt(number[0] * number[1])
                )
    return ratings, kernel


def dense_weights(head):
    """B as a matrix."""
    matrix = torch.zeros(head.num_items, head.num_items, dtype=head.value.dtype)
    rows = UserItems(head.ptr, head.index, head.num_items).rows()
    matrix[rows, head.index] = head.value
    return matrix.numpy()


@pytest.mark.parametrize("solver", ["dense", "local"])
@settings(deadline=None, max_examples=40)
@given(problem=problems())
def test_each_column_solves_its_normal_equations(solver, problem):
    data = make_data(*problem)
    num_items = problem[1]
    head = EASE(
        num_items, 0.7, 1.3, num_entries=None, solver=solver, num_neighbors=num_items
    )
    weights = dense_weights(head.fit(data, dtype=torch.float64))
    _, kernel = dense_kernel(problem, 0.7, 1.3)
    for item in range(num_items):
        others = [i for i in range(num_items) if i != item]
        expected = np.linalg.solve(kernel[np.ix_(others, others)], kernel[others, item])
        np.testing.assert_allclose(weights[others, item], expected, atol=1e-10)
        assert weights[item, item] == 0


@settings(deadline=None, max_examples=20)
@given(problem=problems())
def test_scores_and_pairs_are_sums_over_the_history(problem):
    num_users, num_items, *_ = problem
    data = make_data(*problem)
    head = EASE(num_items, 0.7, 1.3).fit(data, dtype=torch.float64).double()
    head.weight.data.fill_(0.4)
    ratings, _ = dense_kernel(problem, 0.7, 1.3)
    history = UserItems.from_data(data, "train")
    expected = 0.4 * ratings @ dense_weights(head)
    np.testing.assert_allclose(
        head.score(history).detach().numpy(), expected, atol=1e-12
    )
    row, item = torch.cartesian_prod(
        torch.arange(num_users), torch.arange(num_items)
    ).t()
    np.testing.assert_allclose(
        head(history, row, item).detach().numpy(), expected.reshape(-1), atol=1e-12
    )


@settings(deadline=None, max_examples=40)
@given(problem=problems(), num_neighbors=st.integers(1, 3))
def test_a_column_of_the_local_form_solves_the_equations_of_its_neighbours(
    problem, num_neighbors
):
    num_items = problem[1]
    head = EASE(num_items, 0.7, 1.3, solver="local", num_neighbors=num_neighbors)
    weights = dense_weights(head.fit(make_data(*problem), dtype=torch.float64))
    _, kernel = dense_kernel(problem, 0.7, 1.3)
    for item in range(num_items):
        others = [j for j in range(num_items) if j != item]
        # What the item has nothing to do with is no neighbour, unless all are.
        everyone = num_neighbors >= len(others)
        near = sorted(kernel[j, item] for j in others if everyone or kernel[j, item])
        near = near[-num_neighbors:]
        # Among items of equal entries the choice is free: try each.
        differences = []
        for chosen in map(list, itertools.combinations(others, len(near))):
            if np.allclose(sorted(kernel[chosen, item]), near):
                solution = np.zeros(num_items)
                solution[chosen] = np.linalg.solve(
                    kernel[np.ix_(chosen, chosen)], kernel[chosen, item]
                )
                differences.append(np.abs(solution - weights[:, item]).max())
        assert min(differences) < 1e-10


@settings(deadline=None, max_examples=40)
@given(problem=problems(), num_new=st.integers(1, 3), data=st.data())
def test_new_items_get_the_columns_that_their_values_give(problem, num_new, data):
    num_users, num_items, factor, item_values, interactions = problem
    head = EASE(num_items, 0.7, 1.3, num_entries=None)
    head.fit(make_data(*problem), dtype=torch.float64)
    head.weight.data.fill_(0.4)
    values = st.sets(st.integers(0, len(factor) - 1))
    more = data.draw(st.lists(values, min_size=num_new, max_size=num_new))
    total = num_items + num_new
    extended = num_users, total, factor, item_values + more, interactions
    after = head.add_items(make_data(*extended))
    assert after.num_items == total
    assert after.weight.item() == pytest.approx(0.4)
    weights = dense_weights(after)
    old = list(range(num_items))
    np.testing.assert_array_equal(weights[np.ix_(old, old)], dense_weights(head))
    assert not weights[num_items:].any()
    _, kernel = dense_kernel(extended, 0.7, 1.3)
    for item in range(num_items, total):
        expected = np.linalg.solve(kernel[np.ix_(old, old)], kernel[old, item])
        np.testing.assert_allclose(weights[old, item], expected, atol=1e-10)


def test_only_the_largest_entries_of_an_item_are_kept():
    generator = torch.Generator().manual_seed(0)
    pairs = torch.randint(12, (80, 2), generator=generator).tolist()
    data = make_data(12, 12, [0, 0], [{i % 2} for i in range(12)], pairs)
    full = dense_weights(EASE(12, 1.0, 1.0, num_entries=None).fit(data))
    for solver in ("dense", "local"):
        head = EASE(12, 1.0, 1.0, num_entries=3, solver=solver, num_neighbors=11)
        weights = dense_weights(head.fit(data))
        for item in range(12):
            largest = np.argsort(-np.abs(full[:, item]))[:3]
            assert set(weights[:, item].nonzero()[0]) == set(largest)


def test_an_item_that_nobody_chose_is_reached_through_its_values_alone():
    pairs = [(0, 0), (0, 1), (1, 0), (1, 2), (2, 2)]
    data = make_data(3, 4, [0, 0], [{0}, {1}, {1}, {0}], pairs)
    for solver in ("dense", "local"):
        with_cliques = dense_weights(EASE(4, 1.0, 2.0, solver=solver).fit(data))
        assert with_cliques[0, 3] > 0
        without = dense_weights(EASE(4, 1.0, 0.0, solver=solver).fit(data))
        assert not without[:, 3].any()
        assert without[0, 1] != 0


def test_data_without_values_has_no_cliques():
    data = make_data(2, 3, [0], [set(), set(), set()], [(0, 0), (0, 1), (1, 1)])
    expected = dense_weights(EASE(3, clique_weight=0).fit(data))
    del data["item", "text_value", "value"]
    np.testing.assert_array_equal(dense_weights(EASE(3).fit(data)), expected)


def test_blocks_and_cut_rows_do_not_change_a_small_solution(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    pairs = torch.randint(30, (200, 2), generator=generator).tolist()
    data = make_data(30, 30, [0] * 3, [{i % 3} for i in range(30)], pairs)
    expected = dense_weights(EASE(30, 1.0, 1.0, num_entries=None).fit(data))
    monkeypatch.setattr(ease_dense, "BLOCK", 7)
    monkeypatch.setattr("mars_pyg.heads.ease_local.BLOCK_ENTRIES", 4000)
    monkeypatch.setattr("mars_pyg.heads.ease_local.GRAM_PRODUCTS", 50)
    monkeypatch.setattr("mars_pyg.heads.ease.MAX_ENTRIES", 10)
    for solver in ("dense", "local"):
        head = EASE(30, 1.0, 1.0, num_entries=None, solver=solver, num_neighbors=29)
        np.testing.assert_allclose(dense_weights(head.fit(data)), expected, atol=1e-5)


def test_a_state_is_loaded_whatever_its_number_of_entries():
    data = make_data(2, 3, [0], [{0}, {0}, set()], [(0, 0), (0, 1), (1, 1)])
    head = EASE(3, 1.0, 1.0).fit(data)
    other = EASE(3)
    other.load_state_dict(head.state_dict())
    np.testing.assert_array_equal(dense_weights(other), dense_weights(head))


def test_a_closed_form_beyond_the_memory_is_refused_with_its_need(monkeypatch):
    data = make_data(2, 3, [0], [{0}, {0}, set()], [(0, 0), (0, 1), (1, 1)])
    monkeypatch.setattr(ease_dense.os, "sysconf", lambda name: 1)
    with pytest.raises(MemoryError, match=r"3 items needs .* GiB.*solver='local'"):
        EASE(3, solver="dense").fit(data)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"l2": 0.0}, "l2"),
        ({"clique_weight": -1.0}, "clique_weight"),
        ({"num_entries": 0}, "num_entries"),
        ({"num_neighbors": 0}, "num_neighbors"),
        ({"solver": "exact"}, "solver"),
    ],
)
def test_options_out_of_bounds_are_refused(arguments, name):
    with pytest.raises(ValueError, match=name):
        EASE(3, **arguments)


def test_pairs_in_many_parts_are_the_same(monkeypatch):
    data = SyntheticFactorDataset(20, 30, seed=1)[0]
    head = EASE(30, 5.0).fit(data)
    history = UserItems.from_data(data, "train")
    row, item = torch.cartesian_prod(torch.arange(20), torch.arange(30)).t()
    whole = head.pair_parts(history, row, item)
    monkeypatch.setattr("mars_pyg.heads.ease.MAX_SEARCHED", 7)
    assert torch.equal(head.pair_parts(history, row, item), whole)
    assert head.pair_parts(history, row[:0], item[:0]).shape == (0, 1)


def test_half_precision_takes_new_items():
    data = SyntheticFactorDataset(20, 30, seed=1)[0]
    value = data["value"].name[0]
    factor = data["value"].factor_name[int(data["value"].factor[0])]
    is_text = 0 in data["item", "text_value", "value"].edge_index[1]
    modality = "text" if is_text else "image"
    new = AddItems([{"id": "new", factor: value}], modality=modality)(data.clone())
    head = EASE(30, 5.0).fit(data)
    expected = head.add_items(new).score(UserItems.from_data(new, "train"))
    half = head.bfloat16().add_items(new)
    found = half.score(UserItems.from_data(new, "train"))
    torch.testing.assert_close(found.float(), expected, atol=0.02, rtol=0.05)


@pytest.mark.parametrize("solver", ["dense", "local"])
def test_a_matrix_that_is_singular_is_said(solver):
    data = make_data(1, 3, [0], [set()] * 3, [(0, 0), (0, 1), (0, 2)])
    head = EASE(3, 1e-30, 0.0, solver=solver)
    with pytest.raises(ValueError, match="EASE cannot be solved with an L2 weight"):
        head.fit(data)


@pytest.mark.parametrize("num_items", [5, 20])
def test_another_number_of_items_is_refused(num_items):
    data = SyntheticFactorDataset(num_users=20, num_items=10)[0]
    with pytest.raises(ValueError, match="10"):
        EASE(num_items).fit(data)


def test_a_head_that_is_not_fitted_says_so():
    """Its scores would be zero, and its weight be found useless."""
    data = SyntheticFactorDataset(num_users=20, num_items=15, seed=0)[0]
    head, model = EASE(15), HeadedRecommender(LightGCN(data), data, [EASE(15)])
    history = UserItems.from_data(data, "train")
    row = torch.zeros(1, dtype=torch.int64)
    for use in (
        lambda: head.score(history),
        lambda: head(history, row, row),
        lambda: head.add_items(data),
        lambda: fit_head_weights(model, data),
        lambda: RetrievalIndex.from_recommender(model, data),
    ):
        with pytest.raises(ValueError, match=r"EASE is not fitted; call 'fit\(data\)'"):
            use()
    head.load_state_dict(EASE(15).fit(data).state_dict())
    for fitted in (head, deepcopy(head), pickle.loads(pickle.dumps(head))):
        assert fitted.score(history).any()
    # Nothing ties the items: there are no entries, and zero is what it says.
    alone = EASE(15, clique_weight=0).fit(make_data(1, 15, [0], [[]] * 15, [(0, 0)]))
    assert not alone.score(UserItems(torch.tensor([0, 1]), row, 15)).any()
