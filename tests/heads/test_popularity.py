from __future__ import annotations

import torch
from torch_geometric.data import HeteroData

from mars_pyg import Popularity
from mars_pyg.user_items import UserItems


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


def test_a_count_beyond_half_precision_is_a_number() -> None:
    data = make(3)
    head = Popularity(data).half()
    head.count[0] = 100_000
    history = UserItems.from_data(data, "train")
    expected = torch.tensor([100_001.0, 3.0, 2.0]).log().half()
    torch.testing.assert_close(head.score(history).detach()[4], expected)
    pair = head.pair_parts(history, torch.tensor([4]), torch.tensor([0]))
    assert pair.item() == expected[0]
