"""Threads for kernels that release the GIL."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import numpy as np
import torch

#: Work of less than this many numbers is not worth another thread.
MIN_WORK = 2**17


def num_threads(work: int) -> int:
    """The number of threads for some work, at most that of torch.

    Args:
        work: How many numbers are read, about.
    """
    return max(1, min(torch.get_num_threads(), work // MIN_WORK))


def balanced(ptr: np.ndarray, parts: int) -> list[tuple[int, int]]:
    """Cut rows into ranges of about as many entries, rows counted as one more.

    Args:
        ptr: Row pointers ``[R + 1]``.
        parts: The number of ranges.

    Returns:
        The first row of each range, and the one behind its last.
    """
    num_rows = len(ptr) - 1
    total = int(ptr[-1]) + num_rows
    cuts = [
        bisect_left(range(num_rows), total * part // parts, key=lambda r: ptr[r] + r)
        for part in range(1, parts)
    ]
    cuts = [0, *cuts, num_rows]
    return list(pairwise(cuts))


def run(task: Callable[[int, int, int], None], ranges: list[tuple[int, int]]) -> None:
    """Run a task on ranges of rows, all at once.

    Args:
        task: Takes the number of the range, its first row and the one behind its last.
        ranges: The ranges; the calling thread does the first one.
    """
    if not ranges:
        return
    others = [
        _pool(os.getpid()).submit(task, number, low, high)
        for number, (low, high) in enumerate(ranges[1:], start=1)
    ]
    try:
        task(0, *ranges[0])
    finally:
        # Arrays must not be let go while a thread writes to them.
        for other in others:
            other.exception()
    for other in others:
        other.result()


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """The threads of a process: a fork has none of its parent's."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="mars_pyg")
