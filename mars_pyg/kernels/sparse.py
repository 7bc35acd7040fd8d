"""Prepared sparse matrices and their product with a dense one."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from mars_pyg.kernels.precision import sum_dtype


class SparseMatrix(NamedTuple):
    r"""A sparse :math:`\mathbf{A} \in \mathbb{R}^{R \times C}`, sorted both ways.

    Forward products read the rows, gradients read the columns; both orders are built
    once, so that no step of training sorts or transposes. Entries can be static
    (:attr:`weight`) or given at each product (:func:`matmul`), as gates are.

    Args:
        ptr: Row pointers ``[R + 1]``.
        col: Column of each entry, in row order ``[E]``.
        weight: Value of each entry, in row order ``[E]``; :obj:`None` for ones.
        ptr_t: Column pointers ``[C + 1]``.
        col_t: Row of each entry, in column order ``[E]``.
        weight_t: Value of each entry, in column order ``[E]``; :obj:`None` for ones.
        perm: For each entry in column order, its place in row order ``[E]``.
        perm_t: For each entry in row order, its place in column order ``[E]``.
    """

    ptr: Tensor
    col: Tensor
    weight: Tensor | None
    ptr_t: Tensor
    col_t: Tensor
    weight_t: Tensor | None
    perm: Tensor
    perm_t: Tensor

    @classmethod
    def from_edges(
        cls,
        row: Tensor,
        col: Tensor,
        num_rows: int,
        num_cols: int,
        weight: Tensor | None = None,
    ) -> SparseMatrix:
        """Build the matrix from its entries; repeated entries add up.

        Args:
            row: Row of each entry ``[E]``, int64, in any order.
            col: Column of each entry ``[E]``, int64.
            num_rows: Number of rows.
            num_cols: Number of columns.
            weight: Value of each entry ``[E]``. (default: :obj:`None`, ones)
        """
        order = sort_order(row, col, num_cols)
        return cls.from_sorted(
            row[order],
            col[order],
            num_rows,
            num_cols,
            None if weight is None else weight[order],
        )

    @classmethod
    def from_sorted(
        cls,
        row: Tensor,
        col: Tensor,
        num_rows: int,
        num_cols: int,
        weight: Tensor | None = None,
    ) -> SparseMatrix:
        """Build the matrix from entries sorted by row; see :meth:`from_edges`."""
        # 32-bit indices halve the traffic of the products wherever they suffice.
        small = max(row.numel(), num_rows, num_cols) < 2**31
        dtype = torch.int32 if small else torch.int64
        perm = torch.argsort(col, stable=True)
        perm_t = inverse_permutation(perm)
        return cls(
            ptr=pointers(row, num_rows).to(dtype),
            col=col.to(dtype),
            weight=weight,
            ptr_t=pointers(col, num_cols).to(dtype),
            col_t=row[perm].to(dtype),
            weight_t=None if weight is None else weight[perm],
            perm=perm.to(dtype),
            perm_t=perm_t.to(dtype),
        )

    def t(self) -> SparseMatrix:
        """The transposed matrix, a view of the same tensors."""
        return SparseMatrix(
            ptr=self.ptr_t,
            col=self.col_t,
            weight=self.weight_t,
            ptr_t=self.ptr,
            col_t=self.col,
            weight_t=self.weight,
            perm=self.perm_t,
            perm_t=self.perm,
        )

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return self.ptr.numel() - 1

    @property
    def num_cols(self) -> int:
        """Number of columns."""
        return self.ptr_t.numel() - 1

    def rows(self) -> Tensor:
        """Row of each entry, in row order ``[E]``, int64."""
        return entry_rows(self.ptr, self.col.numel())

    def matmul(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        r"""The product :math:`\mathbf{A} \mathbf{X}`, differentiable in both.

        Time :math:`\mathcal{O}(E d)`; extra memory :math:`\mathcal{O}(E)`, forward and
        backward. Sums are taken in float32 for half precision.

        Args:
            x: Dense matrix ``[C, d]``, floating point.
            weight: Values of the entries in row order ``[E]``, in place of
                :attr:`weight`; gradients flow to it. (default: :obj:`None`)

        Returns:
            The product ``[R, d]``, in the dtype of ``x``.
        """
        dtype = sum_dtype(x.dtype)
        if weight is not None:
            weight, weight_t = weight.to(dtype), None
        elif self.weight is not None and self.weight_t is not None:
            weight, weight_t = self.weight.to(dtype), self.weight_t.to(dtype)
        else:
            weight = weight_t = None
        out = _matmul(
            x.to(dtype),
            weight,
            weight_t,
            self.ptr,
            self.col,
            self.ptr_t,
            self.col_t,
            self.perm,
        )
        return out.to(x.dtype)

    def inner_products(self, left: Tensor, right: Tensor) -> Tensor:
        r"""For each entry :math:`(r, c)` the product :math:`\langle \mathbf{l}_r,
        \mathbf{r}_c \rangle`, differentiable in both.

        Time :math:`\mathcal{O}(E d)`; extra memory :math:`\mathcal{O}(E)`.

        Args:
            left: A row for each row of the matrix ``[R, d]``, floating point.
            right: A row for each of its columns ``[C, d]``, in the same dtype.

        Returns:
            The products in row order ``[E]``.
        """
        return _inner_products(
            left, right, self.ptr, self.col, self.ptr_t, self.col_t, self.perm
        )


def sort_order(row: Tensor, col: Tensor, num_cols: int) -> Tensor:
    """The order of entries by row, then column, then position ``[E]``, int64."""
    return torch.argsort(row * num_cols + col, stable=True)


def pointers(index: Tensor, size: int) -> Tensor:
    """Where each of ``size`` groups starts in the sorted ``index``, ``[size + 1]``."""
    count = torch.zeros(size + 1, dtype=torch.int64, device=index.device)
    count.scatter_add_(0, index + 1, torch.ones_like(index))
    return count.cumsum(0)


def entry_rows(ptr: Tensor, num_entries: int) -> Tensor:
    """Group of each entry, the inverse of :func:`pointers` ``[E]``, int64."""
    count = ptr.diff().to(torch.int64)
    return torch.repeat_interleave(count, output_size=num_entries)


def inverse_permutation(perm: Tensor) -> Tensor:
    """For each place, the index that a permutation takes it from ``[E]``."""
    index = torch.arange(perm.numel(), dtype=perm.dtype, device=perm.device)
    return torch.empty_like(perm).scatter_(0, perm.long(), index)


def _bag(x: Tensor, weight: Tensor | None, ptr: Tensor, col: Tensor) -> Tensor:
    if col.numel() == 0 or x.size(1) == 0:
        return x.new_zeros(ptr.numel() - 1, x.size(1))
    return torch.nn.functional.embedding_bag(
        col, x, ptr, mode="sum", per_sample_weights=weight, include_last_offset=True
    )


# Registered as one operator, so that torch.compile meets no graph break and autograd
# takes the formula below in place of embedding_bag's scatter into a dense gradient.
@torch.library.custom_op("mars_pyg::csr_matmul", mutates_args=())
def _matmul(
    x: Tensor,
    weight: Tensor | None,
    weight_t: Tensor | None,
    ptr: Tensor,
    col: Tensor,
    ptr_t: Tensor,
    col_t: Tensor,
    perm: Tensor,
) -> Tensor:
    return _bag(x.contiguous(), weight, ptr, col)


@_matmul.register_fake
def _matmul_fake(
    x: Tensor,
    weight: Tensor | None,
    weight_t: Tensor | None,
    ptr: Tensor,
    col: Tensor,
    ptr_t: Tensor,
    col_t: Tensor,
    perm: Tensor,
) -> Tensor:
    return x.new_empty(ptr.shape[0] - 1, x.shape[1])


@torch.library.custom_op("mars_pyg::csr_inner_products", mutates_args=())
def _inner_products(
    left: Tensor,
    right: Tensor,
    ptr: Tensor,
    col: Tensor,
    ptr_t: Tensor,
    col_t: Tensor,
    perm: Tensor,
) -> Tensor:
    """For each entry, the inner product of its row on the left and its column's."""
    if col.numel() == 0 or right.size(1) == 0:
        return right.new_zeros(col.numel())
    row = entry_rows(ptr, col.numel()).to(col.dtype)
    return torch.ops.aten._embedding_bag_per_sample_weights_backward(
        left.contiguous(), right.contiguous(), col, ptr[:-1], row, 0, -1
    )


