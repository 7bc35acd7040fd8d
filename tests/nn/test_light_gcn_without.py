"""A user without an interaction, against a graph without it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import HeteroData

from mars_pyg import BPR, LightGCN
from mars_pyg.nn import light_gcn_without


def make_data(edges: Tensor, num_users: int = 4, num_items: int = 5) -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = num_users, num_items
    data["user", "interacts", "item"].edge_index = edges
    return data


def make_model(edges: Tensor, num_layers: int) -> LightGCN:
    torch.manual_seed(0)
    model = LightGCN(make_data(edges), 3, num_layers).double().eval()
    return model.requires_grad_(False)


# Repeated interactions too, and users and items with a single one.
PAIRS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1)


@settings(deadline=None, max_examples=60)
@given(pairs=PAIRS, num_layers=st.integers(1, 4))
def test_equals_the_graph_without_the_interaction(
    pairs: list[tuple[int, int]], num_layers: int
) -> None:
    edges = torch.tensor(pairs).t()
    model = make_model(edges, num_layers)
    user = pairs[0][0]
    item = edges[1][edges[0] == user].unique()
    found = model.user_without_items(user, item)
    for place, left_out in enumerate(item):
        rest = edges[:, (edges[0] != user) | (edges[1] != left_out)]
        expected = make_model(rest, num_layers)()[0][user]
        torch.testing.assert_close(found[place], expected, atol=1e-12, rtol=0)


def test_chunks_do_not_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    edges = torch.tensor([[0, 0, 0, 1, 2], [0, 1, 3, 1, 3]])
    model = make_model(edges, 2)
    item = torch.tensor([3, 0, 1])
    expected = model.user_without_items(0, item)
    monkeypatch.setattr(light_gcn_without, "MAX_WEIGHTS", 1)
    torch.testing.assert_close(model.user_without_items(0, item), expected)
    assert model.user_without_items(0, item[:0]).shape == (0, 3)


def test_without_layers_it_takes_another_training() -> None:
    model = BPR(make_data(torch.tensor([[0], [0]])), 3)
    assert model.user_without_items(0, torch.tensor([0])) is None


class Projected(LightGCN):
    """Its users are not those that the propagation brings."""

    def forward(self) -> tuple[Tensor, Tensor]:
        users, items = super().forward()
        return 2 * users, items


def test_users_of_another_forward_are_not_known() -> None:
    model = Projected(make_data(torch.tensor([[0, 0], [0, 1]])), 3)
    assert model.user_without_items(0, torch.tensor([0])) is None
