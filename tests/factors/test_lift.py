from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from mars_pyg.factors.lift import factor_lift


def naive_lift(
    histories: list[set[int]], values: list[set[int]], chosen: set[int]
) -> float:
    """The definition in loops over users and pairs of items, for some of the values."""
    shares = []
    for history in histories:
        known = [item for item in history if values[item]]
        pairs = list(permutations(known, 2))
        if pairs:
            shared = sum(len(values[i] & values[j] & chosen) for i, j in pairs)
            shares.append(shared / len(pairs))
    drawn = [item for history in histories for item in history if values[item]]
    shared, total = 0, 0
    for i in drawn:
        for j in drawn:
            if i != j:
                shared += len(values[i] & values[j] & chosen)
                total += 1
    if not shares or not total or not shared:
        return math.nan
    return (sum(shares) / len(shares)) / (shared / total)


def matrices(
    histories: list[set[int]], values: list[set[int]], num_values: int
) -> tuple[csr_matrix, csr_matrix]:
    interactions = np.zeros((len(histories), len(values)))
    for user, history in enumerate(histories):
        interactions[user, list(history)] = 1
    table = np.zeros((len(values), num_values))
    for item, entry in enumerate(values):
        table[item, list(entry)] = 1
    return csr_matrix(interactions), csr_matrix(table)


def test_by_hand() -> None:
    # Items 0 and 1 have the value 0, items 2 and 3 the value 1, item 4 none. Of the
    # users' pairs, all, none and a third are of one value: mean 4/9. Popularities are
    # 2, 2, 2, 1, so that 2 (2*2 + 2*1) of 49 - 13 ordered draws are: 1/3.
    histories = [{0, 1}, {0, 2, 4}, {1, 2, 3}, {4}]
    values = [{0}, {0}, {1}, {1}, set()]
    factor, (first, second) = factor_lift(*matrices(histories, values, 2))
    assert factor.lift == pytest.approx((4 / 9) / (1 / 3))
    assert factor.pairs == 2
    assert first.lift == pytest.approx((1 / 3) / (8 / 36))
    assert second.lift == pytest.approx((1 / 9) / (4 / 36))
    assert (first.pairs, second.pairs) == (1, 1)
    assert factor.low < factor.lift < factor.high


@st.composite
def data(draw: st.DrawFn) -> tuple[list[set[int]], list[set[int]], int]:
    num_items = draw(st.integers(1, 8))
    num_values = draw(st.integers(1, 4))
    several = draw(st.booleans())
    values = draw(
        st.lists(
            st.sets(
                st.integers(0, num_values - 1), max_size=num_values if several else 1
            ),
            min_size=num_items,
            max_size=num_items,
        )
    )
    histories = draw(
        st.lists(st.sets(st.integers(0, num_items - 1)), min_size=1, max_size=7)
    )
    return histories, values, num_values


@settings(deadline=None, max_examples=200)
@given(data())
def test_equals_loops_over_pairs(
    given: tuple[list[set[int]], list[set[int]], int],
) -> None:
    histories, values, num_values = given
    factor, by_value = factor_lift(*matrices(histories, values, num_values))
    expected = naive_lift(histories, values, set(range(num_values)))
    np.testing.assert_allclose(factor.lift, expected, rtol=1e-10)
    for value, lift in enumerate(by_value):
        expected = naive_lift(histories, values, {value})
        np.testing.assert_allclose(lift.lift, expected, rtol=1e-10)


def simulate(seed: int) -> tuple[list[set[int]], list[set[int]]]:
    """Users who like one of three values twice as much as the others."""
    rng = np.random.default_rng(seed)
    values = [{int(value)} for value in rng.integers(0, 3, size=30)]
    value = np.array([next(iter(entry)) for entry in values])
    popularity = rng.random(30) + 0.2
    histories = []
    for _ in range(300):
        weight = popularity * np.where(value == rng.integers(0, 3), 2, 1)
        size = rng.integers(2, 8)
        items = rng.choice(30, size=size, replace=False, p=weight / weight.sum())
        histories.append(set(items.tolist()))
    return histories, values


def test_interval_is_that_of_the_bootstrap() -> None:
    histories, values = simulate(0)
    interactions, table = matrices(histories, values, 3)
    factor, by_value = factor_lift(interactions, table, confidence=0.9)
    rng = np.random.default_rng(1)
    samples = []
    for _ in range(1000):
        drawn = interactions[rng.integers(0, 300, size=300)]
        entry, entries = factor_lift(drawn, table)
        samples.append([entry.lift, *(value.lift for value in entries)])
    low, high = np.quantile(samples, [0.05, 0.95], axis=0)
    found = [factor, *by_value]
    width = high - low
    for ends, expected in [
        ([entry.low for entry in found], low),
        ([entry.high for entry in found], high),
    ]:
        np.testing.assert_array_less(np.abs(np.array(ends) - expected), 0.15 * width)
    np.testing.assert_allclose(
        [entry.high - entry.low for entry in found], width, rtol=0.15
    )


def test_no_taste_no_lift() -> None:
    rng = np.random.default_rng(0)
    popularity = rng.random(40) + 0.1
    values = [{int(value)} for value in rng.integers(0, 4, size=40)]
    histories = [
        set(
            rng.choice(
                40, size=5, replace=False, p=popularity / popularity.sum()
            ).tolist()
        )
        for _ in range(2000)
    ]
    factor, _ = factor_lift(*matrices(histories, values, 4), confidence=0.99)
    assert factor.lift == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(
    ("histories", "values"),
    [
        ([{0}, {1}], [{0}, {0}]),  # No history has a pair.
        ([{0, 1}], [set(), set()]),  # No item has a value.
        ([{0, 1}], [{0}, {1}]),  # No two items share one.
        ([set()], [{0}, {0}]),
    ],
)
def test_nothing_to_tell(histories: list[set[int]], values: list[set[int]]) -> None:
    factor, by_value = factor_lift(*matrices(histories, values, 2))
    for lift in (factor, *by_value):
        assert math.isnan(lift.lift)
        assert math.isnan(lift.low)
        assert lift.pairs == 0


def test_never_together() -> None:
    histories, values = [{0, 1}, {2, 3}], [{0}, {1}, {0}, {1}]
    factor, _ = factor_lift(*matrices(histories, values, 2))
    assert factor.lift == 0
    assert math.isnan(factor.low)


def test_one_user_has_no_interval() -> None:
    histories, values = [{0, 1}, {2}], [{0}, {0}, {1}]
    factor, _ = factor_lift(*matrices(histories, values, 2))
    assert factor.lift == pytest.approx(3)
    assert math.isnan(factor.low)
    assert factor.pairs == 1
