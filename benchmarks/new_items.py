"""Items that come after the training, recommended by their factor values and texts.

A random tenth of the items with values is taken out of the data before the training,
with all its interactions, and added to the paper's MARS (``mars_letter``) and to the
heads afterwards by its profile and text alone. Ranked
are the new items alone, and all items; what counts are the test interactions with the
new items. Choices were made on the interactions of the other splits with them. Beside
it stands what the other items lose: their validation recall before and after; the
recall of all test interactions, with the new items and with the others; and the share
of the places of the lists that new items get. Recommenders of all heads and of the
model with them raise new items to the share that the likes of them have; the
"unraised" ones do not.

    python benchmarks/new_items.py --root DATA --text-model MODEL
    python benchmarks/new_items.py --table       # table, csv and plot of the records
    python benchmarks/new_items.py --quick       # synthetic data, a minute
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import pandas as pd
import torch
from accuracy import MODELS
from figures import COLOURS, MUTED, drawing, write_csv
from torch import Tensor
from torch_geometric.data import HeteroData

from mars_pyg import (
    AddItemKNN,
    AddItems,
    HeadedRecommender,
    Recommender,
    evaluate,
)
from mars_pyg.config import make_config
from mars_pyg.features import DEFAULT_TEXT_MODEL
from mars_pyg.files import atomic_path
from mars_pyg.heads.build import build_heads
from mars_pyg.item_subset import take_items
from mars_pyg.item_values import item_value_edges
from mars_pyg.runs import build_recommender, load_data
from mars_pyg.training import fit, fit_head_weights, rank
from mars_pyg.user_items import INTERACTS, UserItems

RESULTS = Path(__file__).parent / "results" / "new_items.json"
SHARE = 0.1
QUICK = {"num_users": 400, "num_items": 200, "text_model": "tfidf"}
QUICK_EPOCHS = 20
UNRAISED = {"heads unraised": "heads", "all unraised": "all"}
METHODS = ("random", "popularity", "text", "affinity", "ease", "model", "heads", "all")
METHODS += tuple(UNRAISED)
LABELS = {
    "text": "text kNN",
    "all": "model + heads",
    "all unraised": "model + heads unraised",
}
LENGTH = 20
#: What is said of each method: the column, the split and the metric of the records.
COLUMNS = {
    "new items alone: R@20": ("test_new", "recall@20"),
    "new items alone: N@20": ("test_new", "ndcg@20"),
    "all items: R@20": ("test", "recall@20"),
    "all items: N@20": ("test", "ndcg@20"),
    "other items: R@20 before": ("others_before", "recall@20"),
    "other items: R@20 after": ("others", "recall@20"),
    "together: R@20": ("test_whole", "recall@20"),
}
PLOTTED = {
    "new items alone: R@20": "Among the new items",
    "all items: R@20": "Among all items",
}


@dataclass(frozen=True)
class Problem:
    """Data without the new items, and with them.

    Args:
        before: The graph that models are trained on.
        after: The same with the new items at the end. The interactions with these are
            the splits to evaluate: ``test``, and the others together as ``val``.
        others: The same with the validation interactions of the other items.
        whole: The same with the validation and test interactions of all items.
    """

    before: HeteroData
    after: HeteroData
    others: HeteroData
    whole: HeteroData


class Embeddings(Recommender):
    """Inner products of given representations."""

    def __init__(self, users: Tensor, items: Tensor) -> None:
        super().__init__(users.size(0), items.size(0))
        self.users, self.items = torch.nn.Parameter(users), torch.nn.Parameter(items)

    def forward(self) -> tuple[Tensor, Tensor]:
        """The representations as they are."""
        return self.users, self.items

    def loss(self, user: Tensor, positive: Tensor, negative: Tensor) -> dict:
        """Nothing.

        Raises:
            ValueError: Always.
        """
        raise ValueError("what is compared here is trained already")


class SomeItems(Recommender):
    """Another recommender's ranking of some of its items."""

    def __init__(self, recommender: Recommender, others: slice) -> None:
        super().__init__(recommender.num_users, recommender.num_items)
        self.recommender, self.others = recommender, others

    def forward(self) -> tuple[Tensor, Tensor]:
        """What the other one returns."""
        return self.recommender()

    def loss(self, user: Tensor, positive: Tensor, negative: Tensor) -> dict:
        """Nothing.

        Raises:
            ValueError: Always.
        """
        raise ValueError("what is compared here is trained already")

    def score(self, user: Tensor, representations: tuple[Tensor, Tensor]) -> Tensor:
        """The scores of these items alone."""
        score = self.recommender.score(user, representations)
        score[:, self.others] = -torch.inf
        return score


