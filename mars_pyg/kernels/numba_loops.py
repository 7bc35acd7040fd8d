"""Loops that numba compiles, and keeps on disk where there is a place for them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from numba import njit

logger = logging.getLogger(__name__)


def compiled_loop() -> Callable[[Callable], Any]:
    """Like :func:`numba.njit`, with the GIL released and infinity for 1 / 0.

    What is compiled is kept for the next process beside the source or in the user's
    cache folder; where neither can be written, every process compiles anew.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}

    def decorate(function: Callable) -> Any:
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError as error:
            logger.debug("compiled in every process anew: %s", error)
            return njit(**options)(function)

    return decorate
