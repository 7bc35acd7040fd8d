"""MARSConv in mini-batches: PyG's LinkNeighborLoader over users, items and values.

A batch holds the items that users of the batch chose, the factor values of these, and
some other items of each value, so that what a step propagates does not grow with the
catalogue. The mean of a value's items becomes a mean over the sampled ones. Needs
``pyg-lib`` or ``torch-sparse``, by which PyG samples. Run ``python
examples/link_neighbor_loader.py``.
"""

from __future__ import annotations

import argparse
import copy

import torch
import torch_geometric.transforms as T
from heads_on_light_gcn import Embeddings
from torch import Tensor
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData
from torch_geometric.loader import LinkNeighborLoader
from torch_geometric.nn.models.lightgcn import BPRLoss
from torch_geometric.utils import coalesce, scatter

from mars_pyg import MARSConv, SyntheticFactorDataset, ToTrainGraph, evaluate

INTERACTS = ("user", "interacts", "item")


class TwoTowers(torch.nn.Module):
    """Items hear the items that share their values, users the items of their history.

    Args:
        data: The whole graph.
        channels: The width of the embeddings.
    """

    def __init__(self, data: HeteroData, channels: int = 64) -> None:
        super().__init__()
        self.user = torch.nn.Embedding(data["user"].num_nodes, channels)
        self.item = torch.nn.Embedding(data["item"].num_nodes, channels)
        for table in (self.user, self.item):
            torch.nn.init.xavier_uniform_(table.weight)
        num_factors = int(data["value"].factor.max()) + 1
        self.conv = MARSConv(channels, channels, num_factors, project=False)

    def forward(self, batch: HeteroData) -> tuple[Tensor, Tensor]:
        """The users and the items of a batch, or of the whole graph."""
        x = self.item(batch["item"].n_id)
        items = x + self.conv(x, value_edges(batch), batch["value"].factor)
        item, user = batch["item", "rev_interacts", "user"].edge_index
        history = scatter(
            items[item], user, dim_size=batch["user"].n_id.numel(), reduce="mean"
        )
        return self.user(batch["user"].n_id) + history, items


def value_edges(batch: HeteroData) -> Tensor:
    """The edges from items to values, those that were sampled either way."""
    edges = []
    for source, relation, target in batch.edge_types:
        edge_index = batch[source, relation, target].edge_index
        if (source, target) == ("item", "value"):
            edges.append(edge_index)
        elif (source, target) == ("value", "item"):
            edges.append(edge_index.flip(0))
    return coalesce(torch.cat(edges, dim=1))


def train_epoch(
    model: TwoTowers, loader: LinkNeighborLoader, optimizer: torch.optim.Optimizer
) -> float:
    """Run an epoch of BPR over the train interactions."""
    model.train()
    total = 0.0
    for batch in loader:
        optimizer.zero_grad()
        users, items = model(batch)
        user = users[batch["user"].src_index]
        positive = items[batch["item"].dst_pos_index]
        negative = items[batch["item"].dst_neg_index]
        loss = BPRLoss()((user * positive).sum(dim=-1), (user * negative).sum(dim=-1))
        loss.backward()
        optimizer.step()
        total += float(loss.detach()) * user.size(0)
    return total / loader.data[INTERACTS].num_edges


@torch.no_grad()
def validate(model: TwoTowers, graph: HeteroData, data: HeteroData) -> float:
    """Recall of the validation items, with all neighbours and among all items."""
    model.eval()
    whole = copy.copy(graph)
    for store in whole.node_stores:
        store.n_id = torch.arange(store.num_nodes)
    return evaluate(Embeddings(*model(whole)), data, "val")["recall@20"]


def main() -> list[float]:
    """Train by batches of sampled neighbours, and validate by the whole graph."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()

    seed_everything(0)
    data = SyntheticFactorDataset()[0]
    graph = T.Compose([ToTrainGraph(), T.ToUndirected()])(data)
    loader = LinkNeighborLoader(
        graph,
        num_neighbors=[20, 10, 10],  # The user's items, their values, their items.
        edge_label_index=(INTERACTS, graph[INTERACTS].edge_index),
        neg_sampling="triplet",
        batch_size=1024,
        shuffle=True,
    )
    model = TwoTowers(graph)
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    recall = [validate(model, graph, data)]
    for epoch in range(1, arguments.epochs + 1):
        loss = train_epoch(model, loader, optimizer)
        recall.append(validate(model, graph, data))
        print(f"epoch {epoch} loss {loss:.4f} recall@20 {recall[-1]:.4f}")
    return recall


if __name__ == "__main__":
    main()
