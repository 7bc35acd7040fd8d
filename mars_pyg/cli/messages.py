"""A user's mistakes and a library's warnings as messages."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import typer

from mars_pyg.errors import DataError
from mars_pyg.files import user_path


def messages() -> Callable[[Callable[..., None]], Callable[..., None]]:
    """End a command with a message, not a traceback, for a user's mistake.

    Paths may begin with ``~``, which shells leave as it is in ``--run-dir=~/run``.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def command(**options: Any) -> None:
            try:
                function(**{k: _expand(value) for k, value in options.items()})
            except (DataError, OSError, FloatingPointError) as error:
                print(f"mars-pyg: {error}", file=sys.stderr)
                raise typer.Exit(1) from None
            except KeyboardInterrupt:
                print("mars-pyg: interrupted", file=sys.stderr)
                raise typer.Exit(130) from None

        return command

    return decorate


def _expand(value: Any) -> Any:
    return user_path(value) if isinstance(value, Path) else value


def show_warning(message: Warning | str, *rest: Any, **options: Any) -> None:
    """Show a warning to a user: no path, no line of code."""
    print(f"mars-pyg: warning: {message}", file=sys.stderr)
