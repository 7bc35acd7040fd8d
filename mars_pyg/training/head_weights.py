"""The weights of a recommender's heads, chosen on validation."""

from __future__ import annotations

import logging

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mars_pyg.heads import HeadedRecommender
from mars_pyg.training.candidate_pool import CandidatePool
from mars_pyg.training.evaluation import check_held_out

logger = logging.getLogger(__name__)
#: Steps of a coordinate, as factors, from coarse to fine.
STEPS = (2.0, 1.4, 1.2, 1.1)
#: The least weight of the model, as a share of the largest one.
MIN_MODEL_WEIGHT = 1e-3


def fit_head_weights(
    recommender: HeadedRecommender,
    data: HeteroData,
    *,
    k: int = 20,
    num_users: int = 20_000,
    num_candidates: int = 100,
    seed: int = 0,
) -> dict[str, float]:
    r"""Chooses the weights of a recommender's heads on the validation split.

    First the weights of largest likelihood: a held-out item is one choice among the
    user's likely items (:class:`CandidatePool`), a conditional logit, which is convex
    in the weights. Then a coordinate search over Recall@K, each weight in turn, in an
    order that the seed draws, with finer and finer steps. The base's weight is one, so
    that the base's scores are what they were. The test split is not read.

    Args:
        recommender: The recommender; its heads' weights are set.
        data: The graph with the validation split.
        k: The cut of Recall. (default: :obj:`20`)
        num_users: Validation users to look at; drawn at random where there are more.
            (default: :obj:`20000`)
        num_candidates: Likely items of each kind; see :class:`CandidatePool`.
            (default: :obj:`100`)
        seed: Seed of the order of the search. (default: :obj:`0`)

    Returns:
        The weight of each part, by its name, on scores of unit deviation.

    Raises:
        DataError: If the data has no validation interactions.
    """
    check_held_out(data, "val")
    pool = CandidatePool.from_recommender(
        recommender, data, num_users=num_users, num_candidates=num_candidates
    )
    weight = maximum_likelihood(pool)
    weight = coordinate_search(pool, weight, k, seed)
    _set_weights(recommender, pool.to_raw(weight))
    names = ["model", *recommender.part_names]
    return dict(zip(names, weight.tolist(), strict=True))


def maximum_likelihood(pool: CandidatePool) -> Tensor:
    """The weights of the conditional logit on parts of unit deviation ``[H]``."""
    weight = torch.ones(pool.num_parts, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = pool.negative_log_likelihood(weight)
        loss.backward()
        return loss

    optimizer.step(closure)
    result = weight.detach()
    # The model's weight is what the others are relative to: it has to be positive, also
    # where the model has learned nothing.
    result[0] = result[0].clamp(min=MIN_MODEL_WEIGHT * float(result.abs().max()))
    return result


def coordinate_search(
    pool: CandidatePool, weight: Tensor, k: int = 20, seed: int = 0
) -> Tensor:
    """Improve Recall@K by one weight at a time."""
    generator = torch.Generator().manual_seed(seed)
    best = pool.recall(weight, k)
    for step in STEPS:
        for part in torch.randperm(pool.num_parts, generator=generator).tolist():
            for factor in (step, 1 / step, 0.0):
                if part == 0 and factor == 0:
                    continue
                trial = weight.clone()
                trial[part] *= factor
                recall = pool.recall(trial, k)
                if recall > best:
                    best, weight = recall, trial
    return weight


def _set_weights(recommender: HeadedRecommender, weight: Tensor) -> None:
    start = 0
    for head in recommender.head_list():
        stop = start + len(head.parts)
        head.weight.data.copy_(weight[start:stop])
        start = stop
