"""The graph of some items says of them what the whole one does."""

import torch
from factor_data import make_data, problems
from hypothesis import given
from hypothesis import strategies as st

from mars_pyg import AddItems, SyntheticFactorDataset
from mars_pyg.item_subset import take_items
from mars_pyg.item_values import item_value_edges
from mars_pyg.user_items import INTERACTS


@given(problem=problems(), data=st.data())
def test_edges_are_those_of_the_items_by_their_new_numbers(problem, data):
    num_items = problem[1]
    graph = make_data(*problem)
    order = data.draw(st.permutations(range(num_items)))
    item = order[: data.draw(st.integers(0, num_items))]
    some = take_items(graph, torch.tensor(item, dtype=torch.int64))
    assert some["item"].num_nodes == len(item)
    expected = [(u, item.index(i)) for u, i in problem[4] if i in item]
    found = some[INTERACTS].edge_index.t().tolist()
    assert [tuple(pair) for pair in found] == expected
    values = {(j, v) for j, i in enumerate(item) for v in problem[3][i]}
    assert {tuple(pair) for pair in item_value_edges(some).t().tolist()} == values
    assert torch.equal(some["value"].factor, graph["value"].factor)


def test_ids_features_and_splits_follow_the_items():
    graph = SyntheticFactorDataset(num_users=30, num_items=20)[0]
    item = torch.tensor([7, 3, 19])
    some = take_items(graph, item)
    assert some.validate()
    assert some["item"].id == [graph["item"].id[i] for i in (7, 3, 19)]
    assert torch.equal(some["item"].x_text, graph["item"].x_text[item])
    for name, (user, chosen) in graph[INTERACTS].items():
        expected = {(u, i) for u, i in zip(user.tolist(), chosen.tolist(), strict=True)}
        expected = {pair for pair in expected if pair[1] in (7, 3, 19)}
        user, chosen = some[INTERACTS][name]
        pairs = zip(user.tolist(), item[chosen].tolist(), strict=True)
        assert set(pairs) == expected


def test_lists_that_are_not_of_the_items_stay_as_they_are():
    graph = SyntheticFactorDataset(num_users=30, num_items=20)[0]
    graph["item"].columns = ["one", "two"]
    more = AddItems([{"id": "new"}])(graph.clone())
    assert more["item"].columns == ["one", "two"]
    assert take_items(more, torch.tensor([7, 3]))["item"].columns == ["one", "two"]
