"""A catalogue's table of items, as commands take it, and where profiles go."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from mars_pyg.datasets.amazon import TEXT_COLUMNS
from mars_pyg.errors import DataError
from mars_pyg.factors import FactorProfiles, ItemCatalogue
from mars_pyg.factors.profile_folder import check_profile_folder, write_profile_folder
from mars_pyg.files import user_cache

Items = Annotated[
    Path, typer.Argument(help="table of items: csv, tsv or parquet", show_default=False)
]
IdColumn = Annotated[
    str | None,
    typer.Option(
        help="column of the item ids", show_default="asin, item, id or itemID"
    ),
]
TextColumns = Annotated[
    str | None,
    typer.Option(
        help="columns that are read, a,b,...",
        show_default="text, brand_and_categories or title",
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


def vectors_folder() -> Path:
    """The folder where vectors are stored by model and content, unless one is given."""
    return user_cache() / "features"


def read_texts(
    items: Path, id_column: str | None, text_columns: str | None
) -> tuple[ItemCatalogue, list[str]]:
    """Read a catalogue, and the text of each item to make features of."""
    catalogue = ItemCatalogue.from_table(items, id_column)
    if text_columns is None:
        chosen = [name for name in TEXT_COLUMNS if name in catalogue.fields][:1]
    else:
        chosen = names(text_columns)
        catalogue = ItemCatalogue.from_table(items, id_column, chosen)
    columns = zip(*(catalogue.fields[name] for name in chosen), strict=True)
    # An unknown brand leaves the bar behind it.
    texts = [" ".join(" ".join(row).split()).strip(" |") for row in columns]
    if not any(texts):
        raise DataError(
            f"no item has a text in {', '.join(chosen or TEXT_COLUMNS)}",
            mend="choose other --text-columns",
            file=items,
        )
    return catalogue, texts


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