def main() -> None:
    """Measure, record, print the table, and draw."""
    arguments = parse_arguments()
    if not arguments.table:
        for dataset in arguments.datasets:
            for seed in arguments.seeds:
                for record in run(arguments, dataset, seed):
                    print(record, flush=True)
                    add_record(arguments.output, record)
    records = json.loads(arguments.output.read_text())
    print(table(records))
    for dataset in dict.fromkeys(record["dataset"] for record in records):
        own = [record for record in records if record["dataset"] == dataset]
        stem = arguments.output.with_name(f"{arguments.output.stem}_{dataset}")
        write_csv(csv_rows(own), stem.with_suffix(".csv"))
        plot(own, dataset, stem.with_suffix(".png"))


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, help="folder of the Amazon data")
    parser.add_argument("--text-model", default=DEFAULT_TEXT_MODEL)
    parser.add_argument("--datasets", nargs="+", default=["baby", "sports"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--max-epochs", type=int, default=500)
    parser.add_argument(
        "--runs", type=Path, help="folder of trained models, to go on where one was"
    )
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.datasets, arguments.max_epochs = ["synthetic"], QUICK_EPOCHS
        if arguments.output == RESULTS:
            arguments.output = Path(tempfile.mkdtemp()) / "new_items.json"
    elif not arguments.table and arguments.root is None:
        parser.error("--root, the folder of the Amazon data, is needed")
    return arguments


def run(arguments: argparse.Namespace, dataset: str, seed: int) -> Iterator[dict]:
    """Train without some items, add them, and rank them by each method."""
    keys = {"dataset": dataset, "seed": seed, **MODELS["mars_letter"]}
    keys |= QUICK if arguments.quick else {"text_model": arguments.text_model}
    if arguments.root is not None:
        keys["root"] = arguments.root
    config = make_config(keys)
    problem = take_out(load_data(config), seed)
    model = build_recommender(config, problem.before)
    settings = config.training_arguments() | {"max_epochs": arguments.max_epochs}
    folder = arguments.runs and arguments.runs / f"{dataset}-{seed}"
    result = fit(
        model,
        problem.before,
        **settings,
        run_dir=folder,
        resume=folder is not None,
        progress=lambda line: print(line, flush=True),
    )
    first = problem.before["item"].num_nodes
    fitted: dict[str, HeadedRecommender] = {}
    for method in arguments.methods:
        recommender = make(method, model, problem, seed, fitted)
        record = {"dataset": dataset, "seed": seed, "method": method}
        record |= {
            "new_items": recommender.num_items - first,
            "epoch": result.best_epoch,
        }
        alone = SomeItems(recommender, slice(first))
        without = SomeItems(recommender, slice(first, None))
        for split in ("val", "test"):
            record[f"{split}_new"] = evaluate(alone, problem.after, split)
            record[split] = evaluate(recommender, problem.after, split)
        record["others_before"] = evaluate(without, problem.others, "val")
        record["others"] = evaluate(recommender, problem.others, "val")
        for split in ("val", "test"):
            record[f"{split}_whole"] = evaluate(recommender, problem.whole, split)
        record["places"] = share_of_places(recommender, problem)
        record["interactions"] = share_of_interactions(problem)
        yield record


def make(
    method: str,
    model: Recommender,
    problem: Problem,
    seed: int,
    fitted: dict[str, HeadedRecommender],
) -> Recommender:
    """A recommender of all items by one of the methods; those fitted are kept."""
    before, after = problem.before, problem.after
    if method == "random":
        generator = torch.Generator().manual_seed(seed)
        sizes = (after["user"].num_nodes, 8), (after["item"].num_nodes, 8)
        return Embeddings(*(torch.randn(*size, generator=generator) for size in sizes))
    if method == "text":
        return text_similarity(after)
    if method == "model":
        return model.add_items(after)
    kind = UNRAISED.get(method, method)
    alone = kind not in ("heads", "all")
    if kind not in fitted:
        heads = build_heads(before, [kind]) if alone else build_heads(before)
        base = model if kind == "all" else None
        fitted[kind] = HeadedRecommender(base, before, heads)
        fit_head_weights(fitted[kind], before)
    raised = not alone and method not in UNRAISED
    return fitted[kind].add_items(after, exposure=float(raised))


@torch.no_grad()
def share_of_places(recommender: Recommender, problem: Problem) -> float:
    """The share of the places of the users' lists that new items have."""
    first = problem.before["item"].num_nodes
    seen = UserItems.from_data(problem.before, "train")
    user = seen.count.nonzero().view(-1)
    items = [
        item
        for _, _, item in rank(
            recommender, user, LENGTH, replace(seen, num_items=recommender.num_items)
        )
    ]
    return float((torch.cat(items) >= first).double().mean())


def share_of_interactions(problem: Problem) -> float:
    """The share of the interactions of all splits that are with new items."""
    new, whole = problem.after[INTERACTS], problem.before[INTERACTS]
    number = new.val_edge_index.size(1) + new.test_edge_index.size(1)
    total = sum(edges.size(1) for edges in whole.to_dict().values())
    return number / (number + total)


def text_similarity(data: HeteroData) -> Embeddings:
    """The mean cosine of an item's text features and those of a user's history."""
    x = torch.nn.functional.normalize(data["item"].x_text, dim=1)
    history = UserItems.from_data(data, "train")
    users = x.new_zeros(history.num_users, x.size(1))
    users.index_add_(0, history.rows(), x[history.item])
    return Embeddings(users / history.count.clamp(min=1)[:, None], x)


def take_out(data: HeteroData, seed: int) -> Problem:
    """Take a random share of the items with values and text out, and add them."""
    num_items = data["item"].num_nodes
    edges = item_value_edges(data)
    known = torch.zeros(num_items, dtype=torch.bool)
    known[edges[0]] = True
    known &= (data["item"].x_text != 0).any(dim=1)
    eligible = known.nonzero().view(-1)
    order = torch.randperm(
        eligible.numel(), generator=torch.Generator().manual_seed(seed)
    )
    new = eligible[order[: round(SHARE * eligible.numel())]].sort().values
    old = torch.ones(num_items, dtype=torch.bool)
    old[new] = False
    place = torch.full((num_items,), -1)
    place[old] = torch.arange(int(old.sum()))
    place[new] = torch.arange(int(old.sum()), num_items)
    before = AddItemKNN(k=10, attrs=["x_text"])(take_items(data, old.nonzero()[:, 0]))
    after = AddItems(
        describe(data, new),
        features={
            name.removeprefix("x_"): x[new]
            for name, x in data["item"].items()
            if name.startswith("x_")
        },
    )(before)
    remaining, whole = after.clone(), after.clone()
    wanted = {}
    for name, edge_index in data[INTERACTS].items():
        user, item = edge_index
        chosen = ~old[item]
        wanted[name] = torch.stack([user[chosen], place[item[chosen]]])
        if name != "edge_index":
            whole[INTERACTS][name] = torch.stack([user, place[item]])
    store = after[INTERACTS]
    store.test_edge_index = wanted["test_edge_index"]
    others = [wanted["edge_index"], wanted["val_edge_index"]]
    store.val_edge_index = torch.cat(others, dim=1)
    return Problem(before, after, remaining, whole)


def describe(data: HeteroData, items: Tensor) -> pd.DataFrame:
    """The ids, titles and factor values of some items, as a shop would give them."""
    store = data["value"]
    rows = [
        {"id": data["item"].id[i], "title": data["item"].title[i]}
        for i in items.tolist()
    ]
    place = {i: row for row, i in enumerate(items.tolist())}
    for item, value in item_value_edges(data).t().tolist():
        if item in place:
            factor = store.factor_name[store.factor[value]]
            rows[place[item]].setdefault(factor, []).append(store.name[value])
    return pd.DataFrame(rows)


def add_record(path: Path, record: dict) -> None:
    """Add a record; one of the same dataset, seed and method gives way to it."""

    def key(item: dict) -> tuple:
        return item["dataset"], item["seed"], item["method"]

    records = json.loads(path.read_text()) if path.is_file() else []
    records = [r for r in records if key(r) != key(record)] + [record]
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(records, indent=1) + "\n")


def by_method(records: list[dict]) -> dict[tuple[str, str], list[dict]]:
    """The records of each dataset and method, one for each draw of new items."""
    groups = defaultdict(list)
    for record in records:
        groups[record["dataset"], record["method"]].append(record)
    return groups


def table(records: list[dict]) -> str:
    """The records as a table, means over the draws of new items."""
    lines = [
        f"| dataset | method | {' | '.join(COLUMNS)} | places | draws |",
        "|" + "---|" * (len(COLUMNS) + 4),
    ]
    for (dataset, method), runs in by_method(records).items():
        cells = [dataset, LABELS.get(method, method)]
        for split, name in COLUMNS.values():
            cells.append(f"{mean(run[split][name] for run in runs):.4f}".lstrip("0"))
        cells.append(f"{mean(run['places'] for run in runs):.1%}")
        lines.append("| " + " | ".join([*cells, str(len(runs))]) + " |")
    return "\n".join(lines)


def csv_rows(records: list[dict]) -> list[dict[str, Any]]:
    """What each method comes to in each draw."""
    return [
        {name: record[name] for name in ("dataset", "method", "seed", "new_items")}
        | {column: record[split][k] for column, (split, k) in COLUMNS.items()}
        | {"places": record["places"]}
        for record in records
    ]


def plot(records: list[dict], dataset: str, path: Path) -> None:
    """Recall@20 of new items, means over the draws, which are dots."""
    runs = {method: own for (_, method), own in by_method(records).items()}
    methods = [method for method in METHODS if method in runs][::-1]
    title = f"Items that no model was trained on, Amazon {dataset.capitalize()}"
    size = 9.5, 1.8 + 0.36 * len(methods)
    with drawing(path, title, size, ncols=len(PLOTTED), sharey=True) as (_, axes):
        for axis, (column, name) in zip(axes, PLOTTED.items(), strict=True):
            split, metric = COLUMNS[column]
            for method in methods:
                values = [run[split][metric] for run in runs[method]]
                label = LABELS.get(method, method)
                is_ours = method not in ("random", "popularity", "text")
                axis.barh(label, mean(values), color=COLOURS[0] if is_ours else MUTED)
                axis.plot(values, [label] * len(values), "k.", markersize=5)
            axis.set_title(name, loc="left", fontsize=13)
            axis.set_xlabel("test Recall@20")
            axis.locator_params(axis="x", nbins=5)
            axis.grid(visible=False, axis="y")


if __name__ == "__main__":
    main()
