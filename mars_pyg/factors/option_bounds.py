"""Options whose numbers must not be too small."""

from __future__ import annotations

from typing import Any


def check_least(options: Any, **least: int) -> None:
    """Refuse options that are below their least; :obj:`None` is no limit.

    Args:
        options: An object with the options as attributes.
        least: The least of each of them that has one.

    Raises:
        ValueError: If one is below it.
    """
    for name, bound in least.items():
        value = getattr(options, name)
        if value is not None and not value >= bound:
            raise ValueError(f"'{name}' must be at least {bound} (got {value})")
