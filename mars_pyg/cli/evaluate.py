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
    num_eval_users: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="users to average over",
            show_default="as in training, or else all",
        ),
    ] = None,
) -> None:
    """Evaluate a trained run by ranking all items for every user."""
    if mask_validation and split == "val":
        raise typer.BadParameter(
            "validation items are candidates of the validation split; give it with "
            "--split test",
            param_hint="--mask-validation",
        )
    from mars_pyg.training.evaluation import evaluate as evaluate_split

    run = load(run_dir)
    metrics = evaluate_split(
        run.recommender,
        run.data,
        split,
        run.config.k,
        run.config.chunk_size,
        mask_validation,
        num_eval_users or run.config.num_eval_users,
    )
    print(format_metrics("split", {split: metrics}))
