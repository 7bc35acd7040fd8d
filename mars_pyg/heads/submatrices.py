"""Small dense matrices out of a large sparse one."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from mars_pyg.user_items import UserItems


class Submatrices:
    """Takes the entries between some items out of a sparse matrix, by blocks.

    With numba installed a loop does it, and else a table of where each item stands:
    results are the same.

    Args:
        rows: The columns of the entries of each row, a square matrix.
        value: The entries ``[E]``.
        size: Number of matrices of a block, at most.
    """

    def __init__(self, rows: UserItems, value: Tensor, size: int) -> None:
        self.rows, self.value = rows, value
        self._loop: Any = None
        if find_spec("numba") is not None:
            from mars_pyg.heads.submatrix_loop import fill

            self._loop, size = fill, 1
        # Where each item stands among the items of a matrix.
        self._place = torch.full((size * rows.num_items,), -1, dtype=torch.int32)

    def take(self, item: Tensor) -> Tensor:
        """The entries between the items of each row.

        Args:
            item: Distinct items in each row, -1 for none ``[b, m]``, int64.

        Returns:
            The entries ``[b, m, m]``, zero where there is none.
        """
        size, width = item.shape
        matrix = torch.zeros(size, width, width, dtype=self.value.dtype)
        if self._loop is not None:
            ptr, index = self.rows.ptr.numpy(), self.rows.item.numpy()
            arrays = ptr, index, self.value.numpy(), item.numpy()
            self._loop(*arrays, self._place.numpy(), matrix.numpy())
            return matrix
        block, place = (item >= 0).nonzero().unbind(1)
        item = item[block, place]
        table, row = block * self.rows.num_items, (block * width + place) * width
        self._place[table + item] = place.to(torch.int32)
        pair, entry = self.entries(item)
        column = self._place[table[pair] + self.rows.item[entry]]
        self._place[table + item] = -1
        hit = (column >= 0).nonzero().view(-1)
        entry, target = entry[hit], row[pair[hit]] + column[hit]
        matrix.view(-1)[target] = self.value[entry]
        return matrix

    def entries(self, row: Tensor) -> tuple[Tensor, Tensor]:
        """List the entries of rows.

        Args:
            row: Rows ``[P]``, int64.

        Returns:
            For each entry its place in :obj:`row`, and the place of the entry itself,
            both ``[E']``, int64.
        """
        return self.rows.places(row)
