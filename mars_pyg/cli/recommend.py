"""``mars-pyg recommend``."""

from __future__ import annotations

from typing import Annotated

import typer

from mars_pyg.cli.messages import messages
from mars_pyg.cli.run_folder import RunDir, load
from mars_pyg.report import format_recommendations


@messages()
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

    run = load(run_dir)
    for name, items in recommend_items(run.recommender, run.data, user, k).items():
        print(format_recommendations(name, items))
