"""Factor affinity and EASE beside PyG's own LightGCN.

Any model that gives users and items an embedding takes the heads: they read the users'
train items and the items' factor values, and their scores are added. Run ``python
examples/heads_on_light_gcn.py``, or ``--dataset baby --root DATA`` for Amazon data.
"""

from __future__ import annotations

import argparse

import torch
from mars_conv_in_light_gcn import train_epoch, validate
from torch import Tensor
from torch_geometric import seed_everything
from torch_geometric.nn import LightGCN
from torch_geometric.utils import to_undirected

from mars_pyg import (
    EASE,
    AmazonFactorDataset,
    FactorAffinity,
    HeadedRecommender,
    Popularity,
    Recommender,
    SyntheticFactorDataset,
    evaluate,
)
from mars_pyg.training import fit_head_weights


class Embeddings(Recommender):
    """What a trained model of PyG says of users and items, as a recommender."""

    def __init__(self, users: Tensor, items: Tensor) -> None:
        super().__init__(users.size(0), items.size(0))
        self.users, self.items = torch.nn.Parameter(users), torch.nn.Parameter(items)

    def forward(self) -> tuple[Tensor, Tensor]:
        """The embeddings as they are."""
        return self.users, self.items

    def loss(self, user: Tensor, positive: Tensor, negative: Tensor) -> dict:
        """Nothing.

        Raises:
            ValueError: Always.
        """
        raise ValueError("the embeddings are trained already")


def main() -> dict[str, float]:
    """Train PyG's LightGCN, and compare its test recall with and without heads."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="synthetic")
    parser.add_argument("--root", default="data")
    parser.add_argument("--epochs", type=int, default=60)
    arguments = parser.parse_args()

    seed_everything(0)
    if arguments.dataset == "synthetic":
        data = SyntheticFactorDataset()[0]
    else:
        data = AmazonFactorDataset(arguments.root, arguments.dataset)[0]
    num_users, num_items = data["user"].num_nodes, data["item"].num_nodes
    model = LightGCN(num_users + num_items, 64, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    best, embedding = -1.0, torch.empty(0)
    user, item = data["user", "interacts", "item"].edge_index
    graph = to_undirected(torch.stack([user, item + num_users]))
    for epoch in range(1, arguments.epochs + 1):
        train_epoch(model, data, optimizer)
        validated = epoch % 10 == 0 or epoch == arguments.epochs
        if validated and (recall := validate(model, data)) > best:
            best, embedding = recall, model.get_embedding(graph).detach()

    base = Embeddings(*embedding.split([num_users, num_items]))
    heads = [FactorAffinity(data), EASE(num_items).fit(data), Popularity(data)]
    result = {"LightGCN": evaluate(base, data, "test")["recall@20"]}
    for names, chosen in (("affinity", heads[:1]), ("all heads", heads)):
        recommender = HeadedRecommender(base, data, chosen)
        fit_head_weights(recommender, data)  # on validation
        result[f"with {names}"] = evaluate(recommender, data, "test")["recall@20"]
    print(", ".join(f"{name} {recall:.4f}" for name, recall in result.items()))
    return result


if __name__ == "__main__":
    main()
