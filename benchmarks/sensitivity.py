"""The loss weights and the embedding width of MARS: Figures 3 and 4 of the paper.

One at a time is varied in the paper's MARS (``mars_letter``): lambda, the weight of the
semantic loss, eta, that of the view consistency loss, and d, the embedding width.

    python benchmarks/sensitivity.py --root DATA --text-model MODEL
    python benchmarks/sensitivity.py --table     # table, csv and plot of the records
    python benchmarks/sensitivity.py --quick     # synthetic data, a minute
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from accuracy import MODELS
from figures import COLOURS, drawing, markdown, summarize, write_csv
from training_runs import (
    Job,
    add_arguments,
    check_arguments,
    read_records,
    record_jobs,
)

RESULTS = Path(__file__).parent / "results" / "sensitivity.json"
WEIGHTS = (0.0, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
VALUES = {
    "semantic_weight": WEIGHTS,
    "view_weight": WEIGHTS,
    "embedding_dim": (32, 64, 128, 256),
}
#: The values of the base, one run for all three.
DEFAULTS = {"semantic_weight": 1e-3, "view_weight": 1e-2, "embedding_dim": 64}
LABELS = {
    "semantic_weight": "λ, weight of the semantic loss",
    "view_weight": "η, weight of the view loss",
    "embedding_dim": "d, embedding width",
}
BASE = "mars_letter"


def main() -> None:
    """Run what has no record yet, then print the tables and draw."""
    arguments = parse_arguments()
    if not arguments.table:
        record_jobs(arguments, make_jobs(arguments))
    report(arguments.output)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser, RESULTS)
    parser.add_argument("--datasets", nargs="+", default=["baby"])
    parser.add_argument("--options", nargs="+", default=list(VALUES), choices=VALUES)
    arguments = parser.parse_args()
    check_arguments(parser, arguments)
    if arguments.quick:
        arguments.datasets = ["synthetic"]
    return arguments


def make_jobs(arguments: argparse.Namespace) -> Iterator[Job]:
    """The runs to make, the base once."""
    for dataset in arguments.datasets:
        for seed in arguments.seeds:
            keys = MODELS[BASE]
            yield Job(dataset, BASE, seed, keys, training=BASE)
            for option in arguments.options:
                for value in VALUES[option]:
                    if value != DEFAULTS[option]:
                        name = point_name(option, value)
                        point = {option: value}
                        yield Job(dataset, name, seed, keys, point, training=BASE)


def point_name(option: str, value: float) -> str:
    """The name of a point in the records."""
    return BASE if value == DEFAULTS[option] else f"{BASE} {option}={value:g}"


def report(output: Path) -> None:
    """Print a table for each option, and write all as csv and as a plot."""
    groups = defaultdict(list)
    for record in read_records(output):
        groups[record["dataset"], record["model"]].append(record)
    for dataset in dict.fromkeys(dataset for dataset, _ in groups):
        numbers = []
        for option, values in VALUES.items():
            rows = []
            for value in values:
                records = groups.get((dataset, point_name(option, value)), [])
                if not records:
                    continue
                row: dict[str, Any] = {option: f"{value:g}", "seeds": len(records)}
                number = {"dataset": dataset, "option": option, "value": value}
                number["seeds"] = len(records)
                cells, metrics = summarize(records)
                row |= cells
                number |= metrics
                rows.append(row)
                numbers.append(number)
            print(f"{dataset}\n\n{markdown(rows)}\n")
        stem = output.with_name(f"{output.stem}_{dataset}")
        write_csv(numbers, stem.with_suffix(".csv"))
        plot(numbers, dataset, stem.with_suffix(".png"))


def plot(rows: list[dict[str, Any]], dataset: str, path: Path) -> None:
    """Recall@20 against each option, on validation and test."""
    title = f"Sensitivity of the paper's MARS, Amazon {dataset.capitalize()}"
    with drawing(path, title, (13, 4.4), ncols=len(VALUES), sharey=True) as (_, axes):
        for axis, option in zip(axes, VALUES, strict=True):
            own = [row for row in rows if row["option"] == option]
            names = [f"{row['value']:g}" for row in own]
            for split, colour, marker in zip(
                ("valid", "test"), COLOURS, "os", strict=False
            ):
                column = f"{split} recall@20"
                axis.errorbar(
                    range(len(own)),
                    [row[column] for row in own],
                    yerr=[row[f"{column} interval"] for row in own],
                    color=colour,
                    marker=marker,
                    capsize=4,
                    label={"valid": "validation"}.get(split, split),
                )
            axis.set_xticks(range(len(own)), names)
            axis.set_xlabel(LABELS[option])
        axes[0].set_ylabel("Recall@20")
        axes[0].legend()


if __name__ == "__main__":
    main()
