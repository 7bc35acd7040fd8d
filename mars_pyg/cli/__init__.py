"""The command line, ``mars-pyg``."""

from __future__ import annotations

import logging
import sys
import warnings
from io import TextIOWrapper
from typing import Annotated

import typer

from mars_pyg.cli import factors_batch, factors_llm  # noqa: F401 (they add commands)
from mars_pyg.cli.demo import demo
from mars_pyg.cli.evaluate import evaluate
from mars_pyg.cli.export import export
from mars_pyg.cli.factors import factors_app
from mars_pyg.cli.factors_report import report as factors_report
from mars_pyg.cli.features import features
from mars_pyg.cli.messages import show_warning
from mars_pyg.cli.recommend import recommend
from mars_pyg.cli.report import report
from mars_pyg.cli.serve import serve
from mars_pyg.cli.train import train
from mars_pyg.memory import keep_freed_memory

__all__ = ["app", "main"]

app = typer.Typer(
    name="mars-pyg",
    help="Explainable recommendation with readable item factors.\n\n"
    "Begin with 'mars-pyg demo', then train on real data with 'mars-pyg train "
    "--dataset baby' and look at what it recommends with 'mars-pyg recommend'.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


for command in (
    train,
    evaluate,
    recommend,
    report,
    export,
    serve,
    features,
    demo,
):
    app.command()(command)
factors_app.command("report")(factors_report)
app.add_typer(factors_app)


def _show_version(wanted: bool) -> None:
    if wanted:
        from mars_pyg import __version__

        print(f"mars-pyg {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="show the version", callback=_show_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Take the options that stand before a command."""


def main() -> None:
    """Run the command line; a user's mistake ends with a message and a status.

    The status is 0 for success, 1 for data, files or a training that cannot be used,
    2 for options that are wrong, 130 for an interrupt, and 143 for a training that was
    terminated.
    """
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    # Warnings are for the user here, not for a developer: no path, no line of code.
    warnings.showwarning = show_warning
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        # A terminal need not know all letters of a catalogue.
        sys.stdout.reconfigure(errors="replace")
    keep_freed_memory()
    app()
