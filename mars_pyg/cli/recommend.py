"""``mars-pyg recommend``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mars_pyg.cli.messages import messages
from mars_pyg.cli.run_folder import RunDir, load
from mars_pyg.report import format_recommendations

#: Whatever is known of a user is no recommendation.
SPLITS = ("train", "val", "test")


@messages()
def recommend(
    user: Annotated[
        list[str],
        typer.Option(help="id of a user in the catalogue; may be given repeatedly"),
    ],
    run_dir: RunDir = None,
    k: Annotated[int, typer.Option(min=1, help="number of items")] = 10,
    explain: Annotated[
        bool, typer.Option("--explain", help="split each score into its reasons")
    ] = False,
    counterfactual: Annotated[
        bool,
        typer.Option(
            "--counterfactual",
            help="say which item of the history an item's place depends on",
        ),
    ] = False,
) -> None:
    """Recommend items to users, and say which factor values they share.

    Items that the user has are left out. Behind an item stand the factor
    values that it shares with the user's items, and with how many of these.
    With --explain the reasons stand there that its score is the sum of;
    --counterfactual tells them too.
    """
    from mars_pyg.recommend import recommend as recommend_items

    run = load(run_dir)
    if explain or counterfactual:
        _explain(run, user, k, counterfactual)
        return
    for name, items in recommend_items(run.recommender, run.data, user, k).items():
        print(format_recommendations(name, items))


def _explain(run: Any, users: list[str], k: int, counterfactual: bool) -> None:
    """Print the recommendations with their reasons."""
    from mars_pyg.explanations import ScoreExplainer, format_explanations

    explainer = ScoreExplainer(run.recommender, run.data)
    if counterfactual and not explainer.has_counterfactuals:
        raise typer.BadParameter(
            "--counterfactual needs a run with heads, or of a model with a graph"
        )
    for user in users:
        explainer.catalogue.user(user)  # before anything is printed
    for user in dict.fromkeys(users):
        explanations = explainer.explain(user, k=k, splits=SPLITS)
        found = None
        if counterfactual:
            ids = [entry.item for entry in explanations]
            found = explainer.counterfactuals(user, ids, splits=SPLITS)
        print(f"user {user}")
        print(format_explanations(explanations, counterfactuals=found))
