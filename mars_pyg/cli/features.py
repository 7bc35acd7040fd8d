"""``mars-pyg features``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from mars_pyg.cli.items import IdColumn, Items, TextColumns, read_texts, vectors_folder
from mars_pyg.cli.messages import messages
from mars_pyg.errors import DataError
from mars_pyg.factors import ItemCatalogue
from mars_pyg.features import (
    DEFAULT_IMAGE_MODEL,
    DEFAULT_TEXT_MODEL,
    encode_images,
    text_features,
)
from mars_pyg.features.files import FEATURE_SUFFIXES, find_features, write_features


@messages()
def features(
    items: Items,
    modality: Annotated[
        Literal["text", "image"], typer.Option(help="what is encoded")
    ] = "text",
    model: Annotated[
        str | None,
        typer.Option(
            help="sentence-transformers model, name or folder; one that reads images, "
            "as CLIP does, for images; tfidf for texts without a model",
            show_default=f"{DEFAULT_TEXT_MODEL} or {DEFAULT_IMAGE_MODEL}",
        ),
    ] = None,
    text_columns: TextColumns = None,
    image_column: Annotated[
        str | None,
        typer.Option(help="column of image paths, relative to the table's folder"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="file to write, .npy or .safetensors",
            show_default="<modality>_feat.npy, beside the items",
        ),
    ] = None,
    id_column: IdColumn = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="items that are encoded at once")
    ] = 32,
    chunk_size: Annotated[
        int, typer.Option(min=1, help="items that are encoded before they are stored")
    ] = 1024,
    cache_dir: Annotated[
        Path | None,
        typer.Option(
            help="folder of stored vectors", show_default="in the user's cache folder"
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="replace a file that is there")
    ] = False,
) -> None:
    """Make features of the items' texts or images, as datasets read them.

    Vectors are stored by model and content while they are made: an interrupted
    command goes on where it was when it is given again, and items that are new
    are encoded alone. Rows of zeros are items without a text or image.
    """
    if modality == "text" and image_column is not None:
        raise typer.BadParameter("--image-column is for --modality image")
    if modality == "image" and text_columns is not None:
        raise typer.BadParameter("--text-columns is for --modality text")
    file = items.parent / f"{modality}_feat.npy" if output is None else output
    _check_output(file, overwrite)
    cache_dir = cache_dir or vectors_folder()
    try:
        if modality == "text":
            _, texts = read_texts(items, id_column, text_columns)
            made_by, x = text_features(
                texts,
                model or DEFAULT_TEXT_MODEL,
                cache_dir=cache_dir,
                chunk_size=chunk_size,
                batch_size=batch_size,
            )
        else:
            made_by = model or DEFAULT_IMAGE_MODEL
            x = encode_images(
                _read_images(items, id_column, image_column),
                made_by,
                cache_dir=cache_dir,
                chunk_size=chunk_size,
                batch_size=batch_size,
            )
    except KeyboardInterrupt:
        print("give the same command again to go on", file=sys.stderr)
        raise
    write_features(file, x)
    print(
        f"{modality} features {list(x.shape)} by {made_by}, "
        f"{int((x == 0).all(dim=1).sum())} of them missing, are in {file}"
    )


def _check_output(file: Path, overwrite: bool) -> None:
    """Refuse a file that cannot be written, or must not, before any work."""
    if file.suffix not in FEATURE_SUFFIXES:
        raise typer.BadParameter(
            f"--output must end in {' or '.join(FEATURE_SUFFIXES)}"
        )
    # Datasets tell the modality by the name.
    found = find_features(file.parent)
    twin = found.get(file.name.removesuffix(f"_feat{file.suffix}"), file)
    for other in [file, twin]:
        if other.exists() and not (overwrite and other == file):
            raise DataError(
                "there are features already",
                mend="replace them with --overwrite, or take them away"
                if other == file
                else "take them away, since a dataset reads one file per modality",
                file=other,
            )


def _read_images(
    items: Path, id_column: str | None, image_column: str | None
) -> list[str]:
    if image_column is None:
        raise typer.BadParameter("--image-column is needed for images")
    catalogue = ItemCatalogue.from_table(items, id_column, (), image_column)
    if not any(catalogue.images):
        raise DataError(
            "no item has an image",
            mend="fill the column",
            file=items,
            field=image_column,
        )
    return [
        path if not path or "://" in path else str(items.parent / path)
        for path in catalogue.images
    ]
