"""Names that users give, as arguments."""

from __future__ import annotations

from collections.abc import Iterable


def names_of(argument: str, names: Iterable[str]) -> list[str]:
    """Names as a list; one name alone would be taken letter by letter.

    Args:
        argument: What the argument is called.
        names: What was given for it.

    Raises:
        TypeError: If it is one name.
    """
    if isinstance(names, str):
        raise TypeError(
            f"'{argument}' must be a list of names (got {names!r}); write [{names!r}]"
        )
    return list(names)
