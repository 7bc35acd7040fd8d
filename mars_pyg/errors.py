"""The errors that a user's input can raise."""

from __future__ import annotations

from os import PathLike


class DataError(ValueError):
    """An input file or table that cannot be used as it is.

    The message says where the fault is and how to mend it:
    ``reviews.csv, row 17, field 'item': unknown item 'B00X'. Mend: …``.

    Args:
        problem: What is wrong, in one sentence without the closing full stop.
        mend: What the user can do about it.
        file: The file at fault.
        row: The row at fault, counted as an editor counts lines: the header of a
            table is row 1, its first record row 2.
        field: The column, key or array at fault.
    """

    def __init__(
        self,
        problem: str,
        *,
        mend: str,
        file: str | PathLike[str] | None = None,
        row: int | None = None,
        field: str | None = None,
    ) -> None:
        self.problem, self.mend = problem, mend
        self.file = None if file is None else str(file)
        self.row, self.field = row, field
        where = [] if self.file is None else [self.file]
        if row is not None:
            where.append(f"row {row}")
        if field is not None:
            where.append(f"field {field!r}")
        prefix = f"{', '.join(where)}: " if where else ""
        super().__init__(f"{prefix}{problem}. Mend: {mend}")
