"""What the factors of a language model add over those that come without one.

The paper's MARS, with and without heads, over factors from five sources: profiles that
a language model assigned, the same values where their words are in an item's texts
(``keywords``), k-means clusters of the text features, as many and of as many values
(``clusters``), the brand and the categories of the catalogue (``columns``; Baby has
none), and none. All have the text graph beside the factors. ``--model mars`` takes MARS
with ID inputs in its place.

    python benchmarks/factor_sources.py --root DATA --text-model MODEL --seeds 0 1 2
    python benchmarks/factor_sources.py --table      # table and plot of the records
    python benchmarks/factor_sources.py --quick      # a generated catalogue, a minute
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from accuracy import HEADS_SUFFIX, MODELS
from figures import (
    COLOURS,
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

from mars_pyg.config import make_config
from mars_pyg.factors import (
    ClusterReasoner,
    ColumnReasoner,
    FactorReasoner,
    ItemCatalogue,
    KeywordReasoner,
)
from mars_pyg.factors.profile_folder import write_profile_folder
from mars_pyg.runs import load_data

RESULTS = Path(__file__).parent / "results" / "factor_sources.json"
SOURCES = ("none", "clusters", "keywords", "columns", "profiles")
BASES = ("mars_letter", "mars")
LABELS = {
    "none": "no factors",
    "columns": "catalogue",
    "profiles": "language model",
    "mars": "MARS with ID inputs",
    "mars_letter": "the paper's MARS",
}
#: The texts in which words are looked for: the titles of Sports are of another model.
FIELDS = {"baby": ["title", "description"], "sports": ["text"]}
#: Where the catalogue has a brand, if it is known, and a path of categories, between
#: bars: by dataset the column, and the first of all categories.
PATHS = {"sports": ("brand_and_categories", "Sports & Outdoors")}
#: Graphs, losses and heads that read no factors.
WITHOUT_FACTORS = {"item_graphs": "structure", "semantic_weight": 0.0}
OTHER_HEADS = {"heads": ["ease", "popularity", "similarity"], "ease_clique_weight": 0.0}


def main() -> None:
    """Run what has no record yet, then print the table and draw."""
    arguments = parse_arguments()
    if not arguments.table:
        with tempfile.TemporaryDirectory() as temporary:
            folder = arguments.runs or Path(temporary)
            record_jobs(arguments, make_jobs(arguments, folder / "profiles"))
    records = read_records(arguments.output)
    report_summaries(summaries(records), arguments.output, plot)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser, RESULTS)
    parser.add_argument("--datasets", nargs="+", default=["baby"])
    parser.add_argument(
        "--model",
        default=BASES[0],
        choices=BASES,
        help="the model of accuracy.py (default: %(default)s)",
    )
    parser.add_argument("--sources", nargs="+", default=list(SOURCES), choices=SOURCES)
    arguments = parser.parse_args()
    check_arguments(parser, arguments)
    if arguments.quick:
        arguments.datasets = ["synthetic"]
        # Generated data has the profiles that it was generated from.
        arguments.sources = ["none", "profiles"]
    return arguments


def make_jobs(arguments: argparse.Namespace, profiles: Path) -> Iterator[Job]:
    """The runs to make; with and without heads they share a training."""
    pair = arguments.model, arguments.model + HEADS_SUFFIX
    for dataset in arguments.datasets:
        for source in arguments.sources:
            if source == "columns" and dataset not in PATHS:
                continue
            own: dict[str, Any] = {}
            if source in ("clusters", "keywords", "columns"):
                folder = profiles / f"{dataset}-{source}"
                if not folder.is_dir():
                    write_profiles(arguments, dataset, source, folder)
                own = {"profiles": str(folder)}
            for seed in arguments.seeds:
                for model in pair:
                    keys = {**MODELS[model], **own}
                    if source == "none":
                        keys |= WITHOUT_FACTORS
                        keys |= OTHER_HEADS if keys["heads"] else {}
                    end = "" if source == "profiles" else f"_{source}"
                    yield Job(
                        dataset,
                        f"{model} {source}",
                        seed,
                        keys,
                        training=model + end,
                        twins=[name + end for name in pair],
                    )


def write_profiles(
    arguments: argparse.Namespace, dataset: str, source: str, folder: Path
) -> None:
    """Make the factors of a source in the shape of those of the language model."""
    keys = {"dataset": dataset, "root": arguments.root, **MODELS[BASES[0]]}
    data = load_data(make_config({**keys, "text_model": arguments.text_model}))
    catalogue = ItemCatalogue.from_data(data, "asin")
    values: dict[str, list[str]] = {name: [] for name in data["value"].factor_name}
    for name, factor in zip(
        data["value"].name, data["value"].factor.tolist(), strict=True
    ):
        values[data["value"].factor_name[factor]].append(name)
    reasoner: FactorReasoner
    if source == "keywords":
        words = {
            factor: {name: phrases(name) for name in names}
            for factor, names in values.items()
        }
        reasoner = KeywordReasoner(words, FIELDS[dataset])
    elif source == "columns":
        column, department = PATHS[dataset]
        columns = split_paths(catalogue.fields[column], department)
        catalogue.fields.update(columns)
        reasoner = ColumnReasoner(list(columns))
    else:
        reasoner = ClusterReasoner([len(names) for names in values.values()])
    profiles = reasoner.assign(catalogue)
    write_profile_folder(folder, profiles, catalogue.ids, "asin")


def split_paths(texts: list[str], department: str) -> dict[str, list[str]]:
    """The brands, empty where they are unknown, and the categories of some items.

    Args:
        texts: A brand and the categories that it is in, between bars, or these alone.
        department: The first category of items without a brand.
    """
    paths = [[part.strip() for part in text.split("|")] for text in texts]
    brands = ["" if path[0] == department else path.pop(0) for path in paths]
    return {"brand": brands, "categories": ["|".join(path) for path in paths]}


def phrases(value: str) -> list[str]:
    """The words of a value's name, and their plurals."""
    parts = re.split(r"[,/()&]| or | and ", value)
    words = [part.strip() for part in parts if part.strip()]
    return [form for word in words for form in (word, f"{word}s")]


