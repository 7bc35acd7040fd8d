"""The closed form of EASE."""

from __future__ import annotations

import os
from typing import Any

import torch

from mars_pyg.heads.item_kernel import ItemKernel, singular
from mars_pyg.heads.item_weights import ItemWeights

#: Up to so many items the closed form is taken unless another one is asked for.
DENSE_ITEMS = 10_000
#: Rows that are handled at once.
BLOCK = 1024


def check_memory(num_items: int, dtype: torch.dtype) -> None:
    """Refuse a closed form that does not fit the memory.

    Raises:
        MemoryError: With what it would need.
    """
    needed = 3 * num_items**2 * dtype.itemsize
    if not hasattr(os, "sysconf"):  # On Windows.
        return
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > memory:
        raise MemoryError(
            f"the closed form over {num_items:,} items needs {needed / 2**30:.1f} GiB "
            f"of memory, and there are {memory / 2**30:.1f}; choose solver='local'"
        )


def closed_form(kernel: ItemKernel, num_entries: int | None, dtype: torch.dtype) -> Any:
    r"""Invert the kernel, and keep the largest entries of each item.

    Args:
        kernel: :math:`\mathbf{A}`.
        num_entries: Entries to keep for each item; :obj:`None` for all.
        dtype: The precision.

    Returns:
        :math:`\mathbf{B}`, a scipy csc array.

    Raises:
        ValueError: If the regularisation is too weak for the precision.
    """
    num_items = kernel.num_items
    transposed = kernel.interactions.T.tocsr()
    matrix = torch.empty(num_items, num_items, dtype=dtype)
    values = kernel.values.T.tocsr()
    for start in range(0, num_items, BLOCK):
        rows = slice(start, start + BLOCK)
        block = (transposed[rows] @ kernel.interactions).toarray()
        if kernel.clique_weight:
            cliques = (kernel.values[rows] @ values).toarray()
            block += kernel.clique_weight * cliques
        matrix[rows] = torch.from_numpy(block)
    matrix.diagonal().add_(kernel.l2)
    try:
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(matrix))
    except torch.linalg.LinAlgError as error:
        raise singular(kernel) from error
    del matrix
    kept = num_items if num_entries is None else min(num_entries, num_items)
    weights = ItemWeights(num_items)
    diagonal = inverse.diagonal().clone()
    for start in range(0, num_items, BLOCK):
        # The inverse is symmetric: its rows are the columns of B.
        block = inverse[start : start + BLOCK] / -diagonal[start : start + BLOCK, None]
        target = torch.arange(start, start + block.size(0))
        block[target - start, target] = 0
        index = block.abs().topk(kept, dim=1).indices
        weights.add(index, block.gather(1, index))
    return weights.columns()
