from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mars_pyg.datasets.interactions import k_core, read_inter, split_interactions
from mars_pyg.errors import DataError

HEADER = "userID\titemID\tx_label\n"


def test_read_inter(tmp_path: Path) -> None:
    file = tmp_path / "a.inter"
    file.write_text(
        "x_label\tuserID\ttime\titemID\n0\t5\t9\t2\n1\t5\t8\t0\n2\t0\t7\t2\n"
    )
    user, item, label = read_inter(file)
    assert user.tolist() == [5, 5, 0]
    assert item.tolist() == [2, 0, 2]
    assert label.tolist() == [0, 1, 2]
    assert user.dtype == item.dtype == label.dtype == torch.long


@pytest.mark.parametrize(
    ("content", "row", "field", "words"),
    [
        (HEADER + "0\t0\t0\n" + HEADER, 3, None, "header is repeated"),
        (HEADER + "0\t0\t0\n0\tnan\t1\n", 3, "itemID", "'nan'"),
        (HEADER + "0\t0\t0\n\n1.5\t0\t1\n", 4, "userID", "'1.5'"),
        (HEADER + "-1\t0\t0\n", 2, "userID", "'-1'"),
        (HEADER + "0\t0\t3\n", 2, "x_label", "0, 1 or 2"),
        (HEADER + "0\t0\n", 2, "x_label", "got ''"),
        ("userID\titemID\n0\t0\n", 1, "x_label", "missing"),
        (HEADER, None, "x_label", "train split is empty"),
        (HEADER + "0\t0\t0\n0\t1\t2\n", None, "x_label", "validation split is empty"),
        ("", None, None, "empty"),
    ],
)
def test_read_inter_faults(
    tmp_path: Path, content: str, row: int | None, field: str | None, words: str
) -> None:
    file = tmp_path / "a.inter"
    file.write_text(content)
    with pytest.raises(DataError, match=words) as caught:
        read_inter(file)
    assert caught.value.file == str(file)
    assert (caught.value.row, caught.value.field) == (row, field)


def test_read_inter_broken_encoding(tmp_path: Path) -> None:
    file = tmp_path / "a.inter"
    file.write_bytes(HEADER.encode() + b"0\t0\t0\n0\t\xe9\t1\n")
    with pytest.raises(DataError, match="UTF-8") as caught:
        read_inter(file)
    assert caught.value.row == 3


def counts(n: int, val: float, test: float) -> tuple[int, int, int]:
    """The rule, user by user: train, validation and test of n interactions."""
    if n == 1:
        return 1, 0, 0
    if n == 2:
        return 1, 0, 1
    num_val = max(1, int(n * val + 1e-9))
    num_test = max(1, int(n * test + 1e-9))
    return n - num_val - num_test, num_val, num_test


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 6), max_size=80),
    st.sampled_from([(0.8, 0.1, 0.1), (0.6, 0.3, 0.1), (0.5, 0.2, 0.3)]),
    st.integers(0, 100),
)
def test_split_counts(
    users: list[int], ratios: tuple[float, float, float], seed: int
) -> None:
    user = torch.tensor(users, dtype=torch.long)
    item = torch.arange(len(users))
    label = split_interactions(user, item, ratios, seed)
    for name in set(users):
        found = label[user == name].bincount(minlength=3).tolist()
        assert tuple(found) == counts(users.count(name), *ratios[1:])


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-3, 3)), max_size=60))
def test_split_by_time(rows: list[tuple[int, int]]) -> None:
    user = torch.tensor([name for name, _ in rows], dtype=torch.long)
    time = torch.tensor([when for _, when in rows], dtype=torch.long)
    label = split_interactions(user, user, timestamp=time).tolist()
    for name in set(user.tolist()):
        mine = [index for index, row in enumerate(rows) if row[0] == name]
        mine.sort(key=lambda index: (rows[index][1], index))
        train, val, test = counts(len(mine), 0.1, 0.1)
        assert [label[index] for index in mine] == [0] * train + [1] * val + [2] * test


def test_split_is_random_and_seeded() -> None:
    user = torch.arange(200).repeat_interleave(10)
    first = split_interactions(user, user, seed=1)
    assert torch.equal(first, split_interactions(user, user, seed=1))
    assert torch.equal(first, split_interactions(user, user, seed=np.int64(1)))
    assert not torch.equal(first, split_interactions(user, user, seed=2))
    # Each place of a user's ten is held out for about a fifth of the users.
    share = (first.view(200, 10) > 0).double().mean(dim=0)
    assert share.min() > 0.08
    assert share.max() < 0.35


def test_split_with_uneven_ratios() -> None:
    def split(n: int, ratios: tuple[float, float, float]) -> list[int]:
        user = torch.zeros(n, dtype=torch.long)
        label = split_interactions(user, user, ratios, timestamp=torch.arange(n))
        return label.bincount(minlength=3).tolist()

    assert split(100, (0.7, 0.01, 0.29)) == [70, 1, 29]
    assert split(4, (0.1, 0.8, 0.1)) == [1, 2, 1]
    assert split(5, (0.9, 0.0, 0.1)) == [4, 0, 1]
    assert split(5, (0.9, 0.1, 0.0)) == [4, 1, 0]
    assert split(2, (0.9, 0.1, 0.0)) == [1, 1, 0]
    assert split(5, (1.0, 0.0, 0.0)) == [5, 0, 0]


def test_split_faults() -> None:
    user = torch.zeros(3, dtype=torch.long)
    nan = (float("nan"), 0.1, 0.1)
    wrong = [(0.8, 0.1), (0.8, 0.1, 0.2), (0.0, 0.5, 0.5), (1.2, -0.1, -0.1), nan]
    for ratios in wrong:
        with pytest.raises(ValueError, match="ratios"):
            split_interactions(user, user, ratios)
    with pytest.raises(ValueError, match="one length"):
        split_interactions(user, user[:2])
    with pytest.raises(ValueError, match="timestamp"):
        split_interactions(user, user, timestamp=torch.zeros(2))
    with pytest.raises(ValueError, match="NaN"):
        split_interactions(user, user, timestamp=torch.tensor([0.0, torch.nan, 1.0]))


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=40),
    st.integers(1, 4),
)
def test_k_core_equals_loop(pairs: list[tuple[int, int]], k: int) -> None:
    kept = list(range(len(pairs)))
    while True:
        users = [pairs[index][0] for index in kept]
        items = [pairs[index][1] for index in kept]
        smaller = [
            index
            for index in kept
            if users.count(pairs[index][0]) >= k and items.count(pairs[index][1]) >= k
        ]
        if smaller == kept:
            break
        kept = smaller
    edges = torch.tensor(pairs, dtype=torch.long).view(-1, 2)
    # Ids need not be small.
    mask = k_core(edges[:, 0] * 10**12, edges[:, 1] + 7, k)
    assert mask.nonzero().flatten().tolist() == kept
