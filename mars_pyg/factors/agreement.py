"""How far two profiles of the same items agree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mars_pyg.errors import DataError
from mars_pyg.factors.profiles import FactorProfiles


@dataclass(frozen=True)
class FactorAgreement:
    r"""How far two profiles agree under a factor.

    Args:
        factor: The name of the factor.
        both: Number of items that have values in both profiles; the rest is of these.
        only_first: Number of items that have values in the first profiles only.
        only_second: Number of items that have values in the second profiles only.
        equal: Share of the items whose values are equal; all of them, where items
            have several. ``nan`` where there is no item.
        kappa: Cohen's kappa, :math:`(p_o - p_e) / (1 - p_e)` with :math:`p_o` the
            share of equal items and :math:`p_e` what it would be by chance. ``nan``
            where only one value is used.
        confusion: The most frequent pairs of values that differ, as value in the
            first, value in the second and number of items.
    """

    factor: str
    both: int
    only_first: int
    only_second: int
    equal: float
    kappa: float
    confusion: list[tuple[str, str, int]]


def factor_agreement(
    first: FactorProfiles, second: FactorProfiles, num_confusions: int = 20
) -> list[FactorAgreement]:
    r"""Compare two profiles of the same items, of two models or a model and a person.

    Args:
        first: The first profiles.
        second: The second profiles, of the same items in the same order.
        num_confusions: Largest number of pairs of values that differ to list for each
            factor. (default: :obj:`20`)

    Returns:
        The agreement under each factor that both have, in the order of the first.

    Raises:
        DataError: If the items are not the same, or there is no common factor.
    """
    if first.num_items != second.num_items:
        raise DataError(
            f"the profiles are of {first.num_items} and {second.num_items} items",
            mend="read both with the ids of one catalogue",
        )
    common = [name for name in first.factor_names if name in second.factor_names]
    if not common:
        raise DataError(
            f"the profiles have no common factor: {', '.join(first.factor_names)} and "
            f"{', '.join(second.factor_names)}",
            mend="name the factors of both alike",
        )
    return [_compare(first, second, name, num_confusions) for name in common]


def worst_factor(agreement: list[FactorAgreement]) -> FactorAgreement | None:
    """The factor with the lowest kappa, or :obj:`None` where none has one."""
    known = [entry for entry in agreement if not np.isnan(entry.kappa)]
    return min(known, key=lambda entry: entry.kappa, default=None)


def _compare(
    first: FactorProfiles, second: FactorProfiles, name: str, num_confusions: int
) -> FactorAgreement:
    a = first.labels(first.factor_names.index(name)).map(_sorted)
    b = second.labels(second.factor_names.index(name)).map(_sorted)
    both = a.index.intersection(b.index)
    only_first, only_second = len(a) - len(both), len(b) - len(both)
    a, b = a[both], b[both]
    if not len(both):
        return FactorAgreement(name, 0, only_first, only_second, np.nan, np.nan, [])
    equal = float((a == b).mean())
    # scikit-learn's cohen_kappa_score fills a table of all pairs of values, which
    # open vocabularies make too large; the chance needs their shares alone.
    shares = a.value_counts(normalize=True), b.value_counts(normalize=True)
    chance = float(shares[0].mul(shares[1], fill_value=0).sum())
    kappa = np.nan if chance >= 1 else (equal - chance) / (1 - chance)
    differ = a != b
    pairs = a[differ].to_frame("a").assign(b=b[differ]).value_counts()
    confusion: list[tuple[str, str, int]] = [
        (str(row[0]), str(row[1]), int(row[2]))
        for row in pairs.head(num_confusions).reset_index().to_numpy()
    ]
    return FactorAgreement(
        name, len(both), only_first, only_second, equal, kappa, confusion
    )


def _sorted(label: str) -> str:
    """The values of an item in an order that does not depend on the schema."""
    return "|".join(sorted(label.split("|")))
