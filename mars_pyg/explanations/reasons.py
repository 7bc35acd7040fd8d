"""The parts of scores, put into reasons."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from mars_pyg.explanations.catalogue import HistoryValues
from mars_pyg.explanations.explanation import (
    ClusterReason,
    FactorReason,
    HistoryReason,
    PartReason,
    PopularityReason,
    Reason,
)
from mars_pyg.heads import EASE, FactorAffinity, Popularity, ScoreHead
from mars_pyg.nn.item_terms import ItemTerms
from mars_pyg.user_items import UserItems

#: The place of an explained item, and a reason of its score.
Placed = tuple[int, Reason]


def term_reasons(
    terms: ItemTerms,
    user: int,
    item: Tensor,
    values: HistoryValues,
) -> Iterator[Placed]:
    """The reasons that a recommender without heads has.

    Args:
        terms: The items' representations in parts.
        user: The user.
        item: The items ``[P]``, int64.
        values: The values of the user's history.
    """
    parts = terms.vectors(item).double() @ terms.users[user].double()
    for place, term in parts.nonzero().tolist():
        kind, contribution = terms.terms[term], float(parts[place, term])
        if kind.source == "clusters":
            assert kind.factor is not None
            yield place, ClusterReason("clusters", contribution, kind.factor)
        elif kind.factor is not None:
            i, factor = int(item[place]), kind.factor
            yield place, _factor_reason(kind.source, contribution, factor, i, values)
        else:
            yield place, Reason(kind.source, contribution)


def head_reasons(
    head: ScoreHead,
    history: UserItems,
    item: Tensor,
    values: HistoryValues,
) -> Iterator[Placed]:
    """The reasons that a head has.

    Args:
        head: The head.
        history: The history of the user, alone.
        item: The items ``[P]``, int64.
        values: The values of the history.
    """
    row = torch.zeros_like(item)
    weight = head.weight.double()
    if isinstance(head, EASE):
        pair, seen, entries = head.contributions(history, row, item)
        sizes = (entries.double() * weight).tolist()
        for place, other, size in zip(pair.tolist(), seen.tolist(), sizes, strict=True):
            if size == 0:
                continue
            title = values.catalogue.titles[other]
            name = values.catalogue.item_ids[other]
            yield place, HistoryReason(head.name, size, name, title)
        return
    parts = head.pair_parts(history, row, item).double() * weight
    for place, column in parts.nonzero().tolist():
        contribution = float(parts[place, column])
        if isinstance(head, FactorAffinity):
            i = int(item[place])
            yield place, _factor_reason(head.name, contribution, column, i, values)
        elif isinstance(head, Popularity):
            i = int(item[place])
            num_users, is_new = int(head.count[i]), i >= head.num_counted
            yield place, PopularityReason(head.name, contribution, num_users, is_new)
        else:
            yield place, PartReason(head.name, contribution, head.parts[column])


def _factor_reason(
    source: str,
    contribution: float,
    factor: int,
    item: int,
    values: HistoryValues,
) -> FactorReason:
    catalogue = values.catalogue
    own = catalogue.values_of(item).get(factor, [])
    own.sort(key=lambda value: -values.count.get(value, 0))
    return FactorReason(
        source,
        contribution,
        catalogue.factor_names[factor],
        tuple(catalogue.value_names[value] for value in own),
        tuple(values.count.get(value, 0) for value in own),
        values.known.get(factor, 0),
    )
