"""``mars-pyg export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mars_pyg.cli.messages import messages
from mars_pyg.cli.run_folder import RunDir, load
from mars_pyg.errors import DataError


@messages()
def export(
    out: Annotated[Path, typer.Option(help="folder of the export")],
    run_dir: RunDir = None,
    k: Annotated[
        int, typer.Option(min=0, help="items for each user; 0 for the index alone")
    ] = 20,
    approximate: Annotated[
        str | None,
        typer.Option(
            help="build an index of faiss too, for 'mars-pyg serve --approximate': "
            "auto, or a form that faiss.index_factory takes",
            show_default="none",
        ),
    ] = None,
) -> None:
    """Write the best items of all users, and an index to serve from.

    The folder gets top_k, a parquet dataset of user, item, rank and score, and
    what 'mars-pyg serve' and mars_pyg.load() read: neither the data nor the run
    is needed then. An interrupted export goes on where it was when the command
    is given again.
    """
    from mars_pyg.serving import export as export_recommender

    run = load(run_dir)
    try:
        export_recommender(run.recommender, run.data, out, k, approximate=approximate)
    except DataError:
        raise
    except ValueError as error:
        raise DataError(
            str(error), mend="serve a recommender of inner products and known heads"
        ) from error
    print(f"the export is in {out}")
