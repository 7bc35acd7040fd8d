"""The command line, ``mars-pyg``."""

from __future__ import annotations

import inspect
import logging
import os
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mars_pyg.config import TrainConfig, groups, make_config, read_config
from mars_pyg.errors import DataError
from mars_pyg.report import format_metrics, format_recommendations

RUNS = Path("runs")

app = typer.Typer(
    name="mars-pyg",
    help="Explainable recommendation with readable item factors.\n\n"
    "Begin with 'mars-pyg demo', then train on real data with 'mars-pyg train "
    "--dataset baby' and look at what it recommends with 'mars-pyg recommend'.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line; a user's mistake ends with a message and a status.

    The status is 0 for success, 1 for data, files or a training that cannot be used,
    2 for options that are wrong, and 130 for an interrupt.
    """
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    # Warnings are for the user here, not for a developer: no path, no line of code.
    warnings.showwarning = _show_warning
    app()


@contextmanager
def _messages() -> Iterator[None]:
    """End a command with a message, not a traceback, for a user's mistake."""
    try:
        yield
    except (DataError, OSError, FloatingPointError) as error:
        print(f"mars-pyg: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        print("mars-pyg: interrupted", file=sys.stderr)
        raise typer.Exit(130) from None


def _show_warning(message: Warning | str, *rest: Any, **options: Any) -> None:
    print(f"mars-pyg: warning: {message}", file=sys.stderr)


def _with_configuration(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command a flag for every key of the configuration."""
    parameters = list(inspect.signature(function, eval_str=True).parameters.values())
    parameters.pop()  # **flags, in whose place they stand
    defaults = _shown_defaults()
    for group in groups():
        for name, field in group.model_fields.items():
            parameters.append(_parameter(name, field, group, defaults.get(name)))
    function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    )
    function.__annotations__ = {p.name: p.annotation for p in parameters}
    return function


def _parameter(
    name: str, field: FieldInfo, group: type[BaseModel], default: object
) -> inspect.Parameter:
    """A flag for a key of the configuration, unset unless given."""
    options: dict[str, Any] = {
        "help": field.description,
        "rich_help_panel": (group.__doc__ or "").rstrip("."),
        "show_default": False if default is None else str(default),
    }
    kind: Any = field.annotation
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(part for part in get_args(kind) if part is not type(None))
    declarations: list[str] = []
    if kind is bool:
        flag = name.replace("_", "-")
        declarations = [f"--{flag}/--no-{flag}"]
    elif kind not in (int, float, Path) and get_origin(kind) is not Literal:
        kind = str
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, typer.Option(*declarations, **options)],
    )


def _shown_defaults() -> dict[str, object]:
    """The default of each key, of the model or dataset where the key has none."""
    defaults: dict[str, object] = {}
    # The last one wins: what the default model and dataset do is shown first.
    for keys in ({"dataset": os.curdir}, {"model": "lightgcn"}, {}):
        resolved = TrainConfig.model_validate(keys).resolve().model_dump()
        defaults |= {
            name: ",".join(map(str, value)) if isinstance(value, list) else value
            for name, value in resolved.items()
            if value is not None
        }
    return defaults


@app.command()
@_with_configuration
@_messages()
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
    The run's folder gets the resolved options (config.yaml), the metrics
    (metrics.json), the checkpoints and the logs. An interrupted run goes on
    with --resume.
    """
    keys: dict[str, Any] = {} if config is None else read_config(config)
    keys |= {name: value for name, value in flags.items() if value is not None}
    try:
        settings = make_config(keys, config)
    except DataError as error:
        raise typer.BadParameter(str(error)) from None
    from mars_pyg.runs import train as train_run

    name = Path(settings.dataset).resolve().name
    folder = run_dir or RUNS / f"{name}-{settings.model}-{settings.seed}"
    try:
        metrics = train_run(settings, folder, resume=resume)
    except KeyboardInterrupt:
        if (folder / "last.ckpt").exists():
            print(f"go on with: --run-dir {folder} --resume", file=sys.stderr)
        raise
    splits = {name: metrics[name] for name in ("val", "test")}
    print(format_metrics("split", splits))
    print(
        f"best epoch {metrics['best_epoch']} of {metrics['epochs']}; the run is in "
        f"{folder}"
    )


RunDir = Annotated[
    Path | None,
    typer.Option(help="folder of the run", show_default="the newest in runs/"),
]


@app.command()
@_messages()
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

    run = _load(run_dir)
    metrics = evaluate_split(
        run.recommender,
        run.data,
        split,
        run.config.k,
        run.config.chunk_size,
        mask_validation,
    )
    print(format_metrics("split", {split: metrics}))


@app.command()
@_messages()
def recommend(
    user: Annotated[
        list[str],
        typer.Option(help="id of a user in the catalogue; may be given repeatedly"),
    ],
    run_dir: RunDir = None,
    k: Annotated[int, typer.Option(min=1, help="number of items")] = 10,
) -> None:
    """Recommend items to users, and say which factor values they share.

    Items that the user has are left out. Behind an item stand the factor
    values that it shares with the user's items, and with how many of these.
    """
    from mars_pyg.recommend import recommend as recommend_items

    run = _load(run_dir)
    for name, items in recommend_items(run.recommender, run.data, user, k).items():
        print(format_recommendations(name, items))


@app.command()
@_messages()
def demo(
    seed: Annotated[int, typer.Option(min=0, help="seed of data and models")] = 0,
) -> None:
    """Train MARS and LightGCN on generated data, and compare them."""
    from mars_pyg.demo import run_demo

    run_demo(seed)


def _load(run_dir: Path | None) -> Any:
    from mars_pyg.runs import load_run, newest_run

    folder = run_dir or newest_run(RUNS)
    print(f"run: {folder}", file=sys.stderr)
    return load_run(folder)
