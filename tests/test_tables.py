from __future__ import annotations

import csv
import datetime
import logging
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mars_pyg.errors import DataError
from mars_pyg.tables import (
    check_column,
    check_repeated_header,
    read_table,
    row_of,
    write_table,
)


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


@pytest.mark.parametrize("suffix", [".jsonl", ".XLSX"])
def test_files_of_other_kinds(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"items{suffix}"
    file.write_text('{"id": "a"}\n{"id": "b"}\n')
    with pytest.raises(DataError, match="csv, tsv or parquet"):
        read_table(file)


def test_parquet_with_a_column_twice(tmp_path: Path) -> None:
    columns = [pa.array(["1"]), pa.array(["2"])]
    pq.write_table(pa.Table.from_arrays(columns, ["a", "a"]), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="field 'a': two columns have the same name"):
        read_table(tmp_path / "t.parquet")


def test_parquet_column_that_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "table.parquet"
    pq.write_table(pa.table({"nested": [{"a": 1}]}), file)
    with pytest.raises(DataError, match="cannot be read as text") as caught:
        read_table(file, ["nested"])
    assert caught.value.field == "nested"


def test_repeated_header(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_text("a,b\n1,a\n\na,b\n")
    with pytest.raises(DataError, match="header is repeated") as caught:
        check_repeated_header(read_table(file), file)
    assert caught.value.row == 4
    file.write_text("a,b\na,1\n")
    check_repeated_header(read_table(file), file)


@pytest.mark.parametrize(
    ("kind", "cells", "texts"),
    [
        (pa.large_list(pa.large_string()), [["x", "y"], ["x", None]], ["x|y", "x"]),
        (pa.list_(pa.large_string()), [["x", "y"], None], ["x|y", ""]),
        (pa.list_(pa.string(), 2), [["x", "y"], None], ["x|y", ""]),
        (pa.list_(pa.dictionary(pa.int32(), pa.string())), [["x"], []], ["x", ""]),
        (pa.list_(pa.int64()), [[1, 2], [None]], ["1|2", ""]),
        (pa.list_(pa.null()), [[], []], ["", ""]),
    ],
)
def test_kinds_of_parquet_lists(
    tmp_path: Path, kind: pa.DataType, cells: list[object], texts: list[str]
) -> None:
    file = tmp_path / "table.parquet"
    pq.write_table(pa.table({"tags": pa.array(cells, kind)}), file)
    assert read_table(file)["tags"].tolist() == texts


def test_parquet_columns_that_are_no_text_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "table.parquet"
    columns = {
        "id": ["a"],
        "vector": [[0.5, 1.5]],
        "struct": [{"a": 1}],
        "image": [b"\xff\xd8"],
    }
    pq.write_table(pa.table(columns), file)
    with caplog.at_level(logging.INFO, "mars_pyg"):
        table = read_table(file, ["id"])
    assert table.to_dict("list") == {"id": ["a"]}
    assert "vector, struct, image" in caplog.text
    for name, kind in [("vector", "list"), ("struct", "struct"), ("image", "binary")]:
        words = f"column of type {kind}.* cannot be read as text"
        with pytest.raises(DataError, match=words) as caught:
            read_table(file, [name])
        assert caught.value.field == name
        with pytest.raises(DataError, match=words):
            check_column(table, name, file)
    with pytest.raises(DataError, match="column is missing"):
        check_column(table, "title", file)


def test_large_whole_numbers_in_parquet_have_no_exponent(tmp_path: Path) -> None:
    file = tmp_path / "table.parquet"
    code = pa.array([4006381333931.0, None, -1e15, 2.0**60, 1.25e-7, float("inf")])
    pq.write_table(pa.table({"code": code, "kind": code.dictionary_encode()}), file)
    numbers = ["4006381333931", "", "-1000000000000000"]
    others = ["1.152921504606847e+18", "1.25e-7", "inf"]
    for name in ("code", "kind"):
        assert read_table(file)[name].tolist() == numbers + others


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()])
def test_nan_in_parquet_is_missing(tmp_path: Path, kind: pa.DataType) -> None:
    file = tmp_path / "table.parquet"
    price = pa.array([float("nan"), None, 1.5], kind)
    pq.write_table(pa.table({"price": price}), file)
    assert read_table(file)["price"].tolist() == ["", "", "1.5"]


def test_row_of_behind_a_long_field(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_text(f"id,title\na,{'x' * 200_000}\n\nb,y\n")
    limit = csv.field_size_limit()
    assert row_of(1, file) == 4
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ('id;"price, EUR";title\n', ["id", "price, EUR", "title"]),
        ("\nid;title\n", ["id", "title"]),
        (" \r\nid\ttitle\r\n", ["id", "title"]),
        ('id,"a; b",title\n', ["id", "a; b", "title"]),
        ('"id";"a, b, c, d";"e"\n', ["id", "a, b, c, d", "e"]),
        ('id,"a; ""b""; c; d"\n', ["id", 'a; "b"; c; d']),
        ('"a,\nb,";c\n', ["a,\nb,", "c"]),
    ],
)
def test_sign_that_parts_the_header(
    tmp_path: Path, header: str, names: list[str]
) -> None:
    file = tmp_path / "table.csv"
    file.write_bytes(b"\xef\xbb\xbf" + header.encode())
    assert list(read_table(file).columns) == names


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".parquet"])
def test_written_tables_are_read_again(tmp_path: Path, suffix: str) -> None:
    table = pd.DataFrame({"id": ["a", "b"], "x\ty": ["c\rd", ""], "z": ['"e, ', "\n"]})
    write_table(table, tmp_path / f"table{suffix}")
    assert read_table(tmp_path / f"table{suffix}").equals(table)