@_inner_products.register_fake
def _inner_products_fake(
    left: Tensor, right: Tensor, ptr: Tensor, col: Tensor, *_: Tensor
) -> Tensor:
    return right.new_empty(col.shape[0])


def _setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
    x, weight, weight_t, ptr, col, ptr_t, col_t, perm = inputs
    keep_x = weight is not None and ctx.needs_input_grad[1]
    ctx.save_for_backward(
        x if keep_x else None, weight, weight_t, ptr, col, ptr_t, col_t, perm
    )


def _backward(ctx: Any, gradient: Tensor) -> tuple:
    x, weight, weight_t, ptr, col, ptr_t, col_t, perm = ctx.saved_tensors
    need_x, need_weight, *_ = ctx.needs_input_grad
    gradient_x = gradient_weight = None
    if need_x:
        if weight is not None and weight_t is None:
            weight_t = weight.index_select(0, perm)
        gradient_x = _matmul(
            gradient, weight_t, weight, ptr_t, col_t, ptr, col, _inverse(perm)
        )
    if need_weight and weight is not None:
        gradient_weight = _inner_products(gradient, x, ptr, col, ptr_t, col_t, perm)
    return gradient_x, gradient_weight, None, None, None, None, None, None


def _inverse(perm: Tensor) -> Tensor:
    """The inverse permutation, which a gradient reads that is differentiated again."""
    return inverse_permutation(perm) if torch.is_grad_enabled() else perm.new_empty(0)


def _inner_products_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _inner_products_backward(ctx: Any, entries: Tensor) -> tuple:
    left, right, ptr, col, ptr_t, col_t, perm = ctx.saved_tensors
    need_left, need_right, *_ = ctx.needs_input_grad
    of_left = of_right = None
    if need_left:
        of_left = _matmul(right, entries, None, ptr, col, ptr_t, col_t, perm)
    if need_right:
        entries_t = entries.index_select(0, perm)
        of_right = _matmul(
            left, entries_t, entries, ptr_t, col_t, ptr, col, _inverse(perm)
        )
    return of_left, of_right, None, None, None, None, None


_matmul.register_autograd(_backward, setup_context=_setup_context)
_inner_products.register_autograd(
    _inner_products_backward, setup_context=_inner_products_context
)
