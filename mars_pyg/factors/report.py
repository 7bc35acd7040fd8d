"""What factors are worth before any training."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mars_pyg.edge_forms import edges_of
from mars_pyg.errors import DataError
from mars_pyg.factors.agreement import FactorAgreement
from mars_pyg.factors.lift import Lift, factor_lift
from mars_pyg.factors.profiles import FactorProfiles
from mars_pyg.factors.schema import Factor, FactorSchema


@dataclass(frozen=True)
class ValueReport:
    """What a value is worth.

    Args:
        name: The name of the value.
        num_items: Number of items that have it.
        share: Share of them among the items that have a value of the factor.
        lift: Its lift, see :func:`~mars_pyg.factors.lift.factor_lift`.
    """

    name: str
    num_items: int
    share: float
    lift: Lift


@dataclass(frozen=True)
class FactorWorth:
    r"""What a factor is worth.

    Args:
        factor: The name of the factor.
        num_values: Number of values that items have.
        coverage: Share of the items that have a value.
        interaction_coverage: Share of the train interactions whose items have one.
        entropy: Entropy of the values over the items in bits,
            :math:`-\sum_v p_v \log_2 p_v`; the largest is
            :math:`\log_2` of the number of values.
        largest: The most frequent value.
        largest_share: Its share of the items that have a value.
        lift: The lift, see :func:`~mars_pyg.factors.lift.factor_lift`.
        drop: Why the factor may be dropped; empty where it is worth keeping.
        values: The values that items have, the most frequent first.
    """

    factor: str
    num_values: int
    coverage: float
    interaction_coverage: float
    entropy: float
    largest: str
    largest_share: float
    lift: Lift
    drop: str
    values: list[ValueReport]


@dataclass(frozen=True)
class FactorReport:
    """What the factors of profiles are worth.

    Args:
        modality: The modality of the profiles.
        num_items: Number of items.
        num_interactions: Number of train interactions.
        confidence: Coverage of the intervals.
        min_lift: The lift below which a factor may be dropped.
        factors: The factors, that with the largest lift first.
        agreement: Agreement with other profiles, if there are any.
    """

    modality: str
    num_items: int
    num_interactions: int
    confidence: float
    min_lift: float
    factors: list[FactorWorth]
    agreement: list[FactorAgreement] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The report for a json file, with :obj:`None` for what has no value."""
        return _without_nan(asdict(self))


def factor_report(
    profiles: FactorProfiles,
    train: Tensor,
    *,
    confidence: float = 0.95,
    min_lift: float = 1.05,
    agreement: list[FactorAgreement] | None = None,
) -> FactorReport:
    r"""Tell what factors are worth before any training.

    Args:
        profiles: The profiles.
        train: Users (row 0) and items (row 1) of the train interactions ``[2, E]``,
            int64, without repeated ones. No other interaction must be among them.
        confidence: Coverage of the intervals. (default: :obj:`0.95`)
        min_lift: A factor with a smaller lift may be dropped, and one whose interval
            holds 1. (default: :obj:`1.05`)
        agreement: Agreement with other profiles, to go along. (default: :obj:`None`)

    Returns:
        The report.
    """
    from scipy.sparse import csr_matrix

    if not 0 < confidence < 1:
        raise ValueError(f"'confidence' must lie between 0 and 1 (got {confidence})")
    users, items = train.numpy()
    num_users = int(users.max()) + 1 if len(users) else 0
    interactions = csr_matrix(
        (np.ones(len(users)), (users, items)), shape=(num_users, profiles.num_items)
    )
    interactions.data[:] = 1  # Repeated ones were added up.
    popularity = np.asarray(interactions.sum(axis=0)).ravel()
    factor_index = profiles.factor_index.numpy()
    entries = []
    for index, name in enumerate(profiles.factor_names):
        mine = factor_index == index
        item = profiles.item_index.numpy()[mine]
        used, value = np.unique(profiles.value_index.numpy()[mine], return_inverse=True)
        values = csr_matrix(
            (np.ones(len(item)), (item, value)), shape=(profiles.num_items, len(used))
        )
        known = np.unique(item)
        lift, value_lifts = factor_lift(interactions, values, confidence)
        count = np.bincount(value, minlength=len(used))
        order = np.argsort(-count, kind="stable")
        share = count / max(count.sum(), 1)
        rows = [
            ValueReport(
                profiles.value_names[used[v]],
                int(count[v]),
                float(count[v] / len(known)),
                value_lifts[v],
            )
            for v in order
        ]
        entries.append(
            FactorWorth(
                factor=name,
                num_values=len(used),
                coverage=len(known) / max(profiles.num_items, 1),
                interaction_coverage=float(
                    popularity[known].sum() / max(popularity.sum(), 1)
                ),
                entropy=float(-(share * np.log2(share)).sum()) + 0.0,
                largest=rows[0].name if rows else "",
                largest_share=rows[0].share if rows else 0.0,
                lift=lift,
                drop=_reason(lift, min_lift),
                values=rows,
            )
        )
    entries.sort(key=lambda entry: -np.nan_to_num(entry.lift.lift, nan=-1))
    return FactorReport(
        modality=profiles.schema.modality,
        num_items=profiles.num_items,
        num_interactions=int(interactions.nnz),
        confidence=confidence,
        min_lift=min_lift,
        factors=entries,
        agreement=agreement,
    )


