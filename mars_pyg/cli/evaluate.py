"""``mars-pyg evaluate``."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from mars_pyg.cli.messages import messages
from mars_pyg.cli.run_folder import RunDir, load
from mars_pyg.report import format_metrics


@messages()
def evaluate(
    run_dir: RunDir = None,
    split: Annotated[
        Literal["val", "test"], typer.Option(help="held-out interactions")
    ] = "test",
    mask_validation: Annotated[
        bool,
        typer.Option(
            "--mask-validation",
            help="leave validation items out of the candidates at test",
        ),
    ] = False,
) -> None:
    """Evaluate a trained run by ranking all items for every user."""
    from mars_pyg.training.evaluation import evaluate as evaluate_split

    run = load(run_dir)
    metrics = evaluate_split(
        run.recommender,
        run.data,
        split,
        run.config.k,
        run.config.chunk_size,
        mask_validation,
    )
    print(format_metrics("split", {split: metrics}))
