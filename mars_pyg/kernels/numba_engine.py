"""The numba engine: item-major loops on the CPU, at about the speed of memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mars_pyg.kernels import numba_kernels as kernels
from mars_pyg.kernels.fused_operator import register
from mars_pyg.kernels.parallel import balanced, num_threads, run

#: A result of more bytes than this leaves the caches before it is read again.
MAX_CACHED = 2**25
#: Means of more bytes than this are not all in the second-level cache of a core.
MAX_NEAR = 2**20


def column_blocks(num_columns: int) -> list[tuple[int, int]]:
    """Cut columns into blocks of 64, and the rest into powers of two.

    Returns:
        The first column and the width of each block.
    """
    blocks, start, width = [], 0, 64
    while start < num_columns:
        if start + width <= num_columns:
            blocks.append((start, width))
            start += width
        else:
            width //= 2
    return blocks


def _array(tensor: Tensor) -> np.ndarray:
    """A tensor as a contiguous array; bfloat16 as its bits."""
    tensor = tensor.detach().contiguous()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(np.uint16)
    return tensor.numpy()


def _optional(tensor: Tensor | None) -> np.ndarray | None:
    return None if tensor is None else _array(tensor)


def _empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Memory that begins where a cache line does, so that no vector lies across two.

    It is numpy's, which asks the system for huge pages. A large tensor of torch is new
    memory each time, which the system clears and maps 4 KiB at a time: that takes as
    long as the loop that fills it.
    """
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + kernels.CACHE_LINE, np.uint8)
    start = -memory.ctypes.data % kernels.CACHE_LINE
    return memory[start : start + size].view(dtype).reshape(shape)


