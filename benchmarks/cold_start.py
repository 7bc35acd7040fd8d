"""Accuracy for users with few interactions, Table 2 of the paper, and by item.

Nothing is trained. Read are the places that ``accuracy.py`` keeps of each run, and the
data for its counts:

- Users: Recall and NDCG of the test users with exactly five interactions in all, and of
  those with exactly five in train, since the paper does not say which it means. All
  test users stand beside them. The paired t-test is over users, whose metric is the
  mean over the seeds of a model.
- Items: Recall@20 by the number of train interactions of the item. Of the test
  interactions with the items of a group it is the share whose item is among the best 20
  of the user: interactions weigh the same, where the mean over users does not let them.

Items that are held out of the training on purpose, and come back by their factor values
and texts, are the business of ``new_items.py``.

    python benchmarks/cold_start.py --root DATA
    python benchmarks/cold_start.py --table      # table, csv and plot of the records
    python benchmarks/cold_start.py --quick      # synthetic data, a minute
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import pandas as pd
import torch
from accuracy import BASELINE_MODELS, DATASETS, MODELS, make_jobs
from accuracy import RESULTS as ACCURACY
from figures import (
    COLOURS,
    MUTED,
    drawing,
    format_mean,
    interval,
    markdown,
    write_csv,
)
from rankings import mean_user_metrics, user_metrics
from torch_geometric.data import HeteroData
from training_runs import check_arguments, make, run

from mars_pyg.config import make_config
from mars_pyg.errors import DataError
from mars_pyg.files import atomic_path
from mars_pyg.runs import load_dataset
from mars_pyg.user_items import UserItems

RESULTS = Path(__file__).parent / "results" / "cold_start.json"
#: The number of interactions of a cold user.
COLD = 5
USER_GROUPS = {
    "all": "all test users",
    "5 in all": "test users with five interactions in all",
    "5 in train": "test users with five train interactions",
}
#: The largest train count of each group of items.
ITEM_GROUPS = {"0": 0, "1 to 2": 2, "3 to 5": 5, "6 to 10": 10, "more": np.inf}
CUTS = (10, 20)
METRICS = tuple(f"{name}@{k}" for name in ("recall", "ndcg") for k in CUTS)
COMPARED = ("recall@20", "ndcg@20")
OURS = "mars_letter_heads"
#: The models of the plot; to them comes the best of the other baselines.
SHOWN = (OURS, "mars_letter", "structure", "lightgcn", "ease_cliques", "ease")
#: Models with factors are blue.
COLOURS_OF = {
    OURS: COLOURS[0],
    "mars_letter": COLOURS[5],
    "ease_cliques": COLOURS[5],
}
QUICK_MODELS = ["lightgcn", "ease", OURS]
Records = dict[str, list[dict[str, Any]]]
#: The places of each run, by model and seed.
Runs = dict[str, dict[int, pd.DataFrame]]


def main() -> None:
    """Measure what the runs come to in each group, print the tables, and draw."""
    arguments = parse_arguments()
    if arguments.quick:
        with tempfile.TemporaryDirectory() as folder:
            make_quick_runs(arguments, Path(folder))
    elif not arguments.table:
        for dataset in arguments.datasets:
            runs = read_runs(arguments.places, dataset)
            if not runs:
                print(f"{dataset}: no places of its runs in {arguments.places}\n")
                continue
            config = make_config({"dataset": dataset, "root": arguments.root})
            records = measure(dataset, load_dataset(config)[0], runs)
            add_records(arguments.output, dataset, records)
    report(arguments.output)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, help="folder of the Amazon data")
    parser.add_argument(
        "--places",
        type=Path,
        default=ACCURACY.with_suffix(""),
        help="folder of the places that accuracy.py keeps (default: %(default)s)",
    )
    parser.add_argument(
        "--datasets", nargs="+", default=list(DATASETS), choices=DATASETS
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=RESULTS,
        help="where the records are kept (default: %(default)s)",
    )
    parser.add_argument(
        "--table", action="store_true", help="report on the records and end"
    )
    parser.add_argument(
        "--quick", action="store_true", help="small runs on synthetic data"
    )
    arguments = parser.parse_args()
    check_arguments(parser, arguments)
    return arguments


def make_quick_runs(arguments: argparse.Namespace, folder: Path) -> None:
    """Train small models on synthetic data, and measure them."""
    settings = argparse.Namespace(
        root=None,
        runs=folder / "runs",
        output=folder / ACCURACY.name,
        text_model="tfidf",
        quick=True,
        datasets=["synthetic"],
        models=QUICK_MODELS,
        seeds=[0, 1],
        search=False,
    )
    jobs = list(make_jobs(settings))
    for job in jobs:
        run(settings, job)
    data = load_dataset(make(settings, jobs[0]))[0]
    runs = read_runs(settings.output.with_suffix(""), "synthetic")
    add_records(arguments.output, "synthetic", measure("synthetic", data, runs))


def read_runs(folder: Path, dataset: str) -> Runs:
    """The places of each run on a dataset, the models in the order of ``MODELS``."""
    runs: Runs = defaultdict(dict)
    for file in folder.glob(f"{dataset}-*.parquet"):
        _, model, seed = file.stem.split("-")
        runs[model][int(seed)] = pd.read_parquet(file)
    order = [*MODELS, *sorted(set(runs) - set(MODELS))]
    return {
        model: dict(sorted(runs[model].items())) for model in order if model in runs
    }


def measure(dataset: str, data: HeteroData, runs: Runs) -> Records:
    """What each run comes to, in each group of users and items.

    Args:
        dataset: The name of the dataset.
        data: The graph with the splits that the runs were made on.
        runs: What :func:`read_runs` returns.

    Returns:
        Records of ``users`` and ``items``, one for each run and group that is not
        empty, and ``comparisons`` of :data:`OURS` with each other model.

    Raises:
        DataError: If the places of a run are of other test interactions.
    """
    users, item_group = user_groups(data), item_groups(data)
    records: Records = {"users": [], "items": [], "comparisons": []}
    for model, by_seed in runs.items():
        for seed, places in by_seed.items():
            name = {"dataset": dataset, "model": model, "seed": seed}
            check_places(places, data, name)
            records["users"] += [name | row for row in of_users(places, users)]
            records["items"] += [name | row for row in of_items(places, item_group)]
    if OURS in runs:
        for model in runs:
            if model != OURS:
                name = {"dataset": dataset, "model": model}
                rows = compare(runs[OURS], runs[model], users)
                records["comparisons"] += [name | row for row in rows]
    return records


def user_groups(data: HeteroData) -> dict[str, np.ndarray]:
    """The test users of each group."""
    splits = ("train", "val", "test")
    train, val, test = (UserItems.from_data(data, split).count for split in splits)
    chosen = {
        "all": test > 0,
        "5 in all": (test > 0) & (train + val + test == COLD),
        "5 in train": (test > 0) & (train == COLD),
    }
    return {name: mask.nonzero().view(-1).numpy() for name, mask in chosen.items()}


def item_groups(data: HeteroData) -> pd.Series:
    """The group of each item, by its train count."""
    item = UserItems.from_data(data, "train").item
    count = torch.bincount(item, minlength=data["item"].num_nodes)
    bins = [-1, *ITEM_GROUPS.values()]
    return pd.Series(pd.cut(count.numpy(), bins, labels=list(ITEM_GROUPS)))


def check_places(places: pd.DataFrame, data: HeteroData, name: dict[str, Any]) -> None:
    """Refuse places that are not of the test interactions of the data."""
    test = UserItems.from_data(data, "test")
    expected = {"user": test.rows().numpy(), "item": test.item.numpy()}
    found = places.sort_values(["user", "item"])
    if any(not np.array_equal(found[key], expected[key]) for key in expected):
        run = " ".join(str(part) for part in name.values())
        raise DataError(
            f"the places of {run} are not those of the test interactions of the data",
            mend="give the --root that the run was made on, or run accuracy.py anew",
        )


def of_users(
    places: pd.DataFrame, groups: dict[str, np.ndarray]
) -> Iterator[dict[str, Any]]:
    """The metrics of a run, averaged over the users of each group."""
    metrics = {k: user_metrics(places, k) for k in CUTS}
    for group, users in groups.items():
        if len(users):
            row = {"group": group, "number": len(users)}
            for name in METRICS:
                metric, k = name.split("@")
                row[name] = float(metrics[int(k)].loc[users, metric].mean())
            yield row


def of_items(places: pd.DataFrame, group: pd.Series) -> Iterator[dict[str, Any]]:
    """The share of the test interactions of each group that a run has found."""
    own = group.to_numpy()[places["item"]]
    for name in (*ITEM_GROUPS, "all"):
        found = places["place"][(own == name) | (name == "all")] > 0
        if len(found):
            row = {"group": name, "number": len(found)}
            yield row | {"recall@20": float(found.mean())}


def compare(
    ours: dict[int, pd.DataFrame],
    theirs: dict[int, pd.DataFrame],
    groups: dict[str, np.ndarray],
) -> Iterator[dict[str, Any]]:
    """The differences of two models for each group, and the paired t-test over users.

    There is no p-value of a single user, or where all differ by as much.
    """
    from scipy.stats import ttest_rel

    one, other = (mean_user_metrics(list(runs.values())) for runs in (ours, theirs))
    for group, users in groups.items():
        if not len(users):
            continue
        row: dict[str, Any] = {"group": group}
        for name in COMPARED:
            metric = name.split("@")[0]
            pair = one.loc[users, metric], other.loc[users, metric]
            difference = pair[0] - pair[1]
            row[f"{name} difference"] = float(difference.mean())
            varies = difference.nunique() > 1
            row[f"{name} p"] = float(ttest_rel(*pair).pvalue) if varies else None
        yield row


def read_records(path: Path) -> Records:
    """Read the records, none where there is no file."""
    if not path.is_file():
        return {"users": [], "items": [], "comparisons": []}
    return json.loads(path.read_text())


def add_records(path: Path, dataset: str, records: Records) -> None:
    """Add the records of a dataset; those that are there of it give way."""
    merged = {
        part: [row for row in rows if row["dataset"] != dataset] + records[part]
        for part, rows in read_records(path).items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(merged, indent=1) + "\n")


def report(output: Path) -> None:
    """Print the tables of the records, and write them as csv and as plots."""
    records = read_records(output)
    for dataset in (*DATASETS, "synthetic"):
        own = {
            part: [row for row in rows if row["dataset"] == dataset]
            for part, rows in records.items()
        }
        if not own["users"]:
            continue
        for group, title in USER_GROUPS.items():
            rows = user_rows(own, group)
            if rows:
                users = group_numbers(own["users"])[group]
                print(f"{dataset}, {title}: {users:,}\n\n{markdown(rows)}\n")
        print(f"{dataset}, Recall@20 by the item's train count (test interactions)\n")
        print(f"{markdown(item_rows(own['items']))}\n")
        stem = output.with_name(f"{output.stem}_{dataset}")
        write_csv(csv_rows(dataset, own), stem.with_suffix(".csv"))
        plot(own, dataset, stem.with_suffix(".png"))


def group_numbers(rows: list[dict[str, Any]]) -> dict[str, int]:
    """The number of users or test interactions of each group."""
    return {row["group"]: row["number"] for row in rows}


def by_model(
    rows: list[dict[str, Any]], group: str, metric: str
) -> dict[str, list[float]]:
    """A metric of each model in a group, a value a seed."""
    values = defaultdict(list)
    for row in rows:
        if row["group"] == group:
            values[row["model"]].append(row[metric])
    return values


def user_rows(records: Records, group: str) -> list[dict[str, Any]]:
    """The table of a group of users."""
    columns = {name: by_model(records["users"], group, name) for name in METRICS}
    compared = {
        row["model"]: row for row in records["comparisons"] if row["group"] == group
    }
    rows = []
    for model, values in columns["recall@20"].items():
        row: dict[str, Any] = {"model": model, "seeds": len(values)}
        row |= {name: format_mean(column[model]) for name, column in columns.items()}
        for name in COMPARED if compared else ():
            cell = ""
            if model in compared:
                difference = f"{compared[model][f'{name} difference']:+.4f}"
                p = compared[model][f"{name} p"]
                cell = difference.replace("0.", ".")
                cell += "" if p is None else f" (p {p:.0e})"
            row[f"{OURS} less this, {name}"] = cell
        rows.append(row)
    return rows


def item_rows(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The table of the groups of items."""
    rows: dict[str, dict[str, Any]] = {}
    for group, number in group_numbers(records).items():
        for model, values in by_model(records, group, "recall@20").items():
            row = rows.setdefault(model, {"model": model, "seeds": len(values)})
            row[f"{group} ({number:,})"] = format_mean(values)
    return list(rows.values())


