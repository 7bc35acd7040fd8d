"""What each part of MARS adds: Figure 2 of the paper, and each head taken away.

The parts of the paper are taken out of the paper's MARS (``mars_letter``), and heads
out of the same MARS with heads, whose weights are fitted anew. Nothing is chosen here.

    python benchmarks/ablations.py --root DATA --text-model MODEL --seeds 0 1 2
    python benchmarks/ablations.py --table       # table, csv and plot of the records
    python benchmarks/ablations.py --quick       # synthetic data, a minute
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from accuracy import HEADS, MODELS
from figures import (
    COLOURS,
    MUTED,
    bars,
    by_dataset,
    drawing,
    report_summaries,
    summarize,
)
from training_runs import (
    Job,
    add_arguments,
    check_arguments,
    read_records,
    record_jobs,
)

RESULTS = Path(__file__).parent / "results" / "ablations.json"
DATASETS = ("baby", "sports", "synthetic")
#: What parts are taken out of, and what heads are.
BASE, HEADED = "mars_letter", "mars_letter_heads"
#: The names of the paper's Figure 2, and what they change.
PARTS: dict[str, dict[str, Any]] = {
    "MARS": {},
    "w/o FP": {"semantic_weight": 0.0},
    "w/o CL": {"view_weight": 0.0},
    "w/o MM": {"modalities": ["id"]},
    "r/p SG": {"item_graphs": "concat"},
    "r/p SF": {"factor_source": "clusters"},
    "w/o SG": {"item_graphs": "none"},
}
WITHOUT_HEAD = {
    f"w/o {head}": [other for other in HEADS if other != head] for head in HEADS
}
GROUPS = {
    "the paper's MARS": list(PARTS),
    "MARS with heads": ["MARS with heads", *WITHOUT_HEAD],
}


def main() -> None:
    """Run what has no record yet, then print the table and draw."""
    arguments = parse_arguments()
    if not arguments.table:
        record_jobs(arguments, make_jobs(arguments))
    records = read_records(arguments.output)
    report_summaries(summaries(records), arguments.output, plot)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser, RESULTS)
    parser.add_argument("--datasets", nargs="+", default=["baby"], choices=DATASETS)
    models = [model for group in GROUPS.values() for model in group]
    parser.add_argument("--models", nargs="+", default=models, choices=models)
    arguments = parser.parse_args()
    check_arguments(parser, arguments)
    if arguments.quick:
        arguments.datasets = ["synthetic"]
    return arguments


def make_jobs(arguments: argparse.Namespace) -> Iterator[Job]:
    """The runs to make; those with heads share one training."""
    mars, headed = MODELS[BASE], MODELS[HEADED]
    for dataset in arguments.datasets:
        for seed in arguments.seeds:
            for model in arguments.models:
                if PARTS.get(model):
                    keys = {**mars, **PARTS[model]}
                    training = folder_name(BASE, model)
                    yield Job(dataset, model, seed, keys, training=training)
                    continue
                if model in WITHOUT_HEAD:
                    keys = {**headed, "heads": WITHOUT_HEAD[model]}
                    training = folder_name(HEADED, model)
                elif model in PARTS:
                    keys, training = mars, BASE
                else:
                    keys, training = headed, HEADED
                # What is there of the training, with any heads.
                twins = [BASE, HEADED]
                yield Job(dataset, model, seed, keys, training=training, twins=twins)


def folder_name(base: str, part: str) -> str:
    """The name of a run's folder."""
    return base + "".join(f"_{word}" for word in part.replace("/", "").split())


def summaries(
    records: list[dict[str, Any]],
) -> dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]]:
    """Of each dataset a row for each model, as cells of a table and as numbers."""
    result = {}
    for dataset, groups in by_dataset(records).items():
        rows, numbers = [], []
        for base, models in GROUPS.items():
            for model in models:
                own = groups.get(model, [])
                if not own:
                    continue
                cells, metrics = summarize(own)
                rows.append({"": model, "seeds": len(own), **cells})
                number = {"dataset": dataset, "of": base, "model": model}
                numbers.append({**number, "seeds": len(own), **metrics})
        result[dataset] = rows, numbers
    return result


def plot(rows: list[dict[str, Any]], dataset: str, path: Path) -> None:
    """Bars of test Recall@20, with the 95 % interval over the seeds."""
    title = f"What each part adds, Amazon {dataset.capitalize()}"
    bases = [base for base in GROUPS if any(row["of"] == base for row in rows)]
    with drawing(
        path, title, (11, 5), ncols=len(bases), squeeze=False, sharey=True
    ) as (
        _,
        axes,
    ):
        for axis, base, colour in zip(axes[0], bases, COLOURS, strict=False):
            own = [row for row in rows if row["of"] == base]
            colours = [colour, *[MUTED] * (len(own) - 1)]
            names = [row["model"] for row in own]
            bars(axis, names, own, "test recall@20", color=colours)
            axis.set_title(base, loc="left")
            axis.tick_params(axis="x", rotation=40)
            axis.margins(y=0.1)
        axes[0, 0].set_ylabel("test Recall@20")


if __name__ == "__main__":
    main()
