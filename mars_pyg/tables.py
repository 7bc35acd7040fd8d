"""Reading tables of text from csv, tsv and parquet files, with faults located."""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mars_pyg.errors import DataError
from mars_pyg.files import atomic_path

if TYPE_CHECKING:
    from pandas import DataFrame, Series

logger = logging.getLogger(__name__)

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")
#: Files of tables in forms that are not read, which would pass for text of tabs.
_OTHERS = {".json", ".jsonl", ".ndjson", ".xls", ".xlsx", ".ods"}
#: Characters of a file in which its header is looked for.
MAX_HEADER = 2**16
#: From here on fractions are not exact.
MAX_WHOLE = 2**53


def read_table(path: str | PathLike[str], required: Sequence[str] = ()) -> DataFrame:
    r"""Read a table as columns of strings, where the empty string means missing.

    The kind of file is told by its name: ``.parquet`` or ``.pq``, ``.csv`` (comma,
    semicolon or tab, whichever parts the header into most fields), and anything else
    is separated by tabs. Text files are UTF-8 with a header, quoted as Python's
    :mod:`csv` does by default; fields missing at the end of a row are empty.
    A parquet column of lists becomes one string per row, joined by ``|``. Parquet
    columns that are no text, such as vectors, are left out, which is logged.

    Args:
        path: The file to read.
        required: Columns that must be there. (default: :obj:`()`)

    Returns:
        A :class:`pandas.DataFrame` of strings without missing values.

    Raises:
        DataError: If the file is missing, empty, of another kind, not UTF-8 or not a
            regular table, or if a column is missing, unnamed, there twice or, where
            required, no text.
    """
    file = Path(path)
    if not file.is_file():
        raise DataError(
            "there is no such file", mend="check the path of the file", file=file
        )
    if file.suffix.lower() in _OTHERS:
        raise DataError(
            f"a file {file.suffix} is no table that can be read",
            mend="save it as csv, tsv or parquet",
            file=file,
        )
    frame = _read_parquet(file) if is_parquet(file) else _read_text(file)
    names = list(frame.columns)
    for position, name in enumerate(names):
        if not name:
            raise DataError(
                f"column {position + 1} has no name",
                mend="name every column in the header",
                file=file,
                row=1,
            )
        if name in names[:position]:
            raise _repeated_column(file, name)
    for name in required:
        if name not in names:
            check_text(name, file)
            raise DataError(
                f"the column is missing; the header has {', '.join(names)}",
                mend=f"add the column {name!r} or rename the one that holds it",
                file=file,
                row=None if is_parquet(file) else 1,
                field=name,
            )
    return frame


def _repeated_column(file: Path, name: str) -> DataError:
    return DataError(
        "two columns have the same name",
        mend="rename or remove one of them",
        file=file,
        row=None if is_parquet(file) else 1,
        field=name,
    )


