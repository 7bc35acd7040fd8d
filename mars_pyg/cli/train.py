"""``mars-pyg train``."""

from __future__ import annotations

import shlex
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from mars_pyg.cli.messages import messages
from mars_pyg.cli.options import with_configuration
from mars_pyg.cli.run_folder import RUNS
from mars_pyg.config import make_config, read_config
from mars_pyg.errors import DataError
from mars_pyg.option_groups import HeadOptions
from mars_pyg.report import format_metrics, format_weights


@with_configuration()
@messages()
def train(
    config: Annotated[
        Path | None,
        typer.Option(help="yaml file of options, under the flags' names"),
    ] = None,
    run_dir: Annotated[
        Path | None,
        typer.Option(
            help="folder of the run", show_default="runs/<dataset>-<model>-<seed>"
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="go on with an interrupted run")
    ] = False,
    **flags: Any,
) -> None:
    """Train a recommender, and evaluate its best epoch on validation and test.

    Options come from their defaults, then from --config, then from flags.
    Heads score beside the model, by what a user's items have in common: their
    factor values and who else chose them. Their weights are chosen on validation.
    The run's folder gets the resolved options (config.yaml), the metrics
    (metrics.json), the checkpoints, the heads and the logs. An interrupted run goes on
    with --run-dir and --resume, under the options that it has.
    """
    from mars_pyg.run_files import CONFIG
    from mars_pyg.runs import train as train_run

    of_run = resume and config is None
    if of_run and run_dir is not None:
        stored = run_dir / CONFIG
        config = stored if stored.is_file() else None
    try:
        keys: dict[str, Any] = {} if config is None else read_config(config)
        if of_run and flags.get("heads") is not None:
            # What the run says of heads that it is to do without is of no use.
            kept = ["heads", *make_config({"heads": flags["heads"]}).head_names]
            for name in HeadOptions.model_fields:
                if name.split("_")[0] not in kept:
                    keys.pop(name, None)
        keys |= {name: value for name, value in flags.items() if value is not None}
        settings = make_config(keys, config)
    except DataError as error:
        raise typer.BadParameter(str(error)) from None
    if settings.unread:
        warnings.warn(
            f"model {settings.model!r} is not trained, so that nothing reads "
            f"{', '.join(settings.unread)}",
            stacklevel=2,
        )
    name = Path(settings.dataset).resolve().name
    folder = run_dir or RUNS / f"{name}-{settings.model}-{settings.seed}"
    if of_run and flags.get("dataset") is None and not (folder / CONFIG).is_file():
        # The defaults would be trained on, which nobody has asked for.
        raise typer.BadParameter(
            f"there is no run to go on with in {folder}; give the folder of one "
            "(--run-dir), or the options of a new run"
        )
    try:
        metrics = train_run(settings, folder, resume=resume)
    except (KeyboardInterrupt, SystemExit):
        if (folder / "last.ckpt").exists():
            command = f"mars-pyg train --run-dir {shlex.quote(str(folder))} --resume"
            print(f"go on with: {command}", file=sys.stderr)
        raise
    splits = {name: metrics[name] for name in ("val", "test")}
    if "model_val" in metrics:
        splits = {"val, no heads": metrics["model_val"], **splits}
    print(format_metrics("split", splits))
    if "weights" in metrics:
        print(format_weights(metrics["weights"]))
    if "epochs" in metrics:
        print(f"best epoch {metrics['best_epoch']} of {metrics['epochs']}")
    print(f"the run is in {folder}")
