"""The items of MARS beside those of FREEDOM, by their factor values: Figure 6.

A t-SNE map of the items that have one of three values of a factor, for each model, and
numbers for every factor beside it: how well a linear probe tells the values apart, and
the silhouette of the values. Items are those of ``Recommender.forward()``, what scores
are made of. An item counts under a factor if it has text and just one value of it, and
a value if enough items have it. Folds and items are the same for all models.

The text features stand beside them, and LightGCN, which sees no content, if its run is
there. MARS is given these very values: its items are averages over those that share
them. That a probe finds them in MARS again says that they are kept, not that they are
found out.

    python benchmarks/tsne.py --root DATA --text-model MODEL --runs RUNS
    python benchmarks/tsne.py --table            # table, csv and plot of the records
    python benchmarks/tsne.py --quick            # synthetic data, a minute
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import Any

import accuracy
import numpy as np
import pandas as pd
import torch
from ablations import DATASETS
from figures import COLOURS, drawing, markdown, write_csv
from torch_geometric.data import HeteroData
from training_runs import (
    Job,
    add_arguments,
    add_record,
    check_arguments,
    describe,
    make,
    read_records,
    train_job,
)

from mars_pyg.errors import DataError
from mars_pyg.item_values import item_value_edges
from mars_pyg.runs import STARTED, Run

RESULTS = Path(__file__).parent / "results" / "tsne.json"
PLAIN_MARS = [
    name
    for name, keys in accuracy.MODELS.items()
    if keys["model"] == "mars" and not keys["heads"] and "baseline" not in keys
]
RIVAL, FLOOR, TEXT = "freedom", "lightgcn", "text features"
LABELS = {
    "mars_letter": "MARS, as in the paper",
    "mars": "MARS",
    RIVAL: "FREEDOM",
    FLOOR: "LightGCN",
}
#: The factor of the paper's figure, and how the values that it shows begin.
FACTOR, SHOWN = "target_age", ("newborn", "toddler", "preschooler")
NUM_SHOWN, MARKERS = 3, "o^s"
FOLDS = 5
#: The inverse regularisation of the probe.
STRENGTH = 0.1


def main() -> None:
    """Measure and map the items of each model, then print the table and draw."""
    arguments = parse_arguments()
    if not arguments.table:
        with tempfile.TemporaryDirectory() as temporary:
            runs = arguments.runs or Path(temporary)
            for dataset in arguments.datasets:
                for seed in arguments.seeds:
                    measure_runs(arguments, dataset, seed, runs)
    report(arguments.output)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser, RESULTS)
    parser.add_argument("--datasets", nargs="+", default=["baby"], choices=DATASETS)
    parser.add_argument(
        "--model",
        default="mars_letter",
        choices=PLAIN_MARS,
        help="what stands beside FREEDOM (default: %(default)s)",
    )
    parser.add_argument(
        "--factor", help=f"factor of the map (default: {FACTOR}, or else the first)"
    )
    parser.add_argument(
        "--max-items", type=int, default=3500, help="items of a factor at most"
    )
    parser.add_argument(
        "--min-items", type=int, default=25, help="items of a value at least"
    )
    arguments = parser.parse_args()
    check_arguments(parser, arguments)
    if arguments.quick:
        arguments.datasets = ["synthetic"]
    return arguments


def make_job(dataset: str, model: str, seed: int) -> Job:
    """The run of ``accuracy.py``, in its folder."""
    (job,) = accuracy.make_jobs(
        argparse.Namespace(
            datasets=[dataset], models=[model], seeds=[seed], search=False
        )
    )
    return job


def measure_runs(
    arguments: argparse.Namespace, dataset: str, seed: int, runs: Path
) -> None:
    """Add a record for each model, and map the items of two of them."""
    items: dict[str, np.ndarray] = {}
    configs: dict[str, Any] = {}
    for model in (RIVAL, FLOOR, arguments.model):
        job = make_job(dataset, model, seed)
        if model == FLOOR and not (runs / job.folder / STARTED).is_file():
            continue
        print(f"{dataset} {model} seed {seed}", flush=True)
        _, trained = train_job(arguments, job, runs)
        items[model] = item_representations(trained)
        configs[model] = describe(make(arguments, job), job)
    # The data of MARS, the last, which has features and factor values.
    items[TEXT] = trained.data["item"].x_text.double().numpy()
    configs[TEXT] = {"text_model": Path(arguments.text_model).name}
    labels = factor_labels(trained.data)
    chosen = choose_factors(labels, arguments)
    for model, x in items.items():
        print(f"{dataset} {model} probes", flush=True)
        rows = [
            {"factor": factor, **separation(x[index], labels[factor][index])}
            for factor, index in chosen.items()
        ]
        record = {"dataset": dataset, "model": model, "seed": seed, "factors": rows}
        record |= {
            name: getattr(arguments, name) for name in ("min_items", "max_items")
        }
        add_record(arguments.output, {**record, "config": configs[model]})
    if seed == arguments.seeds[0]:
        default = FACTOR if FACTOR in chosen else next(iter(chosen))
        factor = arguments.factor or default
        label, index = labels[factor], chosen[factor]
        names = shown_values(label[index])
        index = np.concatenate([index[label[index] == name] for name in names])
        maps = []
        for model in (RIVAL, arguments.model):
            points = item_map(items[model][index], label[index])
            maps.append(points.assign(model=model, factor=factor))
        path = map_file(arguments.output, dataset)
        write_csv(pd.concat(maps), path)


@torch.no_grad()
def item_representations(run: Run) -> np.ndarray:
    """What a recommender scores items by ``[N, d]``."""
    return run.recommender()[1].double().cpu().numpy()


def factor_labels(data: HeteroData) -> dict[str, np.ndarray]:
    """The value of each item under each factor.

    Args:
        data: The graph, with features :obj:`x_text`.

    Returns:
        By factor the names ``[N]``; an empty one for an item with no value or several,
        or without text.
    """
    num_items = data["item"].num_nodes
    item, value = item_value_edges(data)
    has_text = (data["item"].x_text != 0).any(dim=1).numpy()
    names = np.array(data["value"].name, dtype=object)
    labels = {}
    for factor, name in enumerate(data["value"].factor_name):
        own = data["value"].factor[value] == factor
        count = item[own].bincount(minlength=num_items).numpy()
        label = np.full(num_items, "", dtype=object)
        label[item[own].numpy()] = names[value[own].numpy()]
        label[(count != 1) | ~has_text] = ""
        labels[name] = label.astype(str)
    return labels


def choose_items(label: np.ndarray, min_items: int, max_items: int) -> np.ndarray:
    """The items of values that enough items have; a sample of them, if there are many.

    Args:
        label: The value of each item ``[N]``, empty for none.
        min_items: Items of a value at least.
        max_items: Items in all at most.
    """
    names, counts = np.unique(label[label != ""], return_counts=True)
    index = np.flatnonzero(np.isin(label, names[counts >= max(min_items, FOLDS)]))
    if len(index) > max_items:
        random = np.random.default_rng(0)
        index = np.sort(random.choice(index, max_items, replace=False))
        # A value of which the sample has fewer items than folds cannot be probed.
        names, counts = np.unique(label[index], return_counts=True)
        index = index[np.isin(label[index], names[counts >= FOLDS])]
    return index


def choose_factors(
    labels: dict[str, np.ndarray], arguments: argparse.Namespace
) -> dict[str, np.ndarray]:
    """The items of each factor of which two values have items enough.

    Raises:
        DataError: If there is no such factor, or the one to show is none.
    """
    chosen = {}
    for factor, label in labels.items():
        index = choose_items(label, arguments.min_items, arguments.max_items)
        if len(np.unique(label[index])) > 1:
            chosen[factor] = index
    if not chosen or arguments.factor not in (None, *chosen):
        raise DataError(
            f"there is no factor {arguments.factor or ''!r} with two values of "
            f"{arguments.min_items} items each",
            mend=f"choose one of {list(chosen)}, or a smaller --min-items",
        )
    return chosen


def shown_values(label: np.ndarray) -> list[str]:
    """The values of the paper's figure, or else the most frequent ones."""
    names, counts = np.unique(label, return_counts=True)
    paper = [str(name) for start in SHOWN for name in names if name.startswith(start)]
    if len(paper) == NUM_SHOWN:
        return paper
    return [str(name) for name in names[np.argsort(-counts, kind="stable")]][:NUM_SHOWN]


