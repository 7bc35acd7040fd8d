"""A first look: MARS beside LightGCN on generated data."""

from __future__ import annotations

from torch_geometric import seed_everything
from torch_geometric.data import HeteroData

from mars_pyg.datasets import SyntheticFactorDataset
from mars_pyg.heads import HeadedRecommender
from mars_pyg.heads.build import build_heads
from mars_pyg.nn import MARS, LightGCN
from mars_pyg.recommend import recommend
from mars_pyg.report import format_metrics, format_recommendations
from mars_pyg.training.evaluation import evaluate
from mars_pyg.training.head_weights import fit_head_weights
from mars_pyg.transforms import AddItemKNN


def run_demo(seed: int = 0) -> dict[str, dict[str, float]]:
    """Train both models, and print losses, metrics and one user's recommendations.

    Args:
        seed: Seed of data and models. (default: :obj:`0`)

    Returns:
        The test metrics of each model.
    """
    from mars_pyg.training.fitting import fit

    data = AddItemKNN(k=10)(SyntheticFactorDataset(seed=seed)[0])
    print(
        f"A generated catalogue: {data['user'].num_nodes:,} users, "
        f"{data['item'].num_nodes:,} items, {len(data['value'].factor_name)} factors "
        f"with {data['value'].num_nodes} values.\n"
    )
    metrics: dict[str, dict[str, float]] = {}
    models: dict[str, type[LightGCN]] = {"LightGCN": LightGCN, "MARS": MARS}
    for name, model in models.items():
        print(f"{name} trains; its losses, and what it recalls of the validation items")
        seed_everything(seed)
        recommender = model(data)
        fit(
            recommender,
            data,
            max_epochs=60,
            batch_size=1024,
            learning_rate=4e-3,
            validate_every=4,
            patience=3,
            seed=seed,
            progress=lambda line: print(line, flush=True),
        )
        metrics[name] = evaluate(recommender, data, "test")
        print()
    # The heads need no training but for their weights.
    with_heads = HeadedRecommender(recommender, data, build_heads(data))
    fit_head_weights(with_heads, data)
    metrics["MARS with heads"] = evaluate(with_heads, data, "test")
    print("Test, all items ranked for every user")
    print(format_metrics("model", metrics))
    user = _user_with_tastes(data)
    likes = data["user", "prefers", "value"].edge_index
    tastes = [data["value"].name[v] for v in likes[1][likes[0] == user].tolist()]
    print(
        "\nMARS recommends, with the factor values that an item shares with the "
        f"user's items and with how many of these\n(the taste that was planted for "
        f"this user: {', '.join(tastes)})"
    )
    identity = data["user"].id[user]
    for items in recommend(with_heads, data, [identity], k=5).values():
        print(format_recommendations(identity, items))
    return metrics


def _user_with_tastes(data: HeteroData) -> int:
    """The user with most train interactions, who has shown a taste best."""
    return int(data["user", "interacts", "item"].edge_index[0].bincount().argmax())
