"""What a user chooses more often than others."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mars_pyg.explanations.catalogue import Catalogue, HistoryValues
from mars_pyg.user_items import UserItems


@dataclass(frozen=True)
class ValueTaste:
    r"""How much more often a user chose a value than all users did.

    Args:
        value: Name of the value.
        count: Number of items of the user's history that have it, :math:`c_{uv}`.
        share: Its share of the train interactions of all users with items whose value
            of the factor is known.
        lift: :math:`(c_{uv} / n_{uk}) / \mathrm{share}_v`; one says nothing.
    """

    value: str
    count: int
    share: float
    lift: float


@dataclass(frozen=True)
class FactorTaste:
    r"""A user's taste under one factor.

    Args:
        factor: Name of the factor.
        known: Number of items of the user's history with a known value of the factor,
            :math:`n_{uk}`.
        values: The values of these items, those of most items first.
    """

    factor: str
    known: int
    values: tuple[ValueTaste, ...]

    @property
    def strength(self) -> float:
        r"""How far the user is from all users, :math:`\sum_v c_{uv} \log
        \mathrm{lift}_v` over the values that were chosen more than once.

        A value of one item may be chance, and one of a thousand brands is always rare.
        """
        again = [entry for entry in self.values if entry.count > 1]
        return sum(entry.count * math.log(entry.lift) for entry in again)


class Tastes:
    """Compares the values of histories with those of all train interactions.

    Args:
        catalogue: The catalogue.
        train: The train interactions of all users.
    """

    def __init__(self, catalogue: Catalogue, train: UserItems) -> None:
        self.catalogue = catalogue
        if catalogue.item_values is None:
            return
        popularity = torch.bincount(train.item.cpu(), minlength=train.num_items)
        item, value = catalogue.item_values.rows(), catalogue.item_values.item
        num_values, num_factors = catalogue.factor.numel(), len(catalogue.factor_names)
        count = torch.zeros(num_values, dtype=torch.int64)
        count.index_add_(0, value, popularity[item])
        # An item counts once in a factor, however many values it has.
        owner = (item * num_factors + catalogue.factor[value]).unique()
        known = torch.zeros(num_factors, dtype=torch.int64)
        known.index_add_(0, owner % num_factors, popularity[owner // num_factors])
        self._share = count.double() / known[catalogue.factor]

    def of(self, items: Tensor) -> list[FactorTaste]:
        """The taste that items tell of, the most telling factor first.

        Args:
            items: The distinct train items of a user ``[H]``, int64.
        """
        values = HistoryValues(self.catalogue, items)
        by_factor: dict[int, list[ValueTaste]] = {}
        for value, count in values.count.items():
            factor = int(self.catalogue.factor[value])
            share = float(self._share[value])
            lift = count / values.known[factor] / share
            entry = ValueTaste(self.catalogue.value_names[value], count, share, lift)
            by_factor.setdefault(factor, []).append(entry)
        tastes = [
            FactorTaste(
                self.catalogue.factor_names[factor],
                values.known[factor],
                tuple(sorted(entries, key=lambda entry: (-entry.count, -entry.lift))),
            )
            for factor, entries in by_factor.items()
        ]
        return sorted(tastes, key=lambda taste: -taste.strength)
