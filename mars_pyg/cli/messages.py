"""A user's mistakes and a library's warnings as messages."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from mars_pyg.errors import DataError


@contextmanager
def messages() -> Iterator[None]:
    """End a command with a message, not a traceback, for a user's mistake."""
    try:
        yield
    except (DataError, OSError, FloatingPointError) as error:
        print(f"mars-pyg: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        print("mars-pyg: interrupted", file=sys.stderr)
        raise typer.Exit(130) from None


def show_warning(message: Warning | str, *rest: Any, **options: Any) -> None:
    """Show a warning to a user: no path, no line of code."""
    print(f"mars-pyg: warning: {message}", file=sys.stderr)
