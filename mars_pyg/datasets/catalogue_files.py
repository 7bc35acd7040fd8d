"""Reading what the files of a catalogue hold: ids, times, features, factors."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mars_pyg.errors import DataError
from mars_pyg.factors import FactorProfiles, FactorSchema
from mars_pyg.factors.schema import SEPARATOR
from mars_pyg.tables import check_column, row_of

if TYPE_CHECKING:
    from pandas import DataFrame, Series

logger = logging.getLogger(__name__)

#: The modality of the profiles that factor columns become.
CATALOGUE = "catalogue"
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


def check_features(x: Tensor, file: Path, items_file: Path, num_items: int) -> None:
    """Refuse features that are not a finite row for each of the items."""
    if x.dim() != 2 or x.size(0) != num_items or not x.size(1):
        raise DataError(
            f"expected the shape [{num_items}, D], got {list(x.shape)}",
            mend=f"write one row per record of {items_file.name}, in the same order",
            file=file,
        )
    broken = ~x.isfinite().all(dim=1)
    if broken.any():
        index = int(broken.nonzero()[0])
        raise DataError(
            f"row {index} of the matrix holds NaN or infinite numbers, one of "
            f"{int(broken.sum())}",
            mend="replace them; a row of zeros stands for a missing feature",
            file=file,
        )


def find_images(cells: Series, folder: Path, file: Path) -> list[str]:
    """The paths of images, each of which must be there; empty where there is none."""
    paths = []
    for index, cell in enumerate(cells.str.strip()):
        path = folder / cell if cell else None
        if path is not None and not path.is_file():
            raise DataError(
                f"there is no image {cell!r}",
                mend="correct the path, which is relative to the folder, or leave "
                "the field empty",
                file=file,
                row=row_of(index, file),
                field=str(cells.name),
            )
        paths.append("" if path is None else str(path))
    return paths


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


def read_all_profiles(
    folders: Sequence[tuple[Path, Path]], item_ids: Sequence[str], id_column: str
) -> dict[str, FactorProfiles]:
    """Read the profiles that :func:`find_profiles` found, by their modality."""
    profiles: dict[str, FactorProfiles] = {}
    for folder, table in folders:
        for modality, entry in read_profiles(
            folder, item_ids, id_column, table
        ).items():
            if modality in profiles:
                raise DataError(
                    f"there are two profiles of the modality {modality!r}",
                    mend="keep one folder of profiles per modality",
                    file=folder,
                )
            profiles[modality] = entry
    return profiles


def column_profiles(
    items: DataFrame,
    columns: Sequence[str],
    id_column: str,
    file: Path,
) -> FactorProfiles:
    """Take columns of the items for profiles, in the order of the items.

    Raises:
        DataError: If a column is missing or that of the ids, or a value is ``nan``,
            which would link items that have nothing in common.
    """
    if id_column in columns:
        raise DataError(
            "the column of the ids cannot be a factor",
            mend="take it out of factor_columns",
            file=file,
            field=id_column,
        )
    for name in columns:
        check_column(items, name, file)
        values = items[name].str.lower().str.split(SEPARATOR, regex=False).explode()
        missing = values.index[values.str.strip() == "nan"]
        if len(missing):
            raise DataError(
                f"the value is missing (got {items[name].iloc[missing[0]]!r})",
                mend="leave the field of a missing value empty",
                file=file,
                row=row_of(int(missing[0]), file),
                field=name,
            )
    return FactorProfiles.from_columns(
        items,
        columns,
        items[id_column].tolist(),
        id_column,
        multiple=columns,
        modality=CATALOGUE,
        file=file,
    )


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
    for candidate in found:
        if not (candidate / "schema.json").is_file():
            raise DataError(
                "there are profiles without a schema",
                mend="write schema.json, which says what their columns are",
                file=candidate / "schema.json",
            )
    return [(candidate, find_table(candidate, "profiles")) for candidate in found]


def log_unread(table: DataFrame, read: Sequence[str], file: Path) -> None:
    """Log the columns of a table that are not read."""
    others = [str(name) for name in table.columns if name not in read]
    if others:
        logger.info("%s: columns not read: %s", file, ", ".join(others))


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