def separation(x: np.ndarray, label: np.ndarray) -> dict[str, Any]:
    """How well the values of a factor are told apart.

    Args:
        x: The items ``[N, d]``.
        label: Their values ``[N]``.

    Returns:
        The accuracy of logistic regression over standardised inputs in stratified
        cross-validation, the mean over the folds, and its deviation; the ``majority``,
        the accuracy of always saying the most frequent value; and the silhouette by
        cosine distance.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import silhouette_score
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    names, counts = np.unique(label, return_counts=True)
    probe = make_pipeline(
        StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=1000)
    )
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    scores = cross_val_score(probe, x, label, cv=folds)
    return {
        "values": len(names),
        "items": len(label),
        "majority": float(counts.max() / len(label)),
        "accuracy": float(scores.mean()),
        "deviation": float(scores.std(ddof=1)),
        "silhouette": float(silhouette_score(x, label, metric="cosine")),
    }


def item_map(x: np.ndarray, label: np.ndarray) -> pd.DataFrame:
    """A t-SNE map of items by cosine distance, columns ``value``, ``x`` and ``y``."""
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(x) - 1) / 3)
    tsne = TSNE(metric="cosine", init="pca", perplexity=perplexity, random_state=0)
    places = tsne.fit_transform(x).round(2)
    return pd.DataFrame({"value": label, "x": places[:, 0], "y": places[:, 1]})


def map_file(output: Path, dataset: str) -> Path:
    """Where the map of a dataset is kept."""
    return output.with_name(f"{output.stem}_{dataset}_map.csv")


def report(output: Path) -> None:
    """Print the tables of the records, write them as csv, and draw the maps."""
    groups = defaultdict(list)
    for record in read_records(output):
        groups[record["dataset"]].append(record)
    for dataset, records in groups.items():
        numbers = summary(records)
        rows: dict[str, dict[str, Any]] = {}
        for number in numbers:
            row = rows.setdefault(number["factor"], {"factor": number["factor"]})
            row |= {"values": number["values"], "items": number["items"]}
            row["majority"] = f"{number['majority']:.3f}"
            name = LABELS.get(number["model"], number["model"])
            row[f"{name}: probe"] = f"{number['accuracy']:.3f}"
            row[f"{name}: silhouette"] = f"{number['silhouette']:.3f}"
        seeds = len({record["seed"] for record in records})
        print(f"{dataset}, seeds: {seeds}\n\n{markdown(list(rows.values()))}\n")
        write_csv(
            [{"dataset": dataset, **number} for number in numbers],
            output.with_name(f"{output.stem}_{dataset}.csv"),
        )
        if map_file(output, dataset).is_file():
            points = pd.read_csv(map_file(output, dataset))
            png = output.with_name(f"{output.stem}_{dataset}.png")
            plot(points, numbers, dataset, png)


def summary(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The numbers of each model and factor, means over the seeds."""
    groups = defaultdict(list)
    for record in records:
        for numbers in record["factors"]:
            groups[record["model"], numbers["factor"]].append(numbers)
    order = [TEXT, FLOOR, RIVAL]
    known = [model for model in order if any(model == name for name, _ in groups)]
    others = [model for model, _ in groups if model not in order]
    return [
        {
            "model": model,
            "factor": factor,
            "seeds": len(found),
            "values": found[0]["values"],
            "items": found[0]["items"],
            **{
                name: mean(numbers[name] for numbers in found)
                for name in ("majority", "accuracy", "deviation", "silhouette")
            },
        }
        for model in dict.fromkeys([*known, *others])
        for (name, factor), found in groups.items()
        if name == model
    ]