def summaries(
    records: list[dict[str, Any]],
) -> dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]]:
    """Of each dataset a row for each source, as cells of a table and as numbers."""
    result = {}
    for dataset, groups in by_dataset(records).items():
        rows, numbers = [], []
        for model in MODELS:
            for source in SOURCES:
                own = groups.get(f"{model} {source}", [])
                if not own:
                    continue
                row: dict[str, Any] = {"model": model}
                row["factors"] = LABELS.get(source, source)
                row["seeds"] = len(own)
                cells, metrics = summarize(own)
                rows.append({**row, **cells})
                numbers.append({"dataset": dataset, **row, **metrics})
        result[dataset] = rows, numbers
    return result


def plot(rows: list[dict[str, Any]], dataset: str, path: Path) -> None:
    """Bars of test Recall@20 for each source, with the 95 % interval over the seeds."""
    title = f"Where the factors come from, Amazon {dataset.capitalize()}"
    bases = [base for base in BASES if any(row["model"] == base for row in rows)]
    names = list(dict.fromkeys(row["factors"] for row in rows))
    with drawing(
        path, title, (11, 4.8), ncols=len(bases), squeeze=False, sharey=True
    ) as (figure, axes):
        for axis, base in zip(axes[0], bases, strict=True):
            series = {base: "without heads", f"{base}{HEADS_SUFFIX}": "with heads"}
            for (model, label), colour, place in zip(
                series.items(), COLOURS, (-0.2, 0.2), strict=False
            ):
                own = [row for row in rows if row["model"] == model]
                bars(
                    axis,
                    [names.index(row["factors"]) + place for row in own],
                    own,
                    "test recall@20",
                    width=0.38,
                    color=colour,
                    label=label,
                )
            axis.set_xticks(range(len(names)), names)
            axis.tick_params(axis="x", rotation=20)
            axis.set_title(LABELS[base], loc="left")
            axis.margins(y=0.12)
        axes[0, 0].set_ylabel("test Recall@20")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=len(labels))


if __name__ == "__main__":
    main()
