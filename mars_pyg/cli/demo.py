"""``mars-pyg demo``."""

from __future__ import annotations

from typing import Annotated

import typer

from mars_pyg.cli.messages import messages


@messages()
def demo(
    seed: Annotated[int, typer.Option(min=0, help="seed of data and models")] = 0,
) -> None:
    """Train MARS and LightGCN on generated data, and compare them."""
    from mars_pyg.demo import run_demo

    run_demo(seed)
