"""A catalogue's table of items, as commands take it, and where profiles go."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from mars_pyg.factors import FactorProfiles, ItemCatalogue
from mars_pyg.factors.profile_folder import check_profile_folder, write_profile_folder

Items = Annotated[
    Path, typer.Argument(help="table of items: csv, tsv or parquet", show_default=False)
]
IdColumn = Annotated[
    str | None,
    typer.Option(
        help="column of the item ids", show_default="asin, item, id or itemID"
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        help="folder of the profiles", show_default="factors, beside the items"
    ),
]
Format = Annotated[
    Literal["tsv", "csv", "parquet"],
    typer.Option("--format", help="form of the profiles"),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="replace profiles that are there")
]


def names(text: str) -> list[str]:
    """Take ``"a, b"``, as a flag gives it, for a list."""
    return [part.strip() for part in text.split(",") if part.strip()]


def output_folder(items: Path, output: Path | None, overwrite: bool) -> Path:
    """Choose the folder of profiles, and refuse one that holds others."""
    folder = items.parent / "factors" if output is None else output
    check_profile_folder(folder, overwrite)
    return folder


def write(
    folder: Path,
    profiles: FactorProfiles,
    catalogue: ItemCatalogue,
    file_format: str,
    overwrite: bool,
) -> None:
    """Write profiles, and say how many items have values."""
    write_profile_folder(
        folder,
        profiles,
        catalogue.ids,
        catalogue.id_column,
        f".{file_format}",
        overwrite,
    )
    known = len(profiles.item_index.unique())
    print(
        f"{known} of {len(catalogue)} items have a value; the profiles are in {folder}",
        file=sys.stderr,
    )
