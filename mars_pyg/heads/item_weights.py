"""The entries of a sparse item-item matrix, collected column by column."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor


class ItemWeights:
    """Collects the entries of a matrix, a block of its columns at a time.

    Args:
        num_items: Number of rows.
    """

    def __init__(self, num_items: int) -> None:
        self.num_items = num_items
        self._count: list[np.ndarray] = [np.zeros(1, dtype=np.int64)]
        self._index: list[np.ndarray] = [np.empty(0, dtype=np.int32)]
        self._value: list[np.ndarray] = []

    def add(self, index: Tensor, value: Tensor) -> None:
        """Add the next columns; entries of zero are none.

        Args:
            index: The rows of the entries of ``b`` columns ``[b, m]``, distinct.
            value: The entries ``[b, m]``.
        """
        # Columns in compressed form have their rows in order.
        index, order = index.sort(dim=1)
        value = value.gather(1, order)
        kept = value != 0
        self._count.append(kept.sum(dim=1).numpy())
        self._index.append(index[kept].numpy().astype(np.int32))
        self._value.append(value[kept].numpy())

    def columns(self) -> Any:
        """The matrix of all columns so far, a scipy csc array."""
        from scipy.sparse import csc_array

        ptr = np.concatenate(self._count).cumsum()
        value = np.concatenate(self._value or [np.empty(0, dtype=np.float32)])
        parts = value, np.concatenate(self._index), ptr
        return csc_array(parts, shape=(self.num_items, ptr.size - 1))
