"""``mars-pyg factors``: make factor profiles without a language model, and examine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from mars_pyg.cli.items import (
    Format,
    IdColumn,
    Items,
    Output,
    Overwrite,
    TextColumns,
    names,
    output_folder,
    read_texts,
    vectors_folder,
    write,
)
from mars_pyg.cli.messages import messages
from mars_pyg.datasets.catalogue_files import check_features
from mars_pyg.datasets.shipped_profiles import shipped_files
from mars_pyg.factors import (
    ClusterReasoner,
    ColumnReasoner,
    FactorSchema,
    ItemCatalogue,
    KeywordReasoner,
)
from mars_pyg.factors.profile_folder import SCHEMA, find_profiles, read_own_profiles
from mars_pyg.factors.profile_text import format_profiles, format_schema
from mars_pyg.features import DEFAULT_TEXT_MODEL, text_features
from mars_pyg.features.files import read_features

factors_app = typer.Typer(
    name="factors",
    help="Make factor profiles of a catalogue, and examine them.",
    no_args_is_help=True,
)


@factors_app.command()
@messages()
def columns(
    items: Items,
    columns: Annotated[
        str, typer.Option("--columns", help="columns that are factors, a,b,...")
    ],
    output: Output = None,
    id_column: IdColumn = None,
    modality: Annotated[
        str, typer.Option(help="modality of the profiles")
    ] = "catalogue",
    file_format: Format = "tsv",
    overwrite: Overwrite = False,
) -> None:
    """Take columns that the catalogue already has for factors.

    Several values in a cell are separated by a bar.
    """
    folder = output_folder(items, output, overwrite)
    chosen = names(columns)
    catalogue = ItemCatalogue.from_table(items, id_column, chosen)
    profiles = ColumnReasoner(chosen, modality).assign(catalogue)
    write(folder, profiles, catalogue, file_format, overwrite)


@factors_app.command()
@messages()
def keywords(
    items: Items,
    keywords: Annotated[
        Path,
        typer.Option(
            "--keywords", help="yaml file: factor, value, list of words or phrases"
        ),
    ],
    text_columns: Annotated[
        str | None,
        typer.Option(
            help="columns that are read, a,b,...",
            show_default="all but ids and image_url",
        ),
    ] = None,
    single: Annotated[
        bool,
        typer.Option("--single", help="keep the first value of the file that is found"),
    ] = False,
    output: Output = None,
    id_column: IdColumn = None,
    modality: Annotated[str, typer.Option(help="modality of the profiles")] = "text",
    file_format: Format = "tsv",
    overwrite: Overwrite = False,
) -> None:
    """Assign the values whose words an item's texts have.

    Words are found whole and whatever their case.
    """
    folder = output_folder(items, output, overwrite)
    reasoner = KeywordReasoner.read(keywords, multiple=not single, modality=modality)
    chosen = None if text_columns is None else names(text_columns)
    catalogue = ItemCatalogue.from_table(items, id_column, chosen)
    profiles = reasoner.assign(catalogue)
    write(folder, profiles, catalogue, file_format, overwrite)


@factors_app.command()
@messages()
def clusters(
    items: Items,
    features: Annotated[
        Path | None,
        typer.Option(
            help="npy or safetensors file with a row per item",
            show_default="made of the texts",
        ),
    ] = None,
    text_columns: TextColumns = None,
    text_model: Annotated[
        str, typer.Option(help="model that makes features of the texts, or tfidf")
    ] = DEFAULT_TEXT_MODEL,
    num_factors: Annotated[int, typer.Option(min=1, help="number of factors")] = 10,
    num_values: Annotated[
        int, typer.Option(min=1, help="number of values of each factor")
    ] = 20,
    seed: Annotated[int, typer.Option(min=0, help="seed of the clusters")] = 0,
    output: Output = None,
    id_column: IdColumn = None,
    modality: Annotated[str, typer.Option(help="modality of the features")] = "text",
    file_format: Format = "tsv",
    overwrite: Overwrite = False,
) -> None:
    """Take k-means clusters of the features for factors.

    What factors with names have to beat.
    """
    if features is not None and text_columns is not None:
        raise typer.BadParameter("--text-columns is for texts, not for --features")
    folder = output_folder(items, output, overwrite)
    if features is not None:
        catalogue = ItemCatalogue.from_table(items, id_column)
        x = read_features(features)
        check_features(x, features, items, len(catalogue))
    else:
        catalogue, texts = read_texts(items, id_column, text_columns)
        _, x = text_features(texts, text_model, cache_dir=vectors_folder())
    catalogue = replace(catalogue, features={modality: x})
    reasoner = ClusterReasoner([num_values] * num_factors, modality, seed)
    profiles = reasoner.assign(catalogue)
    write(folder, profiles, catalogue, file_format, overwrite)


@factors_app.command()
@messages()
def validate(
    path: Annotated[
        str,
        typer.Argument(
            help="schema.json, a folder of profiles, or, where there is no such "
            "folder, baby or sports for the profiles that come with mars_pyg",
            show_default=False,
        ),
    ],
) -> None:
    """Check a schema or a folder of profiles, and show the factors.

    Of profiles, the number of items that have a value is shown, and the most
    frequent value.
    """
    folder, files = Path(path), shipped_files(path)
    is_own = any(folder.glob(SCHEMA)) or any(folder.glob(f"*/{SCHEMA}"))
    if files is not None and not is_own:
        folder = files[0].parent
    if not folder.is_dir():
        print(format_schema(FactorSchema.read(folder)))
        return
    found = [read_own_profiles(*entry) for entry in find_profiles(folder, folder)]
    print("\n\n".join(map(format_profiles, found)))
