from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from mars_pyg.datasets.catalogue_files import parse_times
from mars_pyg.errors import DataError

FILE = Path("interactions.parquet")


def parse(cells: list[str]) -> list[float]:
    return parse_times(pd.Series(cells, name="when"), FILE).tolist()


def test_numbers_stay_numbers() -> None:
    assert parse(["2021", "2020", "7.5"]) == [2021, 2020, 7.5]


def test_spaces_around_times_mean_nothing() -> None:
    for cells in (["7", "5"], ["2021-03-01", "2020-01-01T10:00"]):
        assert parse([f" {cell}  " for cell in cells]) == parse(cells)


def test_a_bare_year_among_dates() -> None:
    times = parse(["2020", "2021-03", "2022-01-01", "2021-03-01T00:00:01Z"])
    assert sorted(times) == [times[0], times[1], times[3], times[2]]
    assert times[0] == parse(["2020-01-01T00:00:00.0", "2021-03-01"])[0]


@pytest.mark.parametrize(
    ("cells", "row"),
    [
        (["2020", "2021-03", "soon"], 4),
        (["2020", "2021", "soon"], 4),
        (["50", "60", "NaN"], 4),
        (["1404172800", "", "1404172801"], 3),
        (["2021-03", "2021-03-32", "2021-05"], 3),
        (["soon", "later"], 2),
        (["1", "inf"], 3),
    ],
)
def test_a_broken_time_is_named(cells: list[str], row: int) -> None:
    with pytest.raises(DataError, match="is not a time") as caught:
        parse(cells)
    assert (caught.value.row, caught.value.field) == (row, "when")
    assert repr(cells[row - 2]) in str(caught.value)
