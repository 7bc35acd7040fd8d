"""Entries between items, with numba and without, against a dense matrix."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mars_pyg.heads import submatrices
from mars_pyg.heads.submatrices import Submatrices
from mars_pyg.user_items import UserItems


@pytest.fixture(scope="module", params=["numba", "torch"])
def make(request):
    if request.param == "numba":
        pytest.importorskip("numba")
        yield Submatrices
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(submatrices, "find_spec", lambda name: None)
        yield Submatrices


@given(
    st.sets(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=40),
    st.lists(st.permutations(range(7)), min_size=1, max_size=3),
    st.integers(0, 7),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_entries_between_items(make, edges, orders, width, dtype):
    row, column = torch.tensor(sorted(edges), dtype=torch.int64).view(-1, 2).t()
    rows = UserItems.from_edge_index(torch.stack([row, column]), 7, 7)
    value = torch.arange(1, row.numel() + 1, dtype=dtype)
    dense = torch.zeros(7, 7, dtype=dtype)
    dense[row, column] = value
    item = torch.tensor(orders)[:, :width].clone()
    # The item 6 stands for none.
    item[item == 6] = -1
    taken = make(rows, value, len(orders))
    for _ in range(2):
        matrix = taken.take(item)
        for block, items in enumerate(item.tolist()):
            for a, i in enumerate(items):
                for b, j in enumerate(items):
                    expected = 0 if -1 in (i, j) else dense[i, j]
                    assert matrix[block, a, b] == expected
