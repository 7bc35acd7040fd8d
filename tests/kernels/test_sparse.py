"""Sparse products against dense ones."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mars_pyg.kernels import SparseMatrix
from mars_pyg.kernels.sparse import pointers


@st.composite
def matrices(draw: st.DrawFn) -> tuple[SparseMatrix, torch.Tensor, torch.Tensor]:
    """A sparse matrix, the dense one, and the weights of the entries in row order."""
    rows, cols = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    entry = st.tuples(st.integers(0, rows - 1), st.integers(0, cols - 1))
    entries = draw(st.lists(entry, max_size=12))
    index = torch.tensor(entries, dtype=torch.int64).view(-1, 2).t()
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    weight = torch.randn(len(entries), generator=generator, dtype=torch.float64)
    dense = torch.zeros(rows, cols, dtype=torch.float64)
    dense.index_put_((index[0], index[1]), weight, accumulate=True)
    matrix = SparseMatrix.from_edges(index[0], index[1], rows, cols, weight)
    return matrix, dense, weight


@given(matrices=matrices(), width=st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_products_and_gradients_equal_dense(matrices: tuple, width: int) -> None:
    matrix, dense, _ = matrices
    for sparse, expected in ((matrix, dense), (matrix.t(), dense.t())):
        assert (sparse.num_rows, sparse.num_cols) == expected.shape
        x = torch.randn(sparse.num_cols, width, dtype=torch.float64)
        x.requires_grad_()
        out, wanted = sparse.matmul(x), expected @ x
        torch.testing.assert_close(out, wanted, atol=1e-12, rtol=0)
        probe = torch.randn_like(wanted)
        torch.testing.assert_close(
            torch.autograd.grad((out * probe).sum(), x),
            torch.autograd.grad((wanted * probe).sum(), x),
            atol=1e-12,
            rtol=0,
        )
    assert torch.equal(matrix.t().t().rows(), matrix.rows())


@given(matrices=matrices())
@settings(max_examples=30, deadline=None)
def test_gradient_of_given_weights(matrices: tuple) -> None:
    matrix, _, _ = matrices
    row, col = matrix.rows(), matrix.col.long()
    weight = torch.randn(len(row), dtype=torch.float64, requires_grad=True)
    x = torch.randn(matrix.num_cols, 2, dtype=torch.float64, requires_grad=True)
    out = matrix.matmul(x, weight)
    dense = torch.zeros(matrix.num_rows, matrix.num_cols, dtype=torch.float64)
    wanted = dense.index_put((row, col), weight, accumulate=True) @ x
    torch.testing.assert_close(out, wanted, atol=1e-12, rtol=0)
    probe = torch.randn_like(wanted)
    for one, other in zip(
        torch.autograd.grad((out * probe).sum(), [x, weight], allow_unused=True),
        torch.autograd.grad((wanted * probe).sum(), [x, weight]),
        strict=True,
    ):
        one = torch.zeros_like(other) if one is None else one
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)


def test_gradcheck() -> None:
    row, col = torch.tensor([0, 0, 2, 2, 2]), torch.tensor([1, 1, 0, 3, 1])
    matrix = SparseMatrix.from_edges(row, col, 4, 4)
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(matrix.matmul, (x,))
    assert torch.autograd.gradcheck(matrix.matmul, (x, weight))
    assert torch.autograd.gradgradcheck(matrix.matmul, (x,))
    assert torch.autograd.gradgradcheck(matrix.matmul, (x, weight))
    left = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(matrix.inner_products, (left, x))
    assert torch.autograd.gradgradcheck(matrix.inner_products, (left, x))

    def second(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        out = matrix.matmul(x, weight).pow(3).sum()
        (first,) = torch.autograd.grad(out, weight, create_graph=True)
        return torch.autograd.grad(first.square().sum(), x, create_graph=True)[0]

    # The third derivative reads the inverse permutation.
    assert torch.autograd.gradcheck(second, (x, weight))


@pytest.mark.parametrize("weighted", [False, True])
def test_custom_operator_is_sound(weighted: bool) -> None:
    row, col = torch.tensor([0, 0, 2]), torch.tensor([1, 0, 1])
    weight = torch.tensor([1.0, 2.0, 3.0]) if weighted else None
    m = SparseMatrix.from_edges(row, col, 3, 2, weight)
    x = torch.randn(2, 3, requires_grad=True)
    torch.library.opcheck(
        torch.ops.mars_pyg.csr_matmul.default,
        (x, m.weight, m.weight_t, m.ptr, m.col, m.ptr_t, m.col_t, m.perm),
    )
    torch.library.opcheck(
        torch.ops.mars_pyg.csr_inner_products.default,
        (
            torch.randn(3, 3, requires_grad=True),
            torch.randn(2, 3, requires_grad=True),
            *(m.ptr, m.col, m.ptr_t, m.col_t, m.perm),
        ),
    )


def test_half_precision_sums_in_single() -> None:
    # 1,000 ones: bfloat16 alone cannot count beyond 256.
    index = torch.arange(1000)
    matrix = SparseMatrix.from_edges(torch.zeros_like(index), index, 1, 1000)
    out = matrix.matmul(torch.ones(1000, 2, dtype=torch.bfloat16))
    assert out.dtype == torch.bfloat16
    assert out.tolist() == [[1000.0, 1000.0]]


def test_pointers() -> None:
    index = torch.tensor([0, 0, 2, 4, 4, 4])
    assert pointers(index, 6).tolist() == [0, 2, 2, 3, 3, 6, 6]
    assert pointers(index[:0], 2).tolist() == [0, 0, 0]