def csv_rows(dataset: str, records: Records) -> list[dict[str, Any]]:
    """Means and deviations over the seeds, a row for each model and group."""
    compared = {(row["model"], row["group"]): row for row in records["comparisons"]}
    rows = []
    for part, metrics in (("users", METRICS), ("items", ("recall@20",))):
        for group, number in group_numbers(records[part]).items():
            columns = {name: by_model(records[part], group, name) for name in metrics}
            for model, seeds in columns["recall@20"].items():
                row: dict[str, Any] = {"dataset": dataset, "of": part, "group": group}
                row |= {"number": number, "model": model, "seeds": len(seeds)}
                for name, column in columns.items():
                    values = column[model]
                    row[name] = mean(values)
                    row[f"{name} deviation"] = stdev(values) if len(values) > 1 else 0.0
                if part == "users":
                    row |= compared.get((model, group), {})
                rows.append(row)
    return rows


def plot(records: Records, dataset: str, path: Path) -> None:
    """Recall by the item's train count, with the 95 % interval over the seeds.

    Each group has a scale of its own: rare items are found far less often.
    """
    numbers = group_numbers(records["items"])
    models = models_shown(records["users"])[::-1]
    title = f"Recall@20 by the item's train count, {dataset}"
    with drawing(path, title, (8, 6), nrows=2, ncols=3, sharey=True) as (
        figure,
        axes,
    ):
        for axis, (group, number) in zip(axes.flat, numbers.items(), strict=False):
            values = by_model(records["items"], group, "recall@20")
            means = [mean(values[model]) for model in models]
            axis.barh(
                models,
                means,
                # A single seed has no interval, not one of no width.
                xerr=[interval(values[model]) or np.nan for model in models],
                color=[COLOURS_OF.get(model, MUTED) for model in models],
                capsize=3,
            )
            axis.set_title(f"{group} ({number:,})", loc="left", fontsize=13)
            axis.locator_params(axis="x", nbins=3)
            axis.xaxis.set_major_formatter("{x:g}")
            axis.grid(visible=False, axis="y")
            axis.set_xlim(left=0, right=None if any(means) else 0.01)
        for axis in axes.flat[len(numbers) :]:
            axis.set_visible(False)
        label = "test Recall@20 (above: train count, test interactions)"
        figure.supxlabel(label, fontsize=13)


def models_shown(records: list[dict[str, Any]]) -> list[str]:
    """The models of the plot, the other baseline being that of most test Recall@20."""
    recall = by_model(records, "all", "recall@20")
    others = [name for name in ("bpr", *BASELINE_MODELS) if name in recall]
    best = sorted(others, key=lambda name: -mean(recall[name]))[:1]
    return [name for name in (*SHOWN, *best) if name in recall]


if __name__ == "__main__":
    main()
