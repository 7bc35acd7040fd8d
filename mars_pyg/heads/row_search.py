"""Finding entries of a sparse matrix in compressed rows."""

from __future__ import annotations

import torch
from torch import Tensor


def find_entries(ptr: Tensor, index: Tensor, row: Tensor, column: Tensor) -> Tensor:
    r"""Find entries of a sparse matrix by binary search in their rows.

    Time is :math:`\mathcal{O}(P \log n)` for rows of at most :math:`n` entries,
    whatever the size of the matrix.

    Args:
        ptr: Where each row starts ``[R + 1]``, int64.
        index: The columns of the entries ``[E]``, ascending within a row.
        row: The row of each entry to find ``[P]``, int64.
        column: The column of each entry to find ``[P]``.

    Returns:
        The place of each entry in :obj:`index` ``[P]``, int64; -1 where there is none.
    """
    if not row.numel() or not index.numel():
        return torch.full_like(row, -1)
    low, stop = ptr[row], ptr[row + 1]
    high = stop
    for _ in range(int((stop - low).max()).bit_length()):
        middle = (low + high).div_(2, rounding_mode="floor")
        # An empty interval is left as it is: its middle may be beyond the row.
        open_ = low < high
        below = index[middle.clamp(max=index.numel() - 1)] < column
        low = torch.where(open_ & below, middle + 1, low)
        high = torch.where(open_ & ~below, middle, high)
    found = index[low.clamp(max=index.numel() - 1)] == column
    return torch.where(found & (low < stop), low, -1)
