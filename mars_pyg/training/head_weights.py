"""The weights of a recommender's heads, chosen on validation."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mars_pyg.heads import HeadedRecommender
from mars_pyg.heads.new_items import NewItems
from mars_pyg.training.candidate_pool import CandidatePool
from mars_pyg.training.evaluation import check_held_out, inference

#: The least weight of the model, as a share of the largest one.
MIN_MODEL_WEIGHT = 1e-3


def fit_head_weights(
    recommender: HeadedRecommender,
    data: HeteroData,
    *,
    num_users: int = 20_000,
    num_candidates: int = 100,
) -> dict[str, float]:
    r"""Chooses the weights of a recommender's heads on the validation split.

    They are those of largest likelihood: a held-out item is one choice among the user's
    likely items (:class:`CandidatePool`), a conditional logit, which is convex in the
    weights. It is fitted twice: among the likely items of the model and of each head,
    then among the best of those by the weights found, which are the ones that compete
    for a place in a short list. Nothing is drawn at random but the users, the same each
    time, where there are many. A search by Recall itself, one weight at a time, does
    no better on users that it has not seen (``benchmarks/heads.py``).

    The model's weight is one, so that its scores are what they were. The test split is
    not read.

    Args:
        recommender: The recommender; its heads' weights are set.
        data: The graph with the validation split.
        num_users: Validation users to look at, at most. (default: :obj:`20000`)
        num_candidates: Likely items of each kind, and the best of them for the second
            fit. (default: :obj:`100`)

    Returns:
        The weight of each part, by its name, on scores of unit deviation; zero for one
        that is the same everywhere. Heads alone have no part :obj:`"model"`.

    Raises:
        DataError: If the data has no validation interactions.
        ValueError: If a number is not positive, or the recommender has new items; see
            :meth:`HeadedRecommender.add_items`.
    """
    check_held_out(data, "val")
    if NewItems.name in recommender.heads:
        raise ValueError(
            "the weights of a recommender with new items cannot be fitted, as nobody "
            "has chosen these; fit them first, then 'add_items'"
        )
    for name, value in (
        ("num_users", num_users),
        ("num_candidates", num_candidates),
    ):
        if value < 1:
            raise ValueError(f"'{name}' must be positive (got {value})")
    # In full precision and with gradients, whatever the mode around is.
    with torch.inference_mode(False), inference(recommender):
        pool = CandidatePool.from_recommender(
            recommender, data, num_users=num_users, num_candidates=num_candidates
        )
        weight = fit_pool(pool, num_candidates)
    if not bool(pool.found.any()):
        warnings.warn(
            "no validation item is among the likely ones that the weights of the heads "
            "are fitted on, so that they stay at one; bring more validation "
            "interactions, or a larger 'num_candidates'",
            stacklevel=2,
        )
    _set_weights(recommender, pool.to_raw(weight))
    names = ["model", *recommender.part_names]
    first = 1 if recommender.base is None else 0
    return dict(zip(names[first:], weight[first:].tolist(), strict=True))


def fit_pool(pool: CandidatePool, num_candidates: int = 100) -> Tensor:
    """The weights for a pool ``[H]``, in two fits; see :func:`fit_head_weights`."""
    weight = maximum_likelihood(pool)
    best = pool.best(weight, num_candidates)
    return maximum_likelihood(best) if bool(best.found.any()) else weight


def maximum_likelihood(pool: CandidatePool) -> Tensor:
    """The weights of the conditional logit on parts of unit deviation ``[H]``."""
    weight = torch.ones_like(pool.deviation, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = pool.negative_log_likelihood(weight)
        loss.backward()
        return loss

    optimizer.step(closure)
    # A part that is the same everywhere has no gradient, and would keep its start.
    result = torch.where(pool.deviation > 0, weight.detach(), 0)
    if pool.deviation[0] > 0:
        # The model's weight is what the others are relative to: it has to be positive,
        # also where the model has learned nothing.
        result[0] = result[0].clamp(min=MIN_MODEL_WEIGHT * float(result.abs().max()))
    return result


def _set_weights(recommender: HeadedRecommender, weight: Tensor) -> None:
    start = 0
    for head in recommender.head_list():
        stop = start + len(head.parts)
        head.weight.data.copy_(weight[start:stop])
        start = stop
