"""Users whom a model has never seen: ways to represent them by their histories.

Half of the users teach each way what it needs, and the other half are taken for users
who were never seen: their representations are made from their train interactions, and
rank all items by the model's inner product, and with the heads where there are some.
The items' representations have been trained with all users. Reported is validation
Recall@20, and the cosine with what the model has learned of these users.

    python benchmarks/fold_in.py --run RUN_DIR...
    python benchmarks/fold_in.py --quick        # synthetic data, seconds
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mars_pyg.config import make_config
from mars_pyg.files import atomic_path
from mars_pyg.heads import HeadedRecommender
from mars_pyg.nn import LightGCN, Recommender
from mars_pyg.nn.fold_in import FoldIn
from mars_pyg.report import format_table
from mars_pyg.runs import load_run, train
from mars_pyg.training.evaluation import compute_representations
from mars_pyg.user_items import UserItems

RESULTS = Path(__file__).parent / "results" / "fold_in.json"
K = 20
CHUNK = 1024
QUICK = {"dataset": "synthetic", "model": "lightgcn", "max_epochs": 40}


def learned(model: Recommender, history: UserItems, teach: Tensor) -> Tensor:
    """What the model has learned of the users, the aim of all others."""
    return compute_representations(model)[0]


def own(model: Recommender, history: UserItems, teach: Tensor) -> Tensor:
    """What :meth:`mars_pyg.Recommender.fit_fold_in` of the model does."""
    users, items = compute_representations(model)
    return model.fit_fold_in((users[teach], items), history.take(teach))(history)


def linear(model: Recommender, history: UserItems, teach: Tensor) -> Tensor:
    """What it does for any model: a linear map from the items' representations."""
    users, items = compute_representations(model)
    return FoldIn.fit(users[teach], items, history.take(teach))(history)


def linear_by_degree(model: Recommender, history: UserItems, teach: Tensor) -> Tensor:
    """The same with items divided by the square root of their popularity."""
    users, items = compute_representations(model)
    degree = torch.bincount(history.item, minlength=history.num_items).clamp(min=1)
    scaled = items / degree.sqrt()[:, None]
    return FoldIn.fit(users[teach], scaled, history.take(teach))(history)


def propagation(model: Recommender, history: UserItems, teach: Tensor) -> Tensor:
    """LightGCN's own formula, with nothing for the user's ID embedding."""
    assert isinstance(model, LightGCN)
    return scale(FoldIn(model._item_messages())(history), model, teach)


def ridge(unseen: float, l2: float) -> Callable[..., Tensor]:
    """Implicit ALS (Hu et al., 2008): a ridge regression for each user.

    Args:
        unseen: Weight of the items that a user does not have; those that a user has
            weigh one more.
        l2: Ridge, in means of the diagonal of the weighted Gram matrix of the items.
    """

    def represent(model: Recommender, history: UserItems, teach: Tensor) -> Tensor:
        items = compute_representations(model)[1]
        width = items.size(1)
        gram = unseen * (items.t() @ items)
        gram.diagonal().add_(l2 * gram.diagonal().mean())
        rows = []
        for user in torch.arange(history.num_users).split(CHUNK):
            chunk = history.take(user)
            x, row = items[chunk.item], chunk.rows()
            own = torch.zeros(len(user), width, width)
            own.index_add_(0, row, x[:, :, None] * x[:, None])
            target = torch.zeros(len(user), width).index_add_(0, row, x)
            rows.append(torch.linalg.solve(own + gram, target))
        return scale(torch.cat(rows), model, teach)

    return represent


WAYS: dict[str, Callable[..., Tensor]] = {
    "learned": learned,
    "own": own,
    "linear": linear,
    "linear_by_degree": linear_by_degree,
    "propagation": propagation,
    **{
        f"ridge, unseen {unseen}, l2 {l2}": ridge(unseen, l2)
        for unseen in (0.01, 0.1)
        for l2 in (1.0, 10.0, 100.0)
    },
}


def scale(x: Tensor, model: Recommender, teach: Tensor) -> Tensor:
    """Give representations the size of the learned ones, which heads add to."""
    users = compute_representations(model)[0][teach]
    return x * ((x[teach] * users).sum() / x[teach].square().sum())


@torch.no_grad()
def compare(recommender: Recommender, data: HeteroData) -> list[dict]:
    """The recall of each way, for the half of the users that did not teach it."""
    headed = isinstance(recommender, HeadedRecommender)
    model = recommender.base if headed else recommender
    heads = recommender.head_list() if headed else []
    history, held_out = (UserItems.from_data(data, s) for s in ("train", "val"))
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(history.num_users, generator=generator)
    teach, rest = (half.sort().values for half in order.tensor_split(2))
    rest = rest[held_out.count[rest] > 0]
    users, items = compute_representations(model)
    records = []
    for name, way in WAYS.items():
        if name == "propagation" and getattr(model, "num_layers", 0) == 0:
            continue
        x = way(model, history, teach)
        record: dict = {"way": name}
        value = recall(x, items, [], rest, history, held_out)
        record[f"recall@{K}"] = round(value, 4)
        if heads:
            value = recall(x, items, heads, rest, history, held_out)
            record[f"recall@{K} with heads"] = round(value, 4)
        cosine = torch.cosine_similarity(x[rest], users[rest]).mean()
        records.append({**record, "cosine": round(float(cosine), 3)})
    return records


def recall(
    x: Tensor,
    items: Tensor,
    heads: list,
    users: Tensor,
    history: UserItems,
    held_out: UserItems,
) -> float:
    """Recall of the held-out items, averaged over the users."""
    total = 0.0
    for user in users.split(CHUNK):
        chunk = history.take(user)
        score = x[user] @ items.t()
        for head in heads:
            score += head.score(chunk)
        score[chunk.rows(), chunk.item] = -torch.inf
        top = score.topk(K).indices
        row, wanted = held_out.select(user)
        hit = (top[row] == wanted[:, None]).any(dim=1) / held_out.count[user][row]
        total += float(hit.sum())
    return total / users.numel()


def main() -> None:
    """Compare the ways for each run, print the tables, and write the records."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, nargs="+", help="folders of trained runs")
    parser.add_argument("--quick", action="store_true", help="synthetic data")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if not arguments.quick and not arguments.run:
        parser.error("--run, the folder of a trained run, is needed")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        runs = arguments.run or []
        if arguments.quick:
            runs = [Path(scratch) / "run"]
            train(make_config(QUICK), runs[0], progress=False)
            if arguments.output == RESULTS:
                arguments.output = Path(scratch) / "fold_in.json"
        records = []
        for folder in runs:
            run = load_run(folder)
            name = {"dataset": run.config.dataset, "model": run.config.model}
            rows = compare(run.recommender, run.data)
            records += [{**name, **row} for row in rows]
            table = [[str(cell) for cell in row.values()] for row in rows]
            print(f"{run.config.dataset}, {run.config.model}")
            print(format_table(list(rows[0]), table))
        with atomic_path(arguments.output) as temporary:
            temporary.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
