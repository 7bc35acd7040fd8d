from __future__ import annotations

import torch
from torch_geometric.data import HeteroData

from mars_pyg import Popularity


def make(num_items: int) -> HeteroData:
    """Five users; items 0 to 2 are chosen by four, two and one of them."""
    data = HeteroData()
    data["user"].num_nodes = 5
    data["item"].num_nodes = num_items
    data["user", "interacts", "item"].edge_index = torch.tensor(
        [[0, 1, 2, 3, 0, 1, 4], [0, 0, 0, 0, 1, 1, 2]]
    )
    return data


def test_items_that_come_one_after_another_count_as_the_middle_one() -> None:
    head = Popularity(make(3))
    assert head.count.tolist() == [4, 2, 1]
    once = head.add_items(make(4))
    twice = once.add_items(make(6))
    assert once.count.tolist() == [4, 2, 1, 2]
    assert twice.count.tolist() == [4, 2, 1, 2, 2, 2]
    assert twice.num_counted == 3
    assert head.add_items(make(4), quantile=1.0).count.tolist() == [4, 2, 1, 4]
