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


def _tensor(array: np.ndarray, dtype: torch.dtype) -> Tensor:
    """The tensor of an array, without a copy."""
    if dtype == torch.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(dtype)
    return torch.from_numpy(array)


class _Graph:
    """A graph as arrays, and how its rows are shared out among threads."""

    def __init__(self, tensors: tuple[Any, ...], x: np.ndarray) -> None:
        ptr, col, weight, ptr_t, col_t, weight_t, factor, inverse_count, slot = tensors
        self.ptr, self.col = _array(ptr), _array(col)
        self.ptr_t, self.col_t = _array(ptr_t), _array(col_t)
        self.weight, self.weight_t = _optional(weight), _optional(weight_t)
        self.factor, self.inverse_count = _array(factor), _array(inverse_count)
        self.num_values, self.num_columns = len(self.factor), x.shape[1]
        slots = _array(slot)
        self.with_slot = np.flatnonzero(slots >= 0)
        self.slot = None if len(self.with_slot) == self.num_values else slots
        self.blocks = kernels.column_blocks(self.num_columns)
        threads = num_threads(len(self.col) * self.num_columns)
        self.items = balanced(self.ptr, threads)
        self.values = balanced(self.ptr_t, threads)
        row_size = self.num_columns * x.itemsize
        self.stream = x.nbytes > MAX_CACHED and row_size % kernels.CACHE_LINE == 0

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
        totals = [_empty(shape, dtype) for _ in self.items]
        for total in totals:
            total.fill(0)
        return totals

    def average(
        self, x: np.ndarray, gate: Any, position: Any, totals: list, out: np.ndarray
    ) -> None:
        """Finish the means: merge the tables, and sum up values without a slot."""
        total = totals[0]
        for other in totals[1:]:
            total += other
        scale = self.inverse_count.astype(out.dtype)
        if self.slot is None:
            np.multiply(total, scale[:, None], out=out)
            return
        rows = self.with_slot
        out[rows] = total[self.slot[rows]] * scale[rows, None]
        self.run(
            kernels.gather_items,
            self.values,
            x,
            self.ptr_t,
            self.col_t,
            self.weight_t,
            self.slot,
            gate,
            position,
            scale,
            out,
        )


def _forward(
    x: Tensor, gate: Tensor, structure: Tensor | None, *tensors: Tensor | None
) -> tuple[Tensor, Tensor]:
    items, weights, dense = _array(x), _array(gate), _optional(structure)
    graph = _Graph(tensors, items)
    position = graph.factor + (structure is not None)
    means = _empty((graph.num_values, x.size(1)), weights.dtype)
    out = _empty(items.shape, items.dtype)

    totals = graph.totals(means.dtype)
    if len(graph.with_slot):
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
    graph.average(items, None, position, totals, means)
    graph.run(
        kernels.read_values,
        graph.items,
        means,
        graph.ptr,
        graph.col,
        graph.weight,
        weights,
        position,
        dense,
        out,
        stream=graph.stream,
    )
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
    position = graph.factor + (structure is not None)
    means = _array(mean)
    gradient_x = _empty(items.shape if need_x else (0,), items.dtype)
    gradient_gate = _empty(weights.shape, weights.dtype)
    gradient_gate.fill(0)
    gradient_structure = _empty((0,) if dense is None else items.shape, items.dtype)

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
        stream=graph.stream,
    )
    if need_x:
        gradient_mean = _empty(means.shape, means.dtype)
        graph.average(items, weights, position, totals, gradient_mean)
        graph.run(
            kernels.read_values,
            graph.items,
            gradient_mean,
            graph.ptr,
            graph.col,
            graph.weight,
            None,
            position,
            None,
            gradient_x,
            stream=graph.stream,
        )
    return (
        _tensor(gradient_x, gradient.dtype),
        _tensor(gradient_gate, gate.dtype),
        _tensor(gradient_structure, gradient.dtype),
    )


register("numba", _forward, _backward)
