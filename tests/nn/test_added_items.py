"""The representation of new items, against its formula."""

import torch
from torch_geometric.data import HeteroData

from mars_pyg import BPR, LightGCN, SyntheticFactorDataset
from mars_pyg.nn import AddedItems
from mars_pyg.transforms import AddItems
from mars_pyg.user_items import UserItems


def test_new_items_stand_where_those_like_them_do():
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 2, 3
    data["user", "interacts", "item"].edge_index = torch.tensor([[0, 1], [0, 2]])
    base = BPR(data, embedding_dim=2).double()
    base.item_embedding.weight.data = torch.tensor(
        [[3.0, 4.0], [-3.0, -4.0], [0.0, 1.0]], dtype=torch.float64
    )
    neighbor = torch.tensor([[0, 2], [2, 0], [0, 1], [1, 1]])
    like = torch.tensor([[True, True], [True, False], [True, True], [False, False]])
    added = AddedItems(base, neighbor, like)
    users, items = added()
    assert (added.num_users, added.num_items) == (2, 7)
    assert torch.equal(users, base.user_embedding.weight)
    assert torch.equal(items[:3], base.item_embedding.weight)
    # The direction of [3, 5], and the mean of the lengths 5 and 1.
    expected = torch.tensor([3.0, 5.0], dtype=torch.float64) / 34**0.5 * 3
    torch.testing.assert_close(items[3], expected)
    torch.testing.assert_close(items[4], items[2])
    # Opposite ones leave nothing, and neither does an item like none.
    assert torch.equal(items[5:], torch.zeros(2, 2, dtype=torch.float64))
    gradient = torch.autograd.grad(items[3].sum(), base.item_embedding.weight)[0]
    assert gradient[0].any()
    assert not gradient[1].any()
    # The terms of all items add up to them, and say which are new.
    terms = added.item_terms()
    assert [term.source for term in terms.terms] == ["collaborative", "similar"]
    vectors = terms.vectors(torch.arange(7))
    torch.testing.assert_close(vectors.sum(dim=1), items)
    assert not vectors[:3, 1].any()
    assert not vectors[3:, 0].any()


def test_users_without_an_item_are_those_of_the_recommender():
    data = SyntheticFactorDataset(30, 20, seed=1)[0]
    base = LightGCN(data, embedding_dim=4, num_layers=2)
    new = AddItems([{"id": "new"}])(data)
    item = UserItems.from_data(data, "train").take(torch.tensor([3])).item
    expected = base.user_without_items(3, item)
    assert expected is not None
    added = base.add_items(new)
    assert torch.equal(added.user_without_items(3, item), expected)
    # Without layers it takes another training.
    base = BPR(data, embedding_dim=4)
    assert base.add_items(new).user_without_items(3, item) is None