def _zeros(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    array = _empty(shape, dtype)
    array.fill(0)
    return array


def _tensor(array: np.ndarray, dtype: torch.dtype) -> Tensor:
    """The tensor of an array, without a copy."""
    if dtype == torch.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(dtype)
    return torch.from_numpy(array)


class _Graph:
    """A graph as arrays, and how its rows are shared out among threads."""

    def __init__(self, tensors: tuple[Any, ...], x: np.ndarray) -> None:
        ptr, col, weight, ptr_t, col_t, weight_t, perm, factor, *rest = tensors
        self.ptr, self.col, self.perm = _array(ptr), _array(col), _array(perm)
        self.ptr_t, self.col_t = _array(ptr_t), _array(col_t)
        self.weight, self.weight_t = _optional(weight), _optional(weight_t)
        self.factor, self.inverse_count, slots = map(_array, (factor, *rest))
        self.num_values, self.num_columns = len(self.factor), x.shape[1]
        self.blocks = column_blocks(self.num_columns)
        self.with_slot = np.flatnonzero(slots >= 0)
        self.slot = None if len(self.with_slot) == self.num_values else slots
        threads = num_threads(len(self.col) * self.num_columns)
        self.items = balanced(self.ptr, threads)
        self.values = balanced(self.ptr_t, threads)

    def stream(self, out: np.ndarray) -> bool:
        """Whether to write rows past the caches."""
        row_size = self.num_columns * out.itemsize
        return out.nbytes > MAX_CACHED and row_size % kernels.CACHE_LINE == 0

    def position(self, structure: Tensor | None) -> np.ndarray:
        """The column of each value's factor in the gate."""
        return (self.factor + (structure is not None)).astype(np.int32)

    def run(
        self,
        kernel: Callable[..., Callable],
        ranges: list,
        *arguments: Any,
        **options: Any,
    ) -> None:
        """Run a kernel on ranges of rows; a list has an argument for each range."""

        def task(number: int, low: int, high: int) -> None:
            own = [a[number] if isinstance(a, list) else a for a in arguments]
            for column, width in self.blocks:
                kernel(width, **options)(low, high, column, *own)

        run(task, ranges)

    def totals(self, dtype: np.dtype) -> list[np.ndarray]:
        """A table of zeros for each thread, with the values that have a slot."""
        shape = (len(self.with_slot), self.num_columns)
        return [_zeros(shape, dtype) for _ in self.items]

    def average(self, totals: list, scale: np.ndarray, out: np.ndarray) -> None:
        """Finish the means of the values with a slot, whose tables are merged."""
        total = totals[0]
        for other in totals[1:]:
            total += other
        if self.slot is None:
            np.multiply(total, scale[:, None], out=out)
        else:
            rows = self.with_slot
            out[rows] = total[self.slot[rows]] * scale[rows, None]

    def read(
        self, means: np.ndarray, gate: Any, position: Any, dense: Any, out: np.ndarray
    ) -> None:
        """Add up the means of each item's values, weighted by its gate."""
        self.run(
            kernels.read_values,
            self.items,
            means,
            self.ptr,
            self.col,
            self.weight,
            gate,
            position,
            dense,
            out,
            stream=self.stream(out),
            fetch=means.nbytes > MAX_NEAR,
        )


def _forward(
    x: Tensor, gate: Tensor, structure: Tensor | None, *tensors: Tensor | None
) -> tuple[Tensor, Tensor]:
    items, weights, dense = _array(x), _array(gate), _optional(structure)
    graph = _Graph(tensors, items)
    position = graph.position(structure)
    means = _empty((graph.num_values, x.size(1)), weights.dtype)
    out = _empty(items.shape, items.dtype)
    scale = graph.inverse_count.astype(means.dtype)

    if len(graph.with_slot):
        totals = graph.totals(means.dtype)
        graph.run(
            kernels.add_items,
            graph.items,
            items,
            graph.ptr,
            graph.col,
            graph.weight,
            graph.slot,
            totals,
        )
        graph.average(totals, scale, means)
    if graph.slot is not None:
        graph.run(
            kernels.gather_items,
            graph.values,
            items,
            graph.ptr_t,
            graph.col_t,
            graph.weight_t,
            graph.slot,
            scale,
            means,
            stream=graph.stream(means),
        )
    graph.read(means, weights, position, dense, out)
    return _tensor(out, x.dtype), _tensor(means, gate.dtype)


def _backward(
    gradient: Tensor,
    gate: Tensor,
    structure: Tensor | None,
    mean: Tensor,
    need_x: bool,
    *tensors: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    items, weights, dense = _array(gradient), _array(gate), _optional(structure)
    graph = _Graph(tensors, items)
    position = graph.position(structure)
    means = _array(mean)
    gradient_x = _empty(items.shape if need_x else (0,), items.dtype)
    gradient_gate = _zeros(weights.shape, weights.dtype)
    gradient_structure = _empty((0,) if dense is None else items.shape, items.dtype)
    gradient_mean = _empty(means.shape, means.dtype) if need_x else None
    scale = graph.inverse_count.astype(means.dtype)

    if len(graph.with_slot) or dense is not None:
        totals = graph.totals(means.dtype)
        graph.run(
            kernels.add_gradients,
            graph.items,
            items,
            means,
            graph.ptr,
            graph.col,
            graph.weight,
            graph.slot,
            weights,
            position,
            dense,
            gradient_gate,
            None if dense is None else gradient_structure,
            totals,
            stream=graph.stream(items),
        )
        if gradient_mean is not None:
            graph.average(totals, scale, gradient_mean)
    if graph.slot is not None:
        entry_gradient = _zeros((len(graph.col),), means.dtype)
        graph.run(
            kernels.gather_gradients,
            graph.values,
            items,
            means,
            graph.ptr_t,
            graph.col_t,
            graph.weight_t,
            graph.perm,
            graph.slot,
            weights,
            position,
            scale,
            entry_gradient,
            gradient_mean,
            stream=graph.stream(means),
        )

        def add(_: int, low: int, high: int) -> None:
            kernels.add_entries(
                low,
                high,
                graph.ptr,
                graph.col,
                position,
                entry_gradient,
                gradient_gate,
            )

        run(add, graph.items)
    if gradient_mean is not None:
        graph.read(gradient_mean, None, position, None, gradient_x)
    return (
        _tensor(gradient_x, gradient.dtype),
        _tensor(gradient_gate, gate.dtype),
        _tensor(gradient_structure, gradient.dtype),
    )


register("numba", _forward, _backward)
