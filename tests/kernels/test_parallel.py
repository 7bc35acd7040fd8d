"""Threads for kernels that release the GIL."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mars_pyg.kernels.parallel import balanced, run


@given(st.lists(st.integers(0, 50), max_size=30), st.integers(1, 8))
def test_ranges_cover_all_rows(counts: list[int], parts: int) -> None:
    ptr = np.cumsum([0, *counts])
    ranges = balanced(ptr, parts)
    assert [row for low, high in ranges for row in range(low, high)] == list(
        range(len(counts))
    )
    # No range is larger than its share by more than one row.
    share = (sum(counts) + len(counts)) / parts
    for low, high in ranges:
        assert ptr[high] - ptr[low] + high - low <= share + max(counts, default=0) + 2


def test_an_error_in_a_thread_is_raised_when_all_are_done() -> None:
    done = []

    def task(number: int, low: int, high: int) -> None:
        if number == 1:
            raise RuntimeError("in a thread")
        done.append(number)

    with pytest.raises(RuntimeError, match="in a thread"):
        run(task, [(0, 1), (1, 2), (2, 3)])
    assert sorted(done) == [0, 2]


def test_loops_are_compiled_where_nothing_can_be_kept() -> None:
    """As in a container whose user has no folder to write to."""
    pytest.importorskip("numba")
    from mars_pyg.kernels.numba_loops import compiled_loop

    names: dict = {}
    # numba finds no folder for a function that is in no file.
    exec("def double(x):\n    return 2 * x", names)
    assert compiled_loop()(names["double"])(21) == 42