def plot(
    points: pd.DataFrame, numbers: list[dict[str, Any]], dataset: str, path: Path
) -> None:
    """The map of each model, with the numbers of the factor that it shows."""
    factor = points["factor"].iloc[0]
    known = {(row["model"], row["factor"]): row for row in numbers}
    names = points["value"].unique()
    title = f"Items by {factor.replace('_', ' ')}, Amazon {dataset.capitalize()}"
    models = list(points["model"].unique())
    with drawing(path, title, (11, 5.8), ncols=len(models)) as (figure, axes):
        for axis, model in zip(axes, models, strict=True):
            own = points[points["model"] == model]
            for value, colour, marker in zip(names, COLOURS, MARKERS, strict=False):
                shown = own[own["value"] == value]
                axis.scatter(
                    shown["x"],
                    shown["y"],
                    s=22,
                    color=colour,
                    marker=marker,
                    alpha=0.75,
                    linewidths=0,
                    label=value,
                )
            row = known[model, factor]
            numbers_shown = (
                f"all {row['values']} values: probe {row['accuracy']:.2f}, "
                f"silhouette {row['silhouette']:.2f}"
            ).replace("-", "\N{MINUS SIGN}")
            axis.set_title(
                f"{LABELS.get(model, model)}\n{numbers_shown}", loc="left", fontsize=13
            )
            axis.set_xticks([])
            axis.set_yticks([])
            axis.grid(visible=False)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=len(labels),
            markerscale=2,
            handletextpad=0.1,
        )


if __name__ == "__main__":
    main()
