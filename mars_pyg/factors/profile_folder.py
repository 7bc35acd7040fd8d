"""Folders of factor profiles: a schema and a table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mars_pyg.errors import DataError
from mars_pyg.factors.catalogue import ID_COLUMNS
from mars_pyg.factors.profiles import FactorProfiles
from mars_pyg.factors.schema import FactorSchema
from mars_pyg.files import user_path
from mars_pyg.tables import TABLE_SUFFIXES, check_ids, find_table, read_table

if TYPE_CHECKING:
    from pandas import DataFrame

SCHEMA = "schema.json"
#: Where the values of a language model come from, beside its profiles.
PROVENANCE = "provenance.tsv"


def find_profiles(
    root: Path, profiles: str | os.PathLike[str] | None
) -> list[tuple[Path, Path]]:
    """Find the folders of profiles, and the table in each."""
    folder = root / "factors" if profiles is None else user_path(profiles)
    if profiles is not None and not folder.is_dir():
        raise DataError(
            "there is no such folder", mend="give the folder of profiles", file=folder
        )
    candidates = [folder, *sorted(p for p in folder.glob("*") if p.is_dir())]
    found = [
        candidate
        for candidate in candidates
        if (candidate / SCHEMA).is_file()
        or any((candidate / f"profiles{suffix}").is_file() for suffix in TABLE_SUFFIXES)
    ]
    if folder.is_dir() and not found:
        raise DataError(
            "the folder holds no profiles",
            mend="put schema.json and profiles.csv into it, or take it away",
            file=folder,
        )
    for candidate in found:
        if not (candidate / SCHEMA).is_file():
            raise DataError(
                "there are profiles without a schema",
                mend="write schema.json, which says what their columns are",
                file=candidate / SCHEMA,
            )
    return [(candidate, find_table(candidate, "profiles")) for candidate in found]


def read_profiles(
    folders: Sequence[tuple[Path, Path]],
    item_ids: Sequence[str],
    id_column: str | None = None,
) -> dict[str, FactorProfiles]:
    """Read the profiles that :func:`find_profiles` found, by their modality.

    Args:
        folders: Folders with ``schema.json``, and the table of profiles in each.
        item_ids: The catalogue's ids, in the order of the items.
        id_column: The column of the ids; :obj:`None` for the first of ``asin``,
            ``item``, ``id`` and ``itemID`` that is there, or else the first column.
            (default: :obj:`None`)

    Raises:
        DataError: If a file is not valid, or two are of the same modality.
    """
    profiles: dict[str, FactorProfiles] = {}
    for folder, table in folders:
        schema = FactorSchema.read(folder / SCHEMA)
        if schema.modality in profiles:
            raise DataError(
                f"there are two profiles of the modality {schema.modality!r}",
                mend="keep one folder of profiles per modality",
                file=folder,
            )
        frame = read_table(table)
        profiles[schema.modality] = FactorProfiles.from_table(
            frame,
            schema,
            item_ids,
            id_column or _id_column(frame, schema),
            file=table,
        )
    return profiles


def read_own_profiles(folder: Path, table: Path) -> FactorProfiles:
    """Read profiles with the ids of their own rows, in the place of a catalogue's.

    Args:
        folder: A folder with ``schema.json``.
        table: The table of profiles in it.

    Raises:
        DataError: If a file is not valid.
    """
    schema = FactorSchema.read(folder / SCHEMA)
    frame = read_table(table)
    column = _id_column(frame, schema)
    ids = list(dict.fromkeys(check_ids(frame[column], table)))
    return FactorProfiles.from_table(frame, schema, ids, column, file=table)


def write_profile_folder(
    folder: str | os.PathLike[str],
    profiles: FactorProfiles,
    item_ids: Sequence[str],
    id_column: str,
    suffix: str = ".tsv",
    overwrite: bool = False,
) -> None:
    """Write ``schema.json`` and ``profiles.tsv``, as datasets read them.

    A ``provenance.tsv`` that is there tells of other profiles, and is deleted.

    Args:
        folder: The folder, which is made when missing.
        profiles: The profiles.
        item_ids: The catalogue's ids, in the order of the items.
        id_column: The name of the column of the ids.
        suffix: ``".tsv"``, ``".csv"`` or ``".parquet"``. (default: :obj:`".tsv"`)
        overwrite: Whether to take the place of profiles that are there.
            (default: :obj:`False`)

    Raises:
        DataError: If there are profiles in the folder, and they are not to be
            replaced.
    """
    check_profile_folder(folder, overwrite)
    root = Path(folder)
    table = root / f"profiles{suffix}"
    profiles.write(table, item_ids, id_column)
    (root / PROVENANCE).unlink(missing_ok=True)
    profiles.schema.write(root / SCHEMA)
    drop_other_tables(table)


def check_profile_folder(
    folder: str | os.PathLike[str], overwrite: bool = False
) -> None:
    """Refuse a folder that holds profiles, unless they are to be replaced.

    Args:
        folder: The folder that profiles are to be written to.
        overwrite: Whether to take the place of profiles that are there.
            (default: :obj:`False`)

    Raises:
        DataError: If there are profiles in the folder, and they are not to be
            replaced.
    """
    root = Path(folder)
    # A schema without a table may be edited by hand, or paid for.
    if not overwrite and (profile_tables(root) or (root / SCHEMA).is_file()):
        raise DataError(
            "the folder holds profiles already, or a schema for some",
            mend="choose another folder, or overwrite them (--overwrite)",
            file=folder,
        )


def drop_other_tables(table: Path) -> None:
    """Delete the tables of profiles beside one; of two, none could be read."""
    for other in profile_tables(table.parent):
        if other != table:
            other.unlink()


def profile_tables(folder: Path) -> list[Path]:
    """The tables of profiles in a folder."""
    paths = [folder / f"profiles{suffix}" for suffix in TABLE_SUFFIXES]
    return [path for path in paths if path.is_file()]


def _id_column(table: DataFrame, schema: FactorSchema) -> str:
    factors = {factor.name for factor in schema.factors}
    others = [name for name in table.columns if name not in factors]
    found = [name for name in ID_COLUMNS if name in others]
    return str([*found, *others, *table.columns][0])
