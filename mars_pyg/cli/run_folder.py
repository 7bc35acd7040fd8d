"""The folder of a run, as commands take it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

RUNS = Path("runs")

RunDir = Annotated[
    Path | None,
    typer.Option(help="folder of the run", show_default="the newest in runs/"),
]


def load(run_dir: Path | None) -> Any:
    """Load the run in a folder, or the newest one, and say which."""
    from mars_pyg.runs import load_run, newest_run

    folder = run_dir or newest_run(RUNS)
    print(f"run: {folder}", file=sys.stderr)
    return load_run(folder)
