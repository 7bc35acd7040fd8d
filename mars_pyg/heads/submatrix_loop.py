"""The loop of :class:`~mars_pyg.heads.submatrices.Submatrices`, for numba."""

from __future__ import annotations

import numpy as np

from mars_pyg.kernels.numba_loops import compiled_loop


@compiled_loop()
def fill(
    ptr: np.ndarray,
    index: np.ndarray,
    value: np.ndarray,
    item: np.ndarray,
    place: np.ndarray,
    matrix: np.ndarray,
) -> None:
    """Write the entries between the items of each row.

    Args:
        ptr: Row pointers ``[N + 1]``.
        index: The column of each entry ``[E]``.
        value: The entries ``[E]``.
        item: The items of each matrix, -1 for none ``[b, m]``.
        place: -1 for each item ``[N]``, and so again at the end.
        matrix: Zeros ``[b, m, m]``, to be filled.
    """
    size, width = item.shape
    for block in range(size):
        for row in range(width):
            if item[block, row] >= 0:
                place[item[block, row]] = row
        for row in range(width):
            own = item[block, row]
            if own >= 0:
                for entry in range(ptr[own], ptr[own + 1]):
                    column = place[index[entry]]
                    if column >= 0:
                        matrix[block, row, column] = value[entry]
        for row in range(width):
            if item[block, row] >= 0:
                place[item[block, row]] = -1
