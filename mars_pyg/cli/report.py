"""``mars-pyg report``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mars_pyg.cli.messages import messages
from mars_pyg.cli.run_folder import RunDir, load


@messages()
def report(
    user: Annotated[
        list[str],
        typer.Option(help="id of a user in the catalogue; may be given repeatedly"),
    ],
    out: Annotated[Path, typer.Option(help="html file to write")],
    run_dir: RunDir = None,
    k: Annotated[int, typer.Option(min=1, help="number of items")] = 10,
) -> None:
    """Write a page that shows why users are recommended their items.

    One html file, with a section for each user: the history, the taste, the
    recommendations with their reasons, and what the model does not know. The
    page loads nothing and runs no script.
    """
    from mars_pyg.explanations import write_page

    run = load(run_dir)
    write_page(out, run.recommender, run.data, user, k=k)
    print(f"written: {out}", file=sys.stderr)
