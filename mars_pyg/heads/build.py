"""Heads by their names, as the options of a run give them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch_geometric.data import HeteroData

from mars_pyg.errors import DataError
from mars_pyg.heads.content_similarity import ContentSimilarity
from mars_pyg.heads.ease import EASE
from mars_pyg.heads.ease_dense import check_memory
from mars_pyg.heads.factor_affinity import FactorAffinity
from mars_pyg.heads.item_kernel import has_values
from mars_pyg.heads.popularity import Popularity
from mars_pyg.heads.score_head import ScoreHead
from mars_pyg.modalities import feature_modalities

HEADS = (FactorAffinity.name, EASE.name, Popularity.name, ContentSimilarity.name)


def build_heads(
    data: HeteroData,
    heads: Sequence[str] = HEADS,
    affinity_smoothing: float = 3.0,
    ease_l2: float = 100.0,
    ease_clique_weight: float = 30.0,
    ease_num_entries: int = 256,
    ease_solver: str = "auto",
    fit: bool = True,
) -> list[ScoreHead]:
    """Make heads for the data.

    Args:
        data: The graph. Without factor values there is no affinity, and EASE has no
            cliques; without features there is no similarity.
        heads: Names of heads: ``"affinity"``, ``"ease"``, ``"popularity"`` and
            ``"similarity"``.
        affinity_smoothing: See :class:`FactorAffinity`.
        ease_l2: See :class:`EASE`.
        ease_clique_weight: See :class:`EASE`.
        ease_num_entries: See :class:`EASE`.
        ease_solver: See :class:`EASE`.
        fit: Whether EASE is computed; else its entries are for the caller to load.

    Raises:
        ValueError: If a name is unknown, or an option out of its bounds.
    """
    unknown = sorted(set(heads) - set(HEADS))
    if unknown:
        raise ValueError(f"'heads' must be some of {list(HEADS)} (got {unknown[0]!r})")
    result: list[ScoreHead] = []
    heads = usable_heads(data, heads)
    if FactorAffinity.name in heads:
        result.append(FactorAffinity(data, affinity_smoothing))
    if EASE.name in heads:
        ease = EASE(
            data["item"].num_nodes,
            ease_l2,
            ease_clique_weight,
            ease_num_entries,
            ease_solver,
        )
        result.append(ease.fit(data) if fit else ease)
    if Popularity.name in heads:
        result.append(Popularity(data))
    if ContentSimilarity.name in heads:
        result.append(ContentSimilarity(data))
    return result


def usable_heads(data: HeteroData, heads: Sequence[str]) -> list[str]:
    """Those of some heads that the graph has what they read of.

    Args:
        data: The graph.
        heads: Names of heads.
    """
    lacking = {
        FactorAffinity.name: not has_values(data),
        ContentSimilarity.name: not feature_modalities(data),
    }
    return [name for name in heads if not lacking.get(name)]


def check_heads(
    data: HeteroData, heads: Sequence[str], ease_solver: str | None = None
) -> None:
    """Refuse data in which none of the heads has anything to read, or EASE no room.

    Args:
        data: The graph.
        heads: Names of heads; without any there is nothing to refuse.
        ease_solver: See :class:`EASE`. (default: :obj:`None`)

    Raises:
        DataError: If :func:`build_heads` would make none of them.
        MemoryError: If the dense form is asked for, and does not fit the memory.
    """
    if EASE.name in heads and ease_solver == "dense":
        check_memory(data["item"].num_nodes, torch.get_default_dtype())
    if not heads or usable_heads(data, heads):
        return
    missing, mends = [], []
    if FactorAffinity.name in heads:
        missing.append("factor values")
        mends.append(
            "name columns of the items that are factors with --factor-columns, or put "
            "profiles into the folder"
        )
    if ContentSimilarity.name in heads:
        missing.append("texts or other features")
        mends.append("give the items texts or features")
    raise DataError(
        f"the items have no {' and no '.join(missing)} for {' and '.join(heads)}",
        mend=f"{'; '.join(mends)}; or choose other --heads",
        field="heads",
    )
