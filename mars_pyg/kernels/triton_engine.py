r"""The triton engine: the factor propagation on a GPU, at about the speed of memory.

A propagation is three kernels: the items of each value are summed up chunk by chunk,
the chunks of a value are added up to its mean, and each item reads the means of its
values back, weighted by its gate. The backward pass is the same with the gate in the
first kernel, after one for the gradients of the gate and of the structure term.

There are no atomics: the order of every sum is that of the graph, so that a result has
the same bits from run to run. What that costs is decided by where rows are read from,
for :math:`K` values an item and rows of :math:`B` bytes:

- Summing up value by value reads each row :math:`K` times, from L2 at best, which is
  :math:`K` times what must move; a table of all values for each block of items would
  be written and read as often.
- So a program takes a tile of items and sums up all values within it. Rows come from
  memory once and from L1 :math:`K - 1` times, 128 bytes of 1,024 rows at a time. The
  sums of a tile are written and read once, in the dtype of sums: as much again as the
  rows for 500 values, and mostly within L2.
- A value that has few items in a tile would not repay that: its items are read where
  they are. Values are cut into chunks of at most 64 entries either way, so that one
  value with half of the items keeps no program waiting.

See :mod:`mars_pyg.kernels.value_chunks`, whose result is kept with the graph. With
``TRITON_INTERPRET=1``, set before triton is imported, the kernels run on the CPU, for
tests.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import triton
from torch import Tensor

from mars_pyg.kernels import triton_kernels as kernels
from mars_pyg.kernels.fused_operator import register
from mars_pyg.kernels.value_chunks import value_chunks

#: Bytes of a row that a block of :func:`triton_kernels.sum_chunks` reads at once.
CACHE_LINE = 128
#: Numbers of a block, 8 or 16 for each thread.
BLOCK = 2048


def _block(num_columns: int, most: int, rows: int) -> tuple[int, int]:
    """Rows and columns of a block, powers of two, at most so many of each."""
    columns = min(triton.next_power_of_2(max(num_columns, 1)), most)
    return min(BLOCK // columns, rows), columns


def _launch(
    kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any
) -> None:
    # CUDA refuses an empty grid.
    if 0 not in grid:
        kernel[grid](*arguments, **options)


class _Graph:
    """The tensors of a graph, and the size of rows and gates."""

    def __init__(
        self,
        x: Tensor,
        gate: Tensor,
        structure: Tensor | None,
        tensors: tuple[Any, ...],
    ) -> None:
        if x.device.type == "cpu" and not kernels.is_interpreted(kernels.sum_chunks):
            raise ValueError(
                "'engine=\"triton\"' needs a GPU, but 'x' is on the CPU; move 'x' and "
                "the graph there, choose 'engine=\"auto\"', or set TRITON_INTERPRET=1 "
                "before triton is imported, which is for tests and slow"
            )
        # The places of entries and the slots are for the numba engine.
        (
            self.ptr,
            self.col,
            self.weight,
            self.ptr_t,
            self.col_t,
            self.weight_t,
            _,
            self.factor,
            self.inverse_count,
            _,
        ) = tensors
        self.num_items, self.num_columns = x.shape
        self.num_values = len(self.factor)
        #: Sizes of the gate: its terms, and the place of the first factor among them.
        self.num_terms, self.first_term = gate.size(1), int(structure is not None)

    def average(self, x: Tensor, gate: Tensor | None, dtype: torch.dtype) -> Tensor:
        """The values' means of the items, or of the items times their gate."""
        chunks = value_chunks(self.ptr_t, self.col_t, self.num_items)
        partial = x.new_empty((chunks.num_chunks, self.num_columns), dtype=dtype)
        mean = x.new_empty((self.num_values, self.num_columns), dtype=dtype)
        rows, columns = _block(self.num_columns, CACHE_LINE // x.itemsize, 128)
        _launch(
            kernels.sum_chunks,
            (chunks.num_groups, triton.cdiv(self.num_columns, columns)),
            x,
            self.col_t,
            self.weight_t,
            gate,
            self.factor,
            chunks.ptr,
            chunks.value,
            chunks.order,
            chunks.group_ptr,
            partial,
            self.num_columns,
            self.num_terms,
            self.first_term,
            ROWS=rows,
            COLUMNS=columns,
            UNROLL=4,
            num_warps=8,
        )
        rows, columns = _block(self.num_columns, 64, 32)
        _launch(
            kernels.sum_values,
            (self.num_values, triton.cdiv(self.num_columns, columns)),
            partial,
            chunks.value_ptr,
            self.inverse_count,
            mean,
            self.num_columns,
            ROWS=rows,
            COLUMNS=columns,
            num_warps=4,
        )
        return mean

    def read(
        self, mean: Tensor, gate: Tensor | None, structure: Tensor | None, out: Tensor
    ) -> None:
        """Add up the means of each item's values, and the structure term."""
        rows, columns = _block(self.num_columns, 128, 64)
        _launch(
            kernels.read_values,
            (
                triton.cdiv(self.num_items, rows),
                triton.cdiv(self.num_columns, columns),
            ),
            mean,
            self.ptr,
            self.col,
            self.weight,
            gate,
            self.factor,
            structure,
            out,
            self.num_items,
            self.num_columns,
            self.num_terms,
            self.first_term,
            ITEMS=rows,
            COLUMNS=columns,
            num_warps=4,
        )

    def gate_gradients(
        self,
        gradient: Tensor,
        mean: Tensor,
        gate: Tensor,
        structure: Tensor | None,
        structure_gradient: Tensor,
    ) -> Tensor:
        """The gradient of the gate; that of the structure term is written beside it."""
        # An item that has one value in a factor at most has one product a term.
        single = self.weight is None
        gate_gradient = torch.zeros_like(gate)
        product = None if single else gate.new_empty(len(self.col))
        rows, columns = _block(self.num_columns, 128, 64)
        _launch(
            kernels.gate_gradients,
            (triton.cdiv(self.num_items, rows),),
            gradient,
            mean,
            self.ptr,
            self.col,
            self.factor,
            gate,
            structure,
            gate_gradient,
            None if structure is None else structure_gradient,
            product,
            self.num_items,
            self.num_columns,
            self.num_terms,
            self.first_term,
            ITEMS=rows,
            COLUMNS=columns,
            num_warps=4,
        )
        if single:
            return gate_gradient
        num_factors = self.num_terms - self.first_term
        rows, columns = _block(num_factors, 64, 64)
        _launch(
            kernels.sum_products,
            (triton.cdiv(self.num_items, rows), triton.cdiv(num_factors, columns)),
            product,
            self.ptr,
            self.col,
            self.weight,
            self.factor,
            gate_gradient,
            self.num_items,
            self.num_terms,
            self.first_term,
            ITEMS=rows,
            TERMS=columns,
            num_warps=4,
        )
        return gate_gradient


def _on(tensor: Tensor) -> AbstractContextManager:
    """Triton launches on the current GPU, which need not be that of the tensor."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def _dense(tensor: Tensor | None) -> Any:
    return None if tensor is None else tensor.detach().contiguous()


def _forward(
    x: Tensor, gate: Tensor, structure: Tensor | None, *tensors: Tensor | None
) -> tuple[Tensor, Tensor]:
    x, gate, structure = _dense(x), _dense(gate), _dense(structure)
    graph = _Graph(x, gate, structure, tensors)
    out = torch.empty_like(x)
    with _on(x):
        mean = graph.average(x, None, gate.dtype)
        graph.read(mean, gate, structure, out)
    return out, mean


def _backward(
    gradient: Tensor,
    gate: Tensor,
    structure: Tensor | None,
    mean: Tensor,
    need_x: bool,
    *tensors: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    gradient, gate, structure = _dense(gradient), _dense(gate), _dense(structure)
    graph = _Graph(gradient, gate, structure, tensors)
    gradient_x = gradient.new_empty(gradient.shape if need_x else (0,))
    gradient_structure = gradient.new_empty(
        (0,) if structure is None else gradient.shape
    )
    with _on(gradient):
        gradient_gate = graph.gate_gradients(
            gradient, _dense(mean), gate, structure, gradient_structure
        )
        if need_x:
            gradient_mean = graph.average(gradient, gate, gate.dtype)
            graph.read(gradient_mean, None, None, gradient_x)
    return gradient_x, gradient_gate, gradient_structure


register("triton", _forward, _backward)
