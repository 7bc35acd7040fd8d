"""Reading yaml files, with faults located."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import yaml

from mars_pyg.errors import DataError


def read_yaml(
    path: str | PathLike[str],
    mend: str,
    loader: type[yaml.SafeLoader] | type[yaml.BaseLoader] = yaml.SafeLoader,
) -> tuple[Any, yaml.Node | None]:
    """Read a yaml file.

    Args:
        path: The file.
        mend: What to do about a file that is not yaml.
        loader: The class of PyYAML that tells what scalars are.
            (default: :obj:`yaml.SafeLoader`)

    Returns:
        The content, and the root of its nodes, which know their lines; both are
        :obj:`None` where the file is empty.

    Raises:
        DataError: If the file is missing, cannot be read or is not yaml.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(
            "the file does not exist", mend="check the path", file=path
        ) from None
    except OSError as error:
        raise DataError(
            f"the file cannot be read: {error.strerror}",
            mend="give a yaml file that you may read",
            file=path,
        ) from None
    except UnicodeDecodeError:
        raise DataError(
            "the file is not UTF-8 text", mend="save it as UTF-8", file=path
        ) from None
    try:
        return yaml.load(text, Loader=loader), yaml.compose(text, Loader=loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise DataError(
            f"the file is not yaml: {getattr(error, 'problem', None) or error}",
            mend=mend,
            file=path,
            row=None if mark is None else mark.line + 1,
        ) from None
    except ValueError as error:
        # Such as the 30th of February, where a day is looked for.
        raise DataError(
            f"a value cannot be read: {error}",
            mend="put the value into quotes",
            file=path,
        ) from None
