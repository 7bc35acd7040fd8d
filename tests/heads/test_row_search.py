"""Entries are found where a dictionary says they are."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from mars_pyg.heads.row_search import find_entries


@given(
    st.lists(st.sets(st.integers(0, 9), max_size=10), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=30),
)
def test_entries_are_found(rows, wanted):
    index = [column for columns in rows for column in sorted(columns)]
    ptr = torch.tensor([0, *(len(columns) for columns in rows)]).cumsum(0)
    place = {}
    for row, columns in enumerate(rows):
        for column in sorted(columns):
            place[row, column] = len(place)
    wanted = [(row % len(rows), column) for row, column in wanted]
    row, column = torch.tensor(wanted, dtype=torch.int64).view(-1, 2).t()
    found = find_entries(ptr, torch.tensor(index, dtype=torch.int64), row, column)
    assert found.tolist() == [place.get(key, -1) for key in wanted]