def whole_characters(text: str) -> str:
    """Replace halves of characters, as json may hold, which no file can.

    Characters beyond the first plane are written as two halves, of which a text that
    was cut ends in one.
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def write_table(table: DataFrame, path: str | PathLike[str]) -> None:
    """Write a table as a file that :func:`read_table` understands.

    Args:
        table: The table; its index is not written.
        path: The file to write, csv, tsv or parquet by its name; it takes the place of
            an older one.
    """
    with atomic_path(path) as temporary:
        if is_parquet(path):
            table.to_parquet(temporary, index=False, compression="zstd")
            return
        sign = "," if Path(path).suffix.lower() == ".csv" else "\t"
        text = table.to_csv(sep=sign, index=False, lineterminator="\n")
        if "\r" in text:
            # Unless it is quoted, a carriage return in a cell ends the row.
            text = table.to_csv(
                sep=sign, index=False, lineterminator="\n", quoting=csv.QUOTE_ALL
            )
        temporary.write_text(text, "utf-8", newline="")


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


def check_repeated_header(
    frame: DataFrame, file: str | PathLike[str] | None = None
) -> None:
    """Raise a :class:`DataError` if a row of a table repeats its header.

    Args:
        frame: A table of strings.
        file: The file it was read from. (default: :obj:`None`)
    """
    if not len(frame.columns) or not len(frame):
        return
    repeated = (frame == list(frame.columns)).all(axis=1).to_numpy()
    if repeated.any():
        raise DataError(
            "the header is repeated inside the table",
            mend="remove the line, as is left over when files are joined",
            file=file,
            row=row_of(int(repeated.argmax()), file),
        )


def check_column(table: DataFrame, name: str, file: str | PathLike[str]) -> None:
    """Refuse a table without a column."""
    if name not in table.columns:
        check_text(name, file)
        raise DataError(
            f"the column is missing; there are {', '.join(map(str, table.columns))}",
            mend="name the column that holds it, or add it",
            file=file,
            row=None if is_parquet(file) else 1,
            field=name,
        )


def check_text(name: str, file: str | PathLike[str] | None) -> None:
    """Refuse a parquet file's column that :func:`read_table` left out as no text.

    Args:
        name: A column that the table lacks.
        file: The file that the table was read from.

    Raises:
        DataError: If the column is in the file.
    """
    if file is None or not is_parquet(file) or not Path(file).is_file():
        return
    import pyarrow.parquet as pq

    schema = pq.read_schema(file)
    if name in schema.names:
        raise DataError(
            f"a column of type {schema.field(name).type} cannot be read as text",
            mend="store the column as strings, numbers, or lists of strings or of "
            "whole numbers",
            file=file,
            field=name,
        )


def check_ids(ids: Series, file: str | PathLike[str]) -> Series:
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


def check_unique(table: DataFrame, name: str, file: str | PathLike[str]) -> None:
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


def row_of(index: int, file: str | PathLike[str] | None = None) -> int:
    """Find the row of a record, counted as an editor counts lines.

    Quoted fields may hold line breaks and blank lines are passed over, so a text file
    is read again up to the record. This is for error messages only.

    Args:
        index: The position of the record in the table, from zero.
        file: The file that the table was read from. (default: :obj:`None`)

    Returns:
        The row, where the header is row 1.
    """
    if file is None or is_parquet(file):
        return index + 2
    with _records(file, delimiter(file)) as reader:
        start, seen = 1, -1
        for record in reader:
            if not _is_blank(record):
                if seen == index:
                    return start
                seen += 1
            start = reader.line_num + 1
    return index + 2


def is_parquet(path: str | PathLike[str]) -> bool:
    """Tell by its name whether a file is a parquet file."""
    return Path(path).suffix.lower() in {".parquet", ".pq"}


def delimiter(path: str | PathLike[str]) -> str:
    """Tell what separates the fields of a text file, by its name and its header.

    Spreadsheets write ``.csv`` with semicolons where the comma is the decimal point.
    """
    if Path(path).suffix.lower() != ".csv":
        return "\t"
    if not Path(path).is_file():
        return ","
    with open(path, encoding="utf-8-sig", errors="replace") as stream:
        start = stream.read(MAX_HEADER).lstrip(" \n")
    # What is in quotes parts nothing, be it a sign or the end of a line.
    header = re.sub(r'"[^"]*"?', "", start).partition("\n")[0]
    return max(",;\t", key=header.count)


def _is_blank(record: list[str]) -> bool:
    return len(record) < 2 and not any(field.strip() for field in record)


@contextmanager
def _records(path: str | PathLike[str], sign: str) -> Iterator[Any]:
    """Open a text file as a reader of records, whose fields may have any length."""
    limit = csv.field_size_limit(2**31 - 1)
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            yield csv.reader(stream, delimiter=sign)
    finally:
        csv.field_size_limit(limit)


def _read_text(file: Path) -> DataFrame:
    import pandas as pd

    try:
        # Without a header of its own pandas takes the first line for the number of
        # columns and reports longer ones, instead of reading them as an index.
        frame = pd.read_csv(
            file,
            sep=delimiter(file),
            header=None,
            dtype=str,
            na_filter=False,
            encoding="utf-8-sig",
        )
    except UnicodeDecodeError as error:
        raise broken_encoding(file) from error
    except pd.errors.EmptyDataError as error:
        raise DataError(
            "the file is empty", mend="write a header and records into it", file=file
        ) from error
    except pd.errors.ParserError as error:
        line = re.search(r"in line (\d+)", str(error))
        raise DataError(
            f"the table cannot be read: {str(error).strip()}",
            mend="give every row as many fields as the header, and close every quote",
            file=file,
            row=int(line.group(1)) if line else None,
        ) from error
    frame.columns = frame.iloc[0].str.strip().to_list()
    return frame.iloc[1:].reset_index(drop=True)


def broken_encoding(file: str | PathLike[str]) -> DataError:
    """Make the error for a text file that is not UTF-8, naming its first bad row."""
    row = None
    with open(file, "rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                row = number
                break
    return DataError(
        "the text is not UTF-8", mend="save the file as UTF-8", file=file, row=row
    )


def _join_lists(column: Any) -> Any:
    """The entries of each list with bars between them, without those that are null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pc.list_flatten(column).null_count == 0:
        return pc.binary_join(column, "|")
    lists = [
        None if cell is None else [entry for entry in cell if entry is not None]
        for cell in column.to_pylist()
    ]
    return pc.binary_join(pa.array(lists, column.type), "|")


def _whole_numbers(column: Any) -> Any:
    """Fractions that are whole numbers as these are written, and else nulls.

    Tables with a missing number make fractions of all, and large ones get exponents.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    column = column.cast(pa.float64())
    is_whole = pc.and_(
        pc.equal(pc.floor(column), column), pc.less(pc.abs(column), MAX_WHOLE)
    )
    none = pa.scalar(None, pa.float64())
    return pc.if_else(is_whole, column, none).cast(pa.int64()).cast(pa.string())


def _as_text(column: Any) -> Any:
    """A parquet column as strings and nulls; :obj:`None` if it cannot be text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    try:
        if pa.types.is_dictionary(kind):
            return _as_text(column.cast(kind.value_type))
        if pa.types.is_nested(kind):
            # Lists of fractions are vectors, which would be long texts of no use.
            if pa.types.is_floating(getattr(kind, "value_type", kind)):
                return None
            # Lists of other lengths or entries than these cannot be joined.
            return _join_lists(column.cast(pa.list_(pa.string())))
        if pa.types.is_floating(kind):
            column = pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column)
            return pc.coalesce(_whole_numbers(column), column.cast(pa.string()))
        return column.cast(pa.string())
    except pa.ArrowException:
        return None


def _read_parquet(file: Path) -> DataFrame:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        names = pq.read_schema(file).names
        repeated = [name for name in names if names.count(name) > 1]
        # Two columns of one name cannot be read.
        table = None if repeated else pq.read_table(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"the file is not parquet: {error}", mend="write it again", file=file
        ) from error
    if table is None:
        raise _repeated_column(file, repeated[0])
    columns, left_out = {}, []
    for name, column in zip(table.column_names, table.columns, strict=True):
        text = _as_text(column)
        if text is None:
            left_out.append(name)
        else:
            columns[name] = pc.fill_null(text, "")
    if left_out:
        logger.info("%s: columns left out as no text: %s", file, ", ".join(left_out))
    return pa.table(columns).to_pandas().astype(str)
