"""The lift of factors: how much of a history's sameness a factor explains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


@dataclass(frozen=True)
class Lift:
    r"""How often items of one history share values, over how often random items do.

    Args:
        lift: The lift; ``nan`` where no history has two items with values or no two
            items share one.
        low: The lower end of the interval; ``nan`` where the lift is 0 or of one user.
        high: The upper end of the interval; ``nan`` likewise.
        pairs: Number of pairs of items in one history that share a value.
    """

    lift: float
    low: float
    high: float
    pairs: int


def factor_lift(
    interactions: csr_matrix, values: csr_matrix, confidence: float = 0.95
) -> tuple[Lift, list[Lift]]:
    r"""Measure the lift of a factor and of each of its values.

    With :math:`c_{uv}` the number of a user's items that have the value :math:`v` and
    :math:`n_u` of those that have any, :math:`q_i` an item's number of interactions,
    and sums over the items that have a value,

    .. math::
        \mathrm{lift} = \frac{\frac{1}{|U'|} \sum_{u \in U'} \sum_v
        \frac{c_{uv} (c_{uv} - 1)}{n_u (n_u - 1)}}{\sum_v
        \frac{(\sum_u c_{uv})^2 - \sum_{i \in v} q_i^2}
        {(\sum_u n_u)^2 - \sum_i q_i^2}}.

    The numerator is the chance that two different items of a user share a value, mean
    of the users :math:`U'` with two such items; the denominator the chance that two
    different items do that are drawn by their popularity. A lift of 1 says nothing.
    The lift of a value has one term of the sums over :math:`v`. If items have several
    values, the number of shared values takes the place of the chance.

    The interval is analytic, by the delta method: users are taken as independent, the
    logarithm of the lift is linearised in the users, and its standard error is the
    root of the sum of their squared influences. It holds for many users, and says
    nothing where a value has only a few pairs.

    Time and memory are linear in the users' values, the nonzeros of :math:`c`.

    Args:
        interactions: Train interactions ``[U, N]``, of ones.
        values: The items' values under one factor ``[N, V]``, of ones.
        confidence: Coverage of the interval. (default: :obj:`0.95`)

    Returns:
        The lift of the factor, and of each value.
    """
    from scipy.stats import norm

    num_values = values.shape[1]
    popularity = np.asarray(interactions.sum(axis=0), dtype=np.float64).ravel()
    known = np.diff(values.tocsr().indptr) > 0
    count = interactions @ known.astype(np.float64)
    popularity = popularity * known
    user_popularity = interactions @ popularity

    share = np.zeros(len(count))
    active = count > 1
    num_active = int(active.sum())
    share[active] = 1 / (count[active] * (count[active] - 1) * num_active)
    total = float(popularity.sum())
    distinct = total**2 - float((popularity**2).sum())
    if not num_active or distinct <= 0:
        none = Lift(np.nan, np.nan, np.nan, 0)
        return none, [none] * num_values

    # Both products have the same nonzeros; sorted, in the same order.
    counts = interactions @ values
    weighted = interactions.multiply(popularity).tocsr() @ values
    counts.sort_indices()
    weighted.sort_indices()
    user = np.repeat(np.arange(len(count)), np.diff(counts.indptr))
    value = counts.indices
    c = counts.data
    shared = c * (c - 1)
    mass = np.bincount(value, c, num_values)
    # Of the entry of a user and a value: its part of the observed share of pairs, and
    # the derivative of the expected one.
    observed = shared * share[user]
    slope = 2 * (c * mass[value] - weighted.data)
    observed_sum = np.bincount(value, observed, num_values)
    expected_sum = mass**2 - values.T @ (popularity**2)
    pairs = np.bincount(value, shared, num_values) / 2
    # Every user's part in how many users and pairs there are.
    common = 2 * (total * count - user_popularity) / distinct - active / num_active
    z = float(norm.ppf((1 + confidence) / 2))

    def lift_of(
        observed: float, expected: float, number: float, variance: float
    ) -> Lift:
        if expected <= 0:
            return Lift(np.nan, np.nan, np.nan, 0)
        lift = float(observed * distinct / expected)
        if lift == 0 or num_active < 2:
            return Lift(lift, np.nan, np.nan, round(number))
        margin = z * np.sqrt(max(variance, 0.0))
        low, high = float(lift * np.exp(-margin)), float(lift * np.exp(margin))
        return Lift(lift, low, high, round(number))

    with np.errstate(divide="ignore", invalid="ignore"):
        own = observed / observed_sum[value] - slope / expected_sum[value]
        influence = (
            np.bincount(user, observed, len(count)) / observed_sum.sum()
            - np.bincount(user, slope, len(count)) / expected_sum.sum()
            + common
        )
    # Where a user has no such value, the common part alone counts.
    variances = (common**2).sum() + np.bincount(
        value, own**2 + 2 * own * common[user], num_values
    )
    scale = len(count) / max(len(count) - 1, 1)
    factor = lift_of(
        float(observed_sum.sum()),
        float(expected_sum.sum()),
        float(pairs.sum()),
        scale * float((influence**2).sum()),
    )
    return factor, [
        lift_of(*entry)
        for entry in zip(
            observed_sum, expected_sum, pairs, scale * variances, strict=True
        )
    ]
