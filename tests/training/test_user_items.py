from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric import EdgeIndex
from torch_geometric.data import HeteroData
from torch_geometric.transforms import ToSparseTensor

from mars_pyg import LightGCN
from mars_pyg.errors import DataError
from mars_pyg.training import UserItems
from mars_pyg.user_items import (
    check_digest,
    interactions_digest,
    split_edges,
    splits_of,
)


@given(st.data())
def test_edges_are_grouped_by_user(data: st.DataObject) -> None:
    num_users, num_items = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 7))
    pair = st.tuples(st.integers(0, num_users - 1), st.integers(0, num_items - 1))
    pairs = data.draw(st.lists(pair, max_size=40))
    edge_index = torch.tensor(pairs, dtype=torch.int64).view(-1, 2).t()
    items = UserItems.from_edge_index(edge_index, num_users, num_items)
    rows = [
        items.item[start:end].tolist()
        for start, end in zip(items.ptr[:-1], items.ptr[1:], strict=True)
    ]
    assert rows == [
        sorted({i for u, i in pairs if u == user}) for user in range(num_users)
    ]
    assert items.count.tolist() == [len(row) for row in rows]
    assert items.num_items == num_items


def test_keys_do_not_overflow() -> None:
    """A user and an item make one key, which needs more than 32 bits here."""
    num_items = 5_000_000
    edge_index = torch.tensor([[2000, 2000, 7], [num_items - 1, 3, num_items - 1]])
    items = UserItems.from_edge_index(edge_index, 2001, num_items)
    row, item = items.select(torch.tensor([2000, 7]))
    assert row.tolist() == [0, 0, 1]
    assert item.tolist() == [3, num_items - 1, num_items - 1]


def test_narrow_and_sparse_forms_of_edges(data: HeteroData) -> None:
    num_items = 5_000_000
    pairs = [[2000, 7, 2000], [num_items - 1, 4, 3]]
    narrow = EdgeIndex(pairs, sparse_size=(2001, num_items), dtype=torch.int32)
    items = UserItems.from_edge_index(narrow, 2001, num_items)
    assert items.item.tolist() == [4, 3, num_items - 1]
    assert items.count.nonzero().view(-1).tolist() == [7, 2000]

    expected = UserItems.from_data(data, "train")
    layout = torch.sparse_csr
    sparse = ToSparseTensor(layout=layout, fill_cache=False)(data.clone())
    store = sparse["user", "interacts", "item"]
    assert "edge_index" not in store
    found = UserItems.from_data(sparse, "train")
    assert torch.equal(found.ptr, expected.ptr)
    assert torch.equal(found.item, expected.item)
    assert LightGCN(sparse).graphs()["interactions"].col.numel() == len(found.item)
    assert splits_of(sparse) == splits_of(data)


def test_no_edges_and_no_items() -> None:
    empty = torch.empty(2, 0, dtype=torch.int64)
    for num_users, num_items in ((3, 0), (3, 4), (0, 4)):
        items = UserItems.from_edge_index(empty, num_users, num_items)
        assert items.ptr.tolist() == [0] * (num_users + 1)
        assert items.item.tolist() == []


def test_splits_are_joined(data: HeteroData) -> None:
    store = data["user", "interacts", "item"]
    names = {
        "train": "edge_index",
        "val": "val_edge_index",
        "test": "test_edge_index",
    }
    for splits in (("train",), ("val",), ("train", "val"), ("val", "test", "train")):
        edges = torch.cat([store[names[split]] for split in splits], dim=1)
        items = UserItems.from_data(data, *splits)
        user = torch.arange(data["user"].num_nodes)
        found = torch.stack(items.select(user)).t().tolist()
        assert found == sorted(edges.t().tolist())


def test_missing_and_unknown_splits(data: HeteroData) -> None:
    del data["user", "interacts", "item"].test_edge_index
    with pytest.raises(DataError, match=r"no test split.*'test_edge_index'"):
        UserItems.from_data(data, "train", "test")
    with pytest.raises(ValueError, match="'split' must be one of"):
        split_edges(data, "valid")


def swap_splits(data: HeteroData) -> None:
    store = data["user", "interacts", "item"]
    store.val_edge_index, store.test_edge_index = (
        store.test_edge_index,
        store.val_edge_index,
    )


def change_one(data: HeteroData) -> None:
    store = data["user", "interacts", "item"]
    store.edge_index = store.edge_index.clone()
    store.edge_index[1, 3] = (store.edge_index[1, 3] + 1) % data["item"].num_nodes


def drop_one(data: HeteroData) -> None:
    store = data["user", "interacts", "item"]
    store.val_edge_index = store.val_edge_index[:, :-1]


def drop_split(data: HeteroData) -> None:
    del data["user", "interacts", "item"].test_edge_index


def add_user(data: HeteroData) -> None:
    data["user"].num_nodes += 1


def add_item(data: HeteroData) -> None:
    data["item"].num_nodes += 1


@pytest.mark.parametrize(
    "change",
    [
        swap_splits,
        change_one,
        drop_one,
        drop_split,
        add_user,
        add_item,
    ],
)
def test_a_change_of_the_interactions_is_noticed(
    data: HeteroData, change: Callable[[HeteroData], None]
) -> None:
    other = data.clone()
    # Features may change, and how the tensor lies in memory means nothing.
    other["item"].x_text = torch.ones(data["item"].num_nodes, 2)
    store = other["user", "interacts", "item"]
    store.edge_index = store.edge_index.t().contiguous().t()
    digest = interactions_digest(data)
    check_digest(digest, other)
    change(other)
    with pytest.raises(DataError, match="not what the run was trained on"):
        check_digest(digest, other)


@pytest.mark.parametrize("split", ["edge_index", "val_edge_index"])
@pytest.mark.parametrize(("row", "number"), [(0, -1), (0, 10), (1, 30)])
def test_users_and_items_that_are_not_there_are_refused(
    data: HeteroData, split: str, row: int, number: int
) -> None:
    data["user"].num_nodes, data["item"].num_nodes = 10, 30
    store = data["user", "interacts", "item"]
    store.update({"edge_index": torch.ones(2, 2).long(), "val_edge_index": None})
    store[split] = torch.ones(2, 2).long()
    store[split][row, 1] = number
    name = "train" if split == "edge_index" else "val"
    with pytest.raises(DataError, match=r"interacts.*: the edges refer to .*numbered"):
        UserItems.from_data(data, name)
