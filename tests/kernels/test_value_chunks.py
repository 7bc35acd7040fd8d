"""How the items of values are cut into chunks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mars_pyg.kernels import value_chunks as module
from mars_pyg.kernels.sparse import SparseMatrix
from mars_pyg.kernels.value_chunks import ValueChunks, value_chunks


def incidence(edges: list[tuple[int, int]], num_values: int) -> SparseMatrix:
    item, value = torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).t()
    return SparseMatrix.from_edges(item, value, 20, num_values)


def summed(chunks: ValueChunks, matrix: SparseMatrix) -> tuple[Tensor, list[set[int]]]:
    """The items of each value by the two passes, in plain loops, and each group's."""
    sums, groups = {}, []
    for group in range(chunks.num_groups):
        low, high = chunks.group_ptr[group : group + 2].tolist()
        seen: list[int] = []
        for chunk in chunks.order[low:high].tolist():
            start, end = chunks.ptr[chunk : chunk + 2].tolist()
            assert 0 < end - start <= module.MAX_ENTRIES
            assert chunk not in sums
            sums[chunk] = torch.zeros(20)
            seen += matrix.col_t[start:end].tolist()
            sums[chunk][matrix.col_t[start:end].long()] += 1
        groups.append(set(seen))
    assert len(sums) == chunks.num_chunks
    out = torch.zeros(matrix.num_cols, 20)
    for value in range(matrix.num_cols):
        low, high = chunks.value_ptr[value : value + 2].tolist()
        assert (chunks.value[low:high] == value).all()
        for chunk in range(low, high):
            out[value] += sums[chunk]
    return out, groups


@settings(deadline=None)
@given(
    st.sets(st.tuples(st.integers(0, 19), st.integers(0, 4)), max_size=60),
    st.sampled_from([1, 3, 64]),
    st.sampled_from([3, 8, 100]),
    st.sampled_from([0, 20, 21]),
)
def test_every_entry_is_summed_up_once(
    edges: set[tuple[int, int]], most: int, tile: int, tiled_from: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_ENTRIES", most)
        patch.setattr(module, "TILE_ITEMS", tile)
        patch.setattr(module, "MIN_TILED_ITEMS", tiled_from)
        patch.setattr(module, "MIN_TILE_COUNT", 2)
        patch.setattr(module, "GROUP_CHUNKS", 2)
        matrix = incidence(sorted(edges), 5)
        chunks = ValueChunks.from_incidence(matrix.ptr_t, matrix.col_t, 20)
        got, groups = summed(chunks, matrix)
    want = torch.zeros(5, 20)
    for item, value in edges:
        want[value, item] = 1
    assert torch.equal(got, want)
    if tiled_from <= 20:
        for number in range(-(-20 // tile)):
            assert all(item // tile == number for item in groups[number])


def test_a_tile_needs_enough_items_of_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TILE_ITEMS", 10)
    monkeypatch.setattr(module, "MIN_TILED_ITEMS", 20)
    # Value 0 has all items, four a tile and more; value 1 has seven, over both tiles.
    edges = [(i, 0) for i in range(20)] + [(i, 1) for i in range(3, 17, 2)]
    matrix = incidence(edges, 2)
    chunks = ValueChunks.from_incidence(matrix.ptr_t, matrix.col_t, 20)
    assert chunks.ptr.tolist() == [0, 10, 20, 27]
    assert chunks.value.tolist() == [0, 0, 1]
    assert chunks.group_ptr.tolist() == [0, 1, 2, 3]


def test_long_chunks_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ENTRIES", 4)
    edges = [(0, 0), *((i, 1) for i in range(10)), (3, 2), (4, 2)]
    matrix = incidence(edges, 3)
    chunks = ValueChunks.from_incidence(matrix.ptr_t, matrix.col_t, 20)
    assert chunks.ptr.diff().tolist() == [1, 4, 4, 2, 2]
    assert chunks.order.tolist() == [1, 2, 3, 4, 0]


def test_cut_once_and_anew_when_changed() -> None:
    matrix = incidence([(0, 0), (1, 0), (2, 1)], 2)
    first = value_chunks(matrix.ptr_t, matrix.col_t, 20)
    assert value_chunks(matrix.ptr_t, matrix.col_t, 20) is first
    other = matrix.ptr_t.clone()
    assert value_chunks(other, matrix.col_t, 20) is not first
    before = value_chunks(matrix.ptr_t, matrix.col_t, 20)
    matrix.ptr_t[1] = 1
    after = value_chunks(matrix.ptr_t, matrix.col_t, 20)
    assert before.ptr.tolist() == [0, 2, 3]
    assert after.ptr.tolist() == [0, 1, 3]


def test_kept_no_longer_than_the_graph() -> None:
    kept = len(module._chunks)
    matrix = incidence([(0, 0)], 1)
    value_chunks(matrix.ptr_t, matrix.col_t, 20)
    assert len(module._chunks) == kept + 1
    del matrix
    assert len(module._chunks) == kept
