"""Runs of baselines, with the data, the trainer and the options of any other run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch_geometric import seed_everything

from baselines import BASELINES
from mars_pyg.config import TrainConfig
from mars_pyg.errors import DataError
from mars_pyg.files import atomic_path
from mars_pyg.heads import HeadedRecommender
from mars_pyg.heads.build import build_heads
from mars_pyg.option_groups import ModelOptions
from mars_pyg.runs import Run, load_data
from mars_pyg.training.evaluation import evaluate
from mars_pyg.training.head_weights import fit_head_weights

SETTINGS = "baseline.json"


def make_config_keys(baseline: str) -> dict[str, object]:
    """The keys of a configuration whose data is what a baseline needs."""
    # The features that MARS would read, and no graph of items: baselines have theirs.
    if BASELINES[baseline].needs_content:
        return {"model": "mars", "item_graphs": "none", "heads": []}
    return {"model": "lightgcn"}


def describe_baseline(
    baseline: str, arguments: dict[str, object], settings: dict[str, object]
) -> dict[str, object]:
    """Replace the options of the model by those of a baseline.

    Args:
        baseline: The name of the baseline.
        arguments: Those that are not at their defaults.
        settings: The resolved keys of the configuration.
    """
    kept = {k: v for k, v in settings.items() if k not in ModelOptions.model_fields}
    resolved = {**BASELINES[baseline].arguments, **arguments}
    return {**kept, "baseline": baseline, "arguments": resolved}


def train_baseline(
    baseline: str,
    arguments: dict[str, object],
    config: TrainConfig,
    folder: Path,
    progress: Callable[[str], None] | bool = True,
    test: bool = True,
) -> tuple[dict[str, Any], Run]:
    """Train a baseline, add the heads of the configuration, and evaluate it once.

    A run that was interrupted goes on; see :func:`~mars_pyg.training.fit`.

    Args:
        baseline: A name of :data:`BASELINES`.
        arguments: Arguments of the baseline that are not at their defaults.
        config: The configuration, of which the data, the heads and the training count.
        folder: The folder of the run.
        progress: See :func:`~mars_pyg.training.fit`.
        test: Whether the test split is read.

    Returns:
        The metrics, as :func:`mars_pyg.runs.train` gives them, and the run.

    Raises:
        DataError: If the folder holds a run of other settings.
    """
    # Lightning loads when it is used: the table needs none.
    from mars_pyg.training.fitting import fit

    # Without options that are not given: new ones make no other settings.
    resolved = config.resolve().model_dump(
        mode="json", exclude={"accelerator"}, exclude_none=True
    )
    _check_same(describe_baseline(baseline, arguments, resolved), folder / SETTINGS)
    data = load_data(config)
    seed_everything(config.seed)
    recommender = BASELINES[baseline].make(data, **arguments)
    metrics: dict[str, Any] = {}
    if BASELINES[baseline].is_trained:
        result = fit(
            recommender,
            data,
            run_dir=folder,
            resume=True,
            progress=progress,
            **config.training_arguments(),
        )
        metrics = {
            "val": result.val,
            "best_epoch": result.best_epoch,
            "epochs": result.epochs,
            "seconds_per_epoch": result.seconds_per_epoch,
            "peak_mib": round(result.peak_mib),
        }
    if config.head_names:
        heads = build_heads(data, **config.head_arguments())
        recommender = HeadedRecommender(recommender, data, heads)
        metrics["weights"] = fit_head_weights(recommender, data)
    options: dict[str, Any] = {
        "k": config.k,
        "chunk_size": config.chunk_size,
        "num_users": config.num_eval_users,
    }
    if "val" not in metrics or config.head_names:
        metrics["val"] = evaluate(recommender, data, "val", **options)
    if test:
        metrics["test"] = evaluate(recommender, data, "test", **options)
    return metrics, Run(config, data, recommender.eval())


def _check_same(settings: dict[str, object], path: Path) -> None:
    """Refuse to continue a run of other settings, and keep those of a new one."""
    text = json.dumps(settings, indent=1, sort_keys=True) + "\n"
    if path.is_file() and path.read_text() != text:
        raise DataError(
            "the folder holds a run of other settings",
            mend="choose another folder, or delete it",
            file=path.parent,
        )
    with atomic_path(path) as temporary:
        temporary.write_text(text)
