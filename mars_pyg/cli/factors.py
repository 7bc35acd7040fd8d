"""``mars-pyg factors``: make and examine factor profiles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mars_pyg.cli.messages import messages
from mars_pyg.factors import FactorSchema

factors_app = typer.Typer(
    name="factors",
    help="Make factor profiles of a catalogue, and examine them.",
    no_args_is_help=True,
)


@factors_app.command()
@messages()
def validate(
    schema: Annotated[Path, typer.Argument(help="schema.json")],
) -> None:
    """Check a schema, and show its factors."""
    for factor in FactorSchema.read(schema).factors:
        values = "open" if factor.values is None else f"{len(factor.values)} values"
        several = ", several per item" if factor.multiple else ""
        print(f"{factor.name}  ({values}{several})  {factor.description}".rstrip())
