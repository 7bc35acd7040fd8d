r"""How far the views of an item are apart, with the view loss and without: Figure 5.

For each item the mean L2 distance between the pairs of its views (``MARS.views()``),
over the items that have features in every view; the others, such as items without
text, are left out and counted. The scale of the views is free: a distance is also
divided by the mean norm of the item's views, which gives 0 for equal views, 2 at most,
and the same for views that have only shrunk. Beside it stands their mean cosine.

With ``fusion="joint"``, the paper's MARS, no view enters the score: they are trained by
the view loss alone, and a model without it (w/o CL) has none. So both sides of the
comparison merge their views by ``fusion="mean"``, and the paper's MARS is a third row.

    python benchmarks/divergence.py --root DATA --text-model MODEL --runs RUNS
    python benchmarks/divergence.py --table      # table, csv and plot of the records
    python benchmarks/divergence.py --quick      # synthetic data, a minute
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import Any

import ablations
import numpy as np
import torch
from accuracy import MODELS
from figures import COLOURS, MUTED, drawing, markdown, write_csv
from torch import Tensor
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

from mars_pyg import MARS

RESULTS = Path(__file__).parent / "results" / "divergence.json"
JOINT, WITH, WITHOUT = "MARS", "MARS fusion=mean", "w/o CL fusion=mean"
#: What is measured of an item, and the bins that all its records share.
EDGES = {
    "distance": np.logspace(-4, 2, 121).round(6),
    "relative": np.linspace(0, 2, 81).round(3),
}
LABELS = {
    "distance": "mean distance between the views",
    "relative": "the same / mean norm of the views",
}
LINES = {
    WITHOUT: ("without the view loss", COLOURS[1], "-"),
    WITH: ("with the view loss", COLOURS[0], "-"),
    JOINT: ("trained by the view loss alone", MUTED, "--"),
}


def main() -> None:
    """Measure the views of each run, then print the table and draw."""
    arguments = parse_arguments()
    if not arguments.table:
        with tempfile.TemporaryDirectory() as temporary:
            measure_runs(arguments, arguments.runs or Path(temporary))
    report(arguments.output)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser, RESULTS)
    parser.add_argument(
        "--datasets", nargs="+", default=["baby"], choices=ablations.DATASETS
    )
    arguments = parser.parse_args()
    check_arguments(parser, arguments)
    if arguments.quick:
        arguments.datasets = ["synthetic"]
    return arguments


def make_jobs(dataset: str, seed: int) -> Iterator[Job]:
    """The runs whose views are measured, the one without the view loss first."""
    fusion: dict[str, Any] = {"fusion": "mean"}
    keys = MODELS[ablations.BASE]
    without = {**fusion, "view_weight": 0.0}
    yield Job(dataset, WITHOUT, seed, keys, without, training=ablations.BASE)
    yield Job(dataset, WITH, seed, keys, fusion, training=ablations.BASE)
    # The run of that name of the ablations, of the same folder.
    yield from ablations.make_jobs(
        argparse.Namespace(datasets=[dataset], seeds=[seed], models=[JOINT])
    )


def measure_runs(arguments: argparse.Namespace, runs: Path) -> None:
    """Train what is not trained, and add a record for each run."""
    for dataset in arguments.datasets:
        for seed in arguments.seeds:
            reference = None
            for job in make_jobs(dataset, seed):
                print(f"{dataset} {job.model} seed {seed}", flush=True)
                metrics, trained = train_job(arguments, job, runs)
                assert isinstance(trained.recommender, MARS)
                values, measured = measure(trained.recommender)
                record = {
                    "dataset": dataset,
                    "model": job.model,
                    "seed": seed,
                    "valid": metrics["val"],
                    "config": describe(make(arguments, job), job),
                    **measured,
                }
                if reference is None:
                    reference = values
                elif job.model == WITH:
                    for name in EDGES:
                        is_less = values[name] < reference[name]
                        record[name]["share nearer"] = float(is_less.mean())
                add_record(arguments.output, record)


@torch.no_grad()
def measure(model: MARS) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Measure the views of a model.

    Returns:
        What :func:`divergence` gives for the items with features in every view, and
        what a record says of it.
    """
    known = torch.ones(model.num_items, dtype=torch.bool)
    for modality in model.content_modalities:
        has_features = torch.zeros_like(known)
        has_features[model.get_buffer(f"known_{modality}")] = True
        known &= has_features
    views = {name: view[known].double() for name, view in model.views().items()}
    measured = divergence(list(views.values()))
    values = {name: value.numpy() for name, value in measured.items()}
    record: dict[str, Any] = {
        "items": int(known.sum()),
        "left_out": int((~known).sum()),
        "norm": {name: float(view.norm(dim=1).mean()) for name, view in views.items()},
        "cosine": {"mean": float(values["cosine"].mean())},
    }
    for name, edges in EDGES.items():
        # What is beyond the bins counts in the outermost ones.
        clipped = values[name].clip(edges[0], edges[-1])
        record[name] = {
            "mean": float(values[name].mean()),
            "median": float(np.median(values[name])),
            "counts": np.histogram(clipped, edges)[0].tolist(),
            "edges": edges.tolist(),
        }
    return values, record


