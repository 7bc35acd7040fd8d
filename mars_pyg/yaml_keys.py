"""Flat yaml files, with faults located."""

from __future__ import annotations

from collections.abc import Callable, Container
from os import PathLike
from pathlib import Path
from typing import Any

import yaml

from mars_pyg.errors import DataError
from mars_pyg.yaml_files import read_yaml

MEND = "write one 'key: value' a line"


def read_keys(
    path: str | PathLike[str], known: Container[str], suggest: Callable[[str], str]
) -> dict[str, Any]:
    """Read a yaml file of keys and values.

    Args:
        path: The file to read.
        known: The keys that may be there.
        suggest: Says what to do about a key that may not.

    Returns:
        The keys and their values, which are not checked; none for an empty file.

    Raises:
        DataError: If the file cannot be read as a mapping of known keys.
    """
    content, node = read_yaml(path, MEND)
    if content is None or node is None:
        return {}
    if not isinstance(content, dict):
        raise DataError(
            "the file does not hold keys and values",
            mend=MEND,
            file=path,
        )
    seen: set[str] = set()
    for key, _ in node.value:
        row, name = key.start_mark.line + 1, str(key.value)
        if name not in known:
            raise DataError(
                "unknown key", mend=suggest(name), file=path, row=row, field=name
            )
        if name in seen:
            raise DataError(
                "the key is there twice",
                mend="keep one of the two",
                file=path,
                row=row,
                field=name,
            )
        seen.add(name)
    return content


def row_of_key(path: str | PathLike[str], name: str, value: object) -> int | None:
    """Find the row where a file that :func:`read_keys` read gives a key this value.

    Returns:
        The row; :obj:`None` if the key is not there or has another value.
    """
    text = Path(path).read_text(encoding="utf-8")
    content, node = yaml.safe_load(text), yaml.compose(text, Loader=yaml.SafeLoader)
    if node is None or name not in content or content[name] != value:
        return None
    rows = {str(key.value): key.start_mark.line + 1 for key, _ in node.value}
    return rows[name]
