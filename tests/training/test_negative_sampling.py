from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mars_pyg.training import NegativeSampler, UserItems


@given(st.data())
def test_negatives_are_items_not_trained_on(data: st.DataObject) -> None:
    num_users = data.draw(st.integers(1, 6))
    num_items = data.draw(st.integers(1, 9))
    pairs = data.draw(
        st.lists(
            st.tuples(st.integers(0, num_users - 1), st.integers(0, num_items - 1)),
            max_size=40,
        )
    )
    edge_index = torch.tensor(pairs, dtype=torch.int64).view(-1, 2).t()
    sampler = NegativeSampler(edge_index, num_users, num_items)
    generator = torch.Generator().manual_seed(0)
    for user in range(num_users):
        rest = set(range(num_items)) - {i for u, i in pairs if u == user}
        assert bool(sampler.has_negative[user]) == bool(rest)
        if rest:
            drawn = sampler.sample(torch.full((200,), user), generator)
            assert set(drawn.tolist()) <= rest
            # 200 draws miss one of at most 9 items with probability under 1e-9.
            assert len(set(drawn.tolist())) == len(rest)


def test_every_negative_is_equally_likely() -> None:
    edge_index = torch.tensor([[0, 0, 0, 1], [0, 3, 4, 2]])
    sampler = NegativeSampler(edge_index, num_users=3, num_items=8)
    generator = torch.Generator().manual_seed(1)
    for user, rest in ((0, [1, 2, 5, 6, 7]), (2, list(range(8)))):
        drawn = sampler.sample(torch.full((20_000,), user), generator)
        count = torch.bincount(drawn, minlength=8)[rest]
        expected = 20_000 / len(rest)
        # Chi-square of at most 7 degrees of freedom: 30 is beyond the 1e-4 tail.
        assert float(((count - expected) ** 2 / expected).sum()) < 30


def test_same_generator_same_negatives() -> None:
    sampler = NegativeSampler(torch.tensor([[0, 1], [1, 1]]), 2, 50)
    user = torch.tensor([0, 1, 1, 0])
    first, second = (
        sampler.sample(user, torch.Generator().manual_seed(7)) for _ in range(2)
    )
    assert torch.equal(first, second)


def test_user_who_trained_on_everything() -> None:
    edge_index = torch.tensor([[0, 0, 1], [0, 1, 0]])
    sampler = NegativeSampler(edge_index, num_users=2, num_items=2)
    assert sampler.has_negative.tolist() == [False, True]
    with pytest.raises(ValueError, match="2 of the draws"):
        sampler.sample(torch.tensor([0, 1, 0]))
    assert sampler.sample(torch.tensor([1, 1])).tolist() == [1, 1]


@given(st.data())
def test_select_lists_the_items_of_each_user(data: st.DataObject) -> None:
    pairs = data.draw(
        st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), max_size=30)
    )
    user = data.draw(st.lists(st.integers(0, 4), max_size=8))
    edge_index = torch.tensor(pairs, dtype=torch.int64).view(-1, 2).t()
    items = UserItems.from_edge_index(edge_index, 5, 7)
    row, item = items.select(torch.tensor(user, dtype=torch.int64))
    expected = [
        (position, i)
        for position, u in enumerate(user)
        for i in sorted({i for v, i in pairs if v == u})
    ]
    assert list(zip(row.tolist(), item.tolist(), strict=True)) == expected


@pytest.mark.parametrize("pair", [(2, 0), (0, 3), (-1, 0), (0, -1)])
def test_edges_of_users_and_items_that_are_not_there(pair: tuple[int, int]) -> None:
    edges = torch.tensor([(0, 1), pair]).t()
    with pytest.raises(ValueError, match=r"users|items"):
        NegativeSampler(edges, num_users=2, num_items=3)
