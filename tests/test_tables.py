from __future__ import annotations

import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mars_pyg.errors import DataError
from mars_pyg.tables import check_repeated_header, read_table, row_of


def test_read_text(tmp_path: Path) -> None:
    file = tmp_path / "table.tsv"
    file.write_bytes(
        '\ufeffid\tname\tnote\r\n1\tNA\t\r\n\r\n2\t"a\nb"\tnull\r\n3\tcafé\n'.encode()
    )
    table = read_table(file)
    assert list(table.columns) == ["id", "name", "note"]
    assert table.to_numpy().tolist() == [
        ["1", "NA", ""],
        ["2", "a\nb", "null"],
        ["3", "café", ""],
    ]
    # The second record starts on line 4, behind a blank one, and ends on line 5.
    assert [row_of(index, file) for index in range(3)] == [2, 4, 6]


def test_read_csv_uses_commas(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_text('id,name\n1,"a, b"\n')
    assert read_table(file).to_numpy().tolist() == [["1", "a, b"]]


@pytest.mark.parametrize("sign", [";", "\t"])
def test_read_csv_of_a_spreadsheet(tmp_path: Path, sign: str) -> None:
    file = tmp_path / "table.csv"
    text = '\ufeffid;name;price\r\n1;"a; b,\nc";1,5\r\n2;d;2\r\n3;e;x\r\n'
    file.write_bytes(text.replace(";", sign).encode())
    assert read_table(file, ["price"]).to_numpy().tolist() == [
        ["1", f"a{sign} b,\nc", "1,5"],
        ["2", "d", "2"],
        ["3", "e", "x"],
    ]
    assert [row_of(index, file) for index in range(3)] == [2, 4, 5]


def test_read_csv_of_one_column(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_text("id\na\n")
    assert read_table(file).to_numpy().tolist() == [["a"]]


def test_read_parquet(tmp_path: Path) -> None:
    file = tmp_path / "table.parquet"
    day = datetime.date(2014, 7, 1)
    pq.write_table(
        pa.table(
            {
                "id": pa.array([1, None]),
                "name": pa.array(["a", None]).dictionary_encode(),
                "tags": [["x", "y"], []],
                "day": [day, None],
            }
        ),
        file,
    )
    assert read_table(file).to_numpy().tolist() == [
        ["1", "a", "x|y", "2014-07-01"],
        ["", "", "", ""],
    ]
    assert row_of(1, file) == 3


@pytest.mark.parametrize(
    ("content", "row", "field", "words"),
    [
        (b"", None, None, "empty"),
        (b"a\tb\n1\t2\n\xff\t3\n", 3, None, "UTF-8"),
        (b"a\tb\n1\t2\t3\n", 2, None, "cannot be read"),
        (b'a\tb\n1\t"2\n', None, None, "cannot be read"),
        (b"a\ta\n1\t2\n", 1, "a", "same name"),
        (b"a\t\n1\t2\n", 1, None, "column 2 has no name"),
        (b"a\tc\n1\t2\n", 1, "b", "missing"),
    ],
)
def test_faults(
    tmp_path: Path, content: bytes, row: int | None, field: str | None, words: str
) -> None:
    file = tmp_path / "table.tsv"
    file.write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        read_table(file, ["b"])
    assert caught.value.file == str(file)
    assert (caught.value.row, caught.value.field) == (row, field)


def test_nulls_within_parquet_lists(tmp_path: Path) -> None:
    file = tmp_path / "table.parquet"
    tags = [["x", None], ["x", "y"], [None], None, []]
    pq.write_table(pa.table({"tags": pa.array(tags, pa.list_(pa.string()))}), file)
    assert read_table(file)["tags"].tolist() == ["x", "x|y", "", "", ""]


def test_missing_file_and_broken_parquet(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_table(tmp_path / "none.csv")
    (tmp_path / "broken.parquet").write_text("id,name\n")
    with pytest.raises(DataError, match="not parquet"):
        read_table(tmp_path / "broken.parquet")


def test_parquet_column_that_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "table.parquet"
    pq.write_table(pa.table({"nested": [{"a": 1}]}), file)
    with pytest.raises(DataError, match="cannot be read as text") as caught:
        read_table(file)
    assert caught.value.field == "nested"


def test_repeated_header(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_text("a,b\n1,a\n\na,b\n")
    with pytest.raises(DataError, match="header is repeated") as caught:
        check_repeated_header(read_table(file), file)
    assert caught.value.row == 4
    file.write_text("a,b\na,1\n")
    check_repeated_header(read_table(file), file)
