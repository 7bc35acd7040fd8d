"""Reading what the files of a catalogue hold: ids, times, features, profiles."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mars_pyg.errors import DataError
from mars_pyg.factors import FactorProfiles, FactorSchema
from mars_pyg.tables import row_of

if TYPE_CHECKING:
    from pandas import DataFrame, Series

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")


def find_table(folder: Path, name: str) -> Path:
    """Find the one table of a name in a folder.

    Raises:
        DataError: If there is none, or more than one.
    """
    found = [folder / f"{name}{s}" for s in TABLE_SUFFIXES]
    found = [path for path in found if path.is_file()]
    if len(found) != 1:
        names = ", ".join(f"{name}{suffix}" for suffix in TABLE_SUFFIXES)
        raise DataError(
            f"there is {'more than one' if found else 'none'} of {names}",
            mend="put exactly one of them there",
            file=folder,
        )
    return found[0]


def check_unique(table: DataFrame, name: str, file: Path) -> None:
    """Refuse an id that is in two rows of a table."""
    fault = table[name].duplicated().to_numpy()
    if fault.any():
        index = int(fault.argmax())
        raise DataError(
            f"the id {str(table[name].iloc[index])!r} is there twice",
            mend="keep one row per id",
            file=file,
            row=row_of(index, file),
            field=name,
        )


def read_features(file: Path) -> Tensor:
    """Read a matrix of features, float32; its shape and numbers are not checked.

    Raises:
        DataError: If the file is not a matrix of numbers.
    """
    try:
        array = np.load(file, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DataError(
            f"the features cannot be read: {error}",
            mend="write a matrix of numbers with numpy.save",
            file=file,
        ) from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise DataError(
            "the features are not a matrix of numbers",
            mend="write a matrix of numbers with numpy.save",
            file=file,
        )
    return torch.from_numpy(array.astype(np.float32))


def read_profiles(
    folder: Path, item_ids: Sequence[str], id_column: str, table: Path | None = None
) -> dict[str, FactorProfiles]:
    """Read the profiles in a folder by their modality; none if it has no schema.

    Args:
        folder: The folder, with ``schema.json``.
        item_ids: The catalogue's ids, in the order of the items.
        id_column: The column of the ids.
        table: The table of the profiles. (default: ``profiles.tsv``)
    """
    schema_file, file = folder / "schema.json", table or folder / "profiles.tsv"
    if not schema_file.is_file() and not file.is_file():
        return {}
    schema = FactorSchema.read(schema_file)
    return {schema.modality: FactorProfiles.read(file, schema, item_ids, id_column)}


def find_profiles(
    root: Path, profiles: str | os.PathLike[str] | None
) -> list[tuple[Path, Path]]:
    """Find the folders of profiles, and the table in each."""
    folder = root / "factors" if profiles is None else Path(profiles).expanduser()
    if profiles is not None and not folder.is_dir():
        raise DataError(
            "there is no such folder", mend="give the folder of profiles", file=folder
        )
    candidates = [folder, *sorted(p for p in folder.glob("*") if p.is_dir())]
    found = [
        candidate
        for candidate in candidates
        if (candidate / "schema.json").is_file()
        or any((candidate / f"profiles{suffix}").is_file() for suffix in TABLE_SUFFIXES)
    ]
    if folder.is_dir() and not found:
        raise DataError(
            "the folder holds no profiles",
            mend="put schema.json and profiles.csv into it, or take it away",
            file=folder,
        )
    return [(candidate, find_table(candidate, "profiles")) for candidate in found]


def check_column(table: DataFrame, name: str, file: Path) -> None:
    """Refuse a table without a column."""
    if name not in table.columns:
        raise DataError(
            f"the column is missing; there are {', '.join(map(str, table.columns))}",
            mend="name the column that holds it, or add it",
            file=file,
            row=1,
            field=name,
        )


def check_ids(ids: Series, file: Path) -> Series:
    """Strip ids, and refuse missing ones."""
    ids = ids.str.strip()
    fault = ids.str.lower().isin(["", "nan"]).to_numpy()
    if fault.any():
        index = int(fault.argmax())
        raise DataError(
            f"the id is missing (got {ids.iloc[index]!r})",
            mend="write the id, or remove the row",
            file=file,
            row=row_of(index, file),
            field=str(ids.name),
        )
    return ids


def parse_times(cells: Series, file: Path) -> Series:
    """Parse numbers, or dates by ISO 8601."""
    import pandas as pd

    times = pd.to_numeric(cells, errors="coerce")
    if times.isna().all():
        dates = pd.to_datetime(cells, errors="coerce", format="ISO8601", utc=True)
        times = dates.astype("int64").where(dates.notna())
    fault = ~np.isfinite(times.to_numpy(dtype=np.float64, na_value=np.nan))
    if fault.any():
        index = int(fault.argmax())
        raise DataError(
            f"{cells.iloc[index]!r} is not a time",
            mend="write a number or a date by ISO 8601 in every row, or remove the row",
            file=file,
            row=row_of(index, file),
            field=str(cells.name),
        )
    return times
