"""What PyG's loaders and subgraphs do with the graph."""

from __future__ import annotations

import pytest
import torch
import torch_geometric.transforms as T
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.loader.utils import filter_hetero_data

from mars_pyg import AddItemKNN, SyntheticFactorDataset, ToTrainGraph

INTERACTS = ("user", "interacts", "item")


@pytest.fixture(scope="module")
def data() -> HeteroData:
    dataset = SyntheticFactorDataset(num_users=30, num_items=20, num_interactions=200)
    return AddItemKNN(k=3)(dataset[0])


def test_tensors_stay_and_the_graph_is_not_changed(data: HeteroData) -> None:
    before = {store._key: set(store.keys()) for store in data.stores[1:]}
    graph = ToTrainGraph()(data)
    assert {store._key: set(store.keys()) for store in data.stores[1:]} == before
    assert len(data["item"].title) == 20
    assert "val_edge_index" in data[INTERACTS]
    assert graph.metadata() == data.metadata()
    assert graph.num_nodes_dict == data.num_nodes_dict
    for kind in (*data.node_types, *data.edge_types):
        held_out = {"val_edge_index", "test_edge_index"}
        expected = {
            name
            for name, value in data[kind].items()
            if isinstance(value, Tensor) and name not in held_out
        }
        kept = set(graph[kind].keys()) - {"num_nodes"}
        assert kept == expected
        assert all(graph[kind][name] is data[kind][name] for name in expected)


def test_subgraphs(data: HeteroData) -> None:
    item = torch.tensor([7, 3, 11])
    graph = ToTrainGraph()(data).subgraph({"item": item})
    assert torch.equal(graph["item"].x_text, data["item"].x_text[item])
    user, chosen = graph[INTERACTS].edge_index
    pairs = set(zip(user.tolist(), item[chosen].tolist(), strict=True))
    expected = {(u, i) for u, i in data[INTERACTS].edge_index.t().tolist() if i in item}
    assert pairs == expected
    assert graph.validate()


def test_isolated_nodes_are_removed(data: HeteroData) -> None:
    graph = ToTrainGraph()(data)
    graph["user"].num_nodes += 1
    edges = [data[kind].edge_index[0] for kind in data.edge_types if kind[0] == "user"]
    expected = torch.cat(edges).unique().numel()
    assert T.RemoveIsolatedNodes()(graph)["user"].num_nodes == expected


def test_samplers_can_slice_it(data: HeteroData) -> None:
    """As a batch of a loader is made, whatever has sampled it."""
    graph = T.ToUndirected()(ToTrainGraph()(data))
    nodes = {kind: torch.tensor([4, 1]) for kind in graph.node_types}
    none = torch.empty(0, dtype=torch.int64)
    edges = dict.fromkeys(graph.edge_types, none)
    batch = filter_hetero_data(graph, nodes, dict(edges), dict(edges), dict(edges))
    assert torch.equal(batch["item"].x_text, data["item"].x_text[[4, 1]])
    assert torch.equal(batch["value"].factor, data["value"].factor[[4, 1]])
    assert batch["user"].num_nodes == 2
