"""MARSConv in PyG's own LightGCN: items listen to the items that share their values.

The model is ten lines on top of :class:`torch_geometric.nn.LightGCN`; the rest is
PyG's usual loop for it. Run ``python examples/mars_conv_in_light_gcn.py``.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData
from torch_geometric.metrics import LinkPredRecall
from torch_geometric.nn import LightGCN
from torch_geometric.utils import coalesce, to_undirected

from mars_pyg import FactorGraph, MARSConv, SyntheticFactorDataset


class FactorLightGCN(LightGCN):
    """LightGCN whose items add what the items with the same factor values say."""

    def __init__(self, num_users: int, channels: int, layers: int, graph: FactorGraph):
        super().__init__(num_users + graph.num_items, channels, layers)
        self.conv = MARSConv(channels, channels, graph.num_factors, project=False)
        self.num_users, self.graph = num_users, graph

    def get_embedding(self, edge_index: Tensor, edge_weight: Tensor | None = None):
        """Add the factor propagation to the rows of the items."""
        out = super().get_embedding(edge_index, edge_weight)
        items = self.conv(self.embedding.weight[self.num_users :], self.graph)
        return torch.cat([out[: self.num_users], out[self.num_users :] + items])


def factor_graph(data: HeteroData) -> FactorGraph:
    """The values of all modalities as one prepared graph."""
    edges = [
        data["item", relation, "value"].edge_index
        for relation in ("text_value", "image_value")
    ]
    return FactorGraph.from_edge_index(
        coalesce(torch.cat(edges, dim=1)),
        data["value"].factor,
        num_items=data["item"].num_nodes,
        num_factors=len(data["value"].factor_name),
    )


def train_epoch(
    model: LightGCN, data: HeteroData, optimizer: torch.optim.Optimizer
) -> float:
    """Run an epoch of BPR, as PyG's LightGCN example does."""
    num_users, num_items = data["user"].num_nodes, data["item"].num_nodes
    user, item = data["user", "interacts", "item"].edge_index
    graph = to_undirected(torch.stack([user, item + num_users]))
    total = 0.0
    for batch in torch.randperm(user.numel()).split(4096):
        positive = torch.stack([user[batch], item[batch] + num_users])
        negative = torch.stack(
            [user[batch], torch.randint(num_items, batch.shape) + num_users]
        )
        optimizer.zero_grad()
        positive_rank, negative_rank = model(
            graph, torch.cat([positive, negative], dim=1)
        ).chunk(2)
        loss = model.recommendation_loss(
            positive_rank,
            negative_rank,
            node_id=torch.cat([positive, negative], dim=1).unique(),
            lambda_reg=1e-4,
        )
        loss.backward()
        optimizer.step()
        total += float(loss.detach()) * batch.numel()
    return total / user.numel()


@torch.no_grad()
def validate(model: LightGCN, data: HeteroData, k: int = 20) -> float:
    """Recall of the validation items, among all items but those of training."""
    num_users = data["user"].num_nodes
    store = data["user", "interacts", "item"]
    user, item = store.edge_index
    embedding = model.get_embedding(
        to_undirected(torch.stack([user, item + num_users]))
    )
    score = embedding[:num_users] @ embedding[num_users:].t()
    score[user, item] = -torch.inf
    metric = LinkPredRecall(k)
    metric.update(score.topk(k).indices, store.val_edge_index)
    return float(metric.compute())


def main() -> dict[str, float]:
    """Train LightGCN with and without MARSConv, and compare their validation recall."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=60)
    arguments = parser.parse_args()

    data = SyntheticFactorDataset()[0]
    num_users, num_items = data["user"].num_nodes, data["item"].num_nodes
    best = {}
    for name in ("LightGCN", "FactorLightGCN"):
        seed_everything(0)
        if name == "LightGCN":
            model = LightGCN(num_users + num_items, 64, 2)
        else:
            model = FactorLightGCN(num_users, 64, 2, factor_graph(data))
        optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
        best[name] = 0.0
        for epoch in range(1, arguments.epochs + 1):
            loss = train_epoch(model, data, optimizer)
            if epoch % 10 == 0 or epoch == arguments.epochs:
                recall = validate(model, data)
                best[name] = max(best[name], recall)
                print(f"{name} epoch {epoch} loss {loss:.4f} recall@20 {recall:.4f}")
    print(", ".join(f"{name} {recall:.4f}" for name, recall in best.items()))
    return best


if __name__ == "__main__":
    main()