def profiles_of(data: HeteroData, modality: str | None = None) -> FactorProfiles:
    """Take profiles out of a graph.

    Args:
        data: The graph, with values as
            :class:`~mars_pyg.transforms.AddFactorValues` makes them.
        modality: The modality; :obj:`None` for the only one. (default: :obj:`None`)

    Returns:
        The profiles, with open vocabularies.

    Raises:
        DataError: If there are none of the modality, or of more than one, or no item
            has a value.
    """
    suffix = "_value"
    found = [
        relation.removesuffix(suffix)
        for source, relation, target in data.edge_types
        if (source, target) == ("item", "value") and relation.endswith(suffix)
    ]
    if modality is None and len(found) == 1:
        modality = found[0]
    if modality is None or modality not in found:
        raise DataError(
            f"there are profiles of {', '.join(found)}"
            if found
            else "the items have no factor profiles",
            mend="choose the modality of one of them"
            if found
            else "make some with 'mars-pyg factors'",
            field="modality",
        )
    store = data["value"]
    item, value = edges_of(data["item", f"{modality}{suffix}", "value"]).cpu()
    factor = store.factor[value]
    slot = item * len(store.factor_name) + factor
    _, first, count = np.unique(slot.numpy(), return_index=True, return_counts=True)
    several = set(factor[torch.from_numpy(first[count > 1])].tolist())
    # Those without an assignment are of another modality.
    kept = factor.unique()
    if kept.numel() == 0:
        raise DataError(
            f"no item has a value in the profiles of {modality!r}",
            mend="see whether their ids are those of the items",
            field="modality",
        )
    schema = FactorSchema(
        modality=modality,
        factors=[
            Factor(name=store.factor_name[k], multiple=k in several)
            for k in kept.tolist()
        ],
    )
    return FactorProfiles.from_assignments(
        schema,
        data["item"].num_nodes,
        item,
        torch.searchsorted(kept, factor),
        [store.name[index] for index in value.tolist()],
    )


def _reason(lift: Lift, min_lift: float) -> str:
    """Why a factor may be dropped."""
    if math.isnan(lift.lift):
        return "no two items of a history have values"
    if lift.low <= 1 <= lift.high:
        return "the interval holds 1"
    return f"lift below {min_lift:g}" if lift.lift < min_lift else ""


def _without_nan(entry: Any) -> Any:
    if isinstance(entry, dict):
        return {key: _without_nan(value) for key, value in entry.items()}
    if isinstance(entry, list | tuple):
        return [_without_nan(value) for value in entry]
    return None if isinstance(entry, float) and math.isnan(entry) else entry
