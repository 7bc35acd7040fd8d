"""Training with Lightning, and evaluation."""

from __future__ import annotations

from typing import Any

from mars_pyg.training.evaluation import evaluate, evaluate_users, rank
from mars_pyg.training.head_weights import fit_head_weights
from mars_pyg.training.negative_sampling import NegativeSampler
from mars_pyg.training.new_item_exposure import fit_new_item_weight
from mars_pyg.user_items import UserItems

# Lightning takes seconds to import, so what needs it is imported when asked for.
_LAZY = {
    "FitResult": "mars_pyg.training.fitting",
    "RecommenderDataModule": "mars_pyg.training.data_module",
    "RecommenderModule": "mars_pyg.training.module",
    "fit": "mars_pyg.training.fitting",
}

__all__ = [
    "FitResult",
    "NegativeSampler",
    "RecommenderDataModule",
    "RecommenderModule",
    "UserItems",
    "evaluate",
    "evaluate_users",
    "fit",
    "fit_head_weights",
    "fit_new_item_weight",
    "rank",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)
