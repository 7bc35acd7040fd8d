"""Reading what the files of a catalogue hold: ids, times, features, factors."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from os.path import isfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from mars_pyg.errors import DataError
from mars_pyg.factors import FactorProfiles
from mars_pyg.tables import check_column, row_of

if TYPE_CHECKING:
    from pandas import DataFrame, Series

logger = logging.getLogger(__name__)

#: The modality of the profiles that factor columns become.
CATALOGUE = "catalogue"
#: Characters of a cell that a message shows.
MAX_SHOWN = 100


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
        # What is too long for a path, such as the picture itself, is none.
        if path is not None and not isfile(path):
            raise DataError(
                f"there is no image {cell[:MAX_SHOWN]!r}",
                mend="correct the path, which is relative to the folder, or leave "
                "the field empty",
                file=file,
                row=row_of(index, file),
                field=str(cells.name),
            )
        paths.append("" if path is None else str(path))
    return paths


def column_profiles(
    items: DataFrame,
    columns: Sequence[str],
    id_column: str,
    file: Path,
) -> FactorProfiles:
    """Take columns of the items for profiles, in the order of the items.

    Raises:
        DataError: If a column is missing or that of the ids, or a value is ``nan``.
    """
    for name in columns:
        check_column(items, name, file)
    return FactorProfiles.from_columns(
        items,
        columns,
        items[id_column].tolist(),
        id_column,
        multiple=columns,
        modality=CATALOGUE,
        file=file,
    )


def log_unread(table: DataFrame, read: Sequence[str], file: Path) -> None:
    """Log the columns of a table that are not read."""
    others = [str(name) for name in table.columns if name not in read]
    if others:
        logger.info("%s: columns not read: %s", file, ", ".join(others))


def parse_times(cells: Series, file: Path) -> Series:
    """Parse numbers, or dates by ISO 8601."""
    import pandas as pd

    cells = cells.str.strip()
    times = pd.to_numeric(cells, errors="coerce")
    fault = _not_finite(times)
    if fault.any():
        dates = pd.to_datetime(cells, errors="coerce", format="ISO8601", utc=True)
        # A bare year is a number too, so that dates may be numbers in part.
        if dates.isna().sum() < fault.sum():
            times = dates.astype("int64").where(dates.notna())
            fault = _not_finite(times)
    if fault.any():
        index = int(fault.argmax())
        raise DataError(
            f"{cells.iloc[index]!r} is not a time",
            mend="write numbers in all rows or dates by ISO 8601 in all, or remove the "
            "row",
            file=file,
            row=row_of(index, file),
            field=str(cells.name),
        )
    return times


def _not_finite(times: Series) -> np.ndarray:
    return ~np.isfinite(times.to_numpy(dtype=np.float64, na_value=np.nan))