def divergence(views: Sequence[Tensor]) -> dict[str, Tensor]:
    r"""How far the views of each item are apart.

    .. math::
        d_i = \frac{2}{M (M - 1)} \sum_{m < m'} \| \mathbf{H}_i^m - \mathbf{H}_i^{m'}
        \|, \qquad r_i = d_i \Big/ \frac{1}{M} \sum_m \| \mathbf{H}_i^m \|

    Args:
        views: Two views or more, each ``[N, d]``.

    Returns:
        ``distance`` :math:`d`, ``relative`` :math:`r`, 0 where all views are zero, and
        ``cosine``, the mean over the pairs, each ``[N]``.
    """
    pairs = list(combinations(views, 2))
    distance = torch.stack([(a - b).norm(dim=1) for a, b in pairs]).mean(dim=0)
    norm = torch.stack([view.norm(dim=1) for view in views]).mean(dim=0)
    cosine = torch.stack([torch.cosine_similarity(a, b) for a, b in pairs])
    return {
        "distance": distance,
        "relative": torch.where(norm > 0, distance / norm, 0.0),
        "cosine": cosine.mean(dim=0),
    }


def report(output: Path) -> None:
    """Print the table of the records, and write it as csv and as a plot."""
    groups = defaultdict(list)
    for record in read_records(output):
        groups[record["dataset"], record["model"]].append(record)
    for dataset in dict.fromkeys(dataset for dataset, _ in groups):
        own = {
            name: groups[dataset, name] for name in LINES if (dataset, name) in groups
        }
        numbers = [
            {"dataset": dataset, **summary(name, records)}
            for name, records in own.items()
        ]
        rows = [
            {key: shown(value) for key, value in number.items() if key != "dataset"}
            for number in numbers
        ]
        print(f"{dataset}\n\n{markdown(rows)}\n")
        stem = output.with_name(f"{output.stem}_{dataset}")
        write_csv(numbers, stem.with_suffix(".csv"))
        plot(own, dataset, stem.with_suffix(".png"))


def summary(name: str, records: list[dict[str, Any]]) -> dict[str, Any]:
    """The means over the seeds of a setting."""
    row: dict[str, Any] = {"model": name, "seeds": len(records)}
    row["items"] = records[0]["items"]
    row["left out"] = records[0]["left_out"]
    row["valid recall@20"] = mean(record["valid"]["recall@20"] for record in records)
    for view in records[0]["norm"]:
        row[f"norm {view}"] = mean(record["norm"][view] for record in records)
    for measure_name in EDGES:
        for statistic in ("mean", "median", "share nearer"):
            found = [r[measure_name].get(statistic) for r in records]
            row[f"{measure_name} {statistic}"] = None if None in found else mean(found)
    row["cosine mean"] = mean(record["cosine"]["mean"] for record in records)
    return row


def shown(value: object) -> object:
    """A cell of the table."""
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else value


def plot(groups: dict[str, list[dict[str, Any]]], dataset: str, path: Path) -> None:
    """Histograms of the items, the mean over the seeds, with the medians."""
    title = f"How far the views of an item are apart, Amazon {dataset.capitalize()}"
    with drawing(path, title, (11, 4.6), ncols=len(EDGES)) as (figure, axes):
        for axis, (name, edges) in zip(axes, EDGES.items(), strict=True):
            used = []
            for model, records in groups.items():
                label, colour, style = LINES[model]
                counts = np.mean([record[name]["counts"] for record in records], axis=0)
                used.append(np.flatnonzero(counts))
                line = {"color": colour, "ls": style, "lw": 1.8}
                axis.stairs(counts / counts.sum(), edges, label=label, **line)
                if style == "-":
                    axis.stairs(
                        counts / counts.sum(), edges, fill=True, color=colour, alpha=0.3
                    )
                    median = mean(record[name]["median"] for record in records)
                    axis.axvline(median, color=colour, lw=1.2, ls=":")
            bins = np.concatenate(used)
            axis.set_xlim(edges[bins.min()], edges[bins.max() + 1] * 1.02)
            axis.set_xlabel(LABELS[name])
        axes[0].set_ylabel("share of the items")
        axes[0].set_xscale("log")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))


if __name__ == "__main__":
    main()
