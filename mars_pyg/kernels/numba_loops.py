"""Loops that numba compiles, and keeps on disk where there is a place for them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from numba import njit

logger = logging.getLogger(__name__)


def compiled_loop(**options: Any) -> Callable[[Callable], Any]:
    """Like :func:`numba.njit`, with the GIL released for threads.

    What is compiled is kept for the next process beside the source or in the user's
    cache folder; where neither can be written, every process compiles anew.

    Args:
        options: Further options of :func:`numba.njit`.
    """

    def decorate(function: Callable) -> Any:
        try:
            return njit(nogil=True, cache=True, **options)(function)
        except RuntimeError as error:
            logger.debug("compiled in every process anew: %s", error)
            return njit(nogil=True, **options)(function)

    return decorate
