import pytest
import torch
from torch_geometric.data import HeteroData

from mars_pyg.transforms import AddItemCooccurrence


def graph(edge_index, num_users, num_items):
    data = HeteroData()
    data["user"].num_nodes = num_users
    data["item"].num_nodes = num_items
    data["user", "interacts", "item"].edge_index = edge_index
    return data


@pytest.mark.parametrize("block_size", [1, 3, 100])
def test_equals_dense_cosine(block_size):
    torch.manual_seed(0)
    num_users, num_items, k = 30, 12, 3
    dense = (torch.rand(num_users, num_items) < 0.3).double()
    dense[:, 5] = 0  # An item that nobody chose has no neighbour.
    edge_index = dense.nonzero().t()
    # An interaction given twice counts once.
    edge_index = torch.cat([edge_index, edge_index[:, :4]], dim=1)
    data = AddItemCooccurrence(k, block_size)(graph(edge_index, num_users, num_items))
    edges = data["item", "cooccurs", "item"].edge_index

    norm = dense.norm(dim=0).clamp(min=1)
    cosine = dense.t() @ dense / norm / norm[:, None]
    cosine.fill_diagonal_(0)
    for item in range(num_items):
        got = edges[0, edges[1] == item].tolist()
        near = sorted(
            range(num_items), key=lambda j: (-round(cosine[item, j].item(), 9), j)
        )
        assert got == [j for j in near[:k] if cosine[item, j] > 0]
    assert (edges[1].diff() >= 0).all()


def test_does_not_read_held_out_interactions():
    data = graph(torch.tensor([[0], [0]]), 1, 2)
    data["user", "interacts", "item"].test_edge_index = torch.tensor([[0], [1]])
    edges = AddItemCooccurrence()(data)["item", "cooccurs", "item"].edge_index
    assert edges.shape == (2, 0)


@pytest.mark.parametrize("argument", ["k", "block_size"])
def test_rejects_nonpositive_arguments(argument):
    with pytest.raises(ValueError, match=argument):
        AddItemCooccurrence(**{argument: 0})


def test_equal_similarities_go_to_the_lower_index():
    # Items 1 and 2 have a cosine of 1/sqrt(3) with item 0, by different numbers.
    pairs = [(0, 0), (1, 0), (2, 0), *((user, 1) for user in range(9)), (0, 2)]
    data = graph(torch.tensor(pairs).t(), 9, 3)
    edges = AddItemCooccurrence(k=1)(data)["item", "cooccurs", "item"].edge_index
    assert edges[0, edges[1] == 0].tolist() == [1]
