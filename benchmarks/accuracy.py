"""Accuracy on the Amazon 2014 data, and the table of it in the README.

Every run is a process of its own, whose record is added to the results as soon as it
ends: a benchmark that is interrupted goes on where it was. All choices behind
``MODELS`` and the defaults of a training run were made on validation; the test split is
read once, by the model that validation picked. The other recommenders are searched over
their ``GRID`` on Amazon Baby, and what validation picks there holds for all data, but
for models named ``_own``, which are searched on the data that they are trained on.

    python benchmarks/accuracy.py --root DATA --text-model MODEL --search
    python benchmarks/accuracy.py --root DATA --text-model MODEL
    python benchmarks/accuracy.py --table        # tables, csv and plots of the records
    python benchmarks/accuracy.py --quick        # synthetic data, a minute
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from statistics import mean, median
from typing import Any

from baselines import BASELINES
from baselines.runs import make_config_keys
from figures import (
    COLOURS,
    MUTED,
    by_dataset,
    drawing,
    format_mean,
    summarize,
    write_csv,
)
from pandas import DataFrame
from rankings import mean_user_metrics, read_places
from training_runs import (
    Job,
    add_arguments,
    check_arguments,
    read_records,
    record_jobs,
)

RESULTS = Path(__file__).parent / "results" / "accuracy.json"
SEARCH = RESULTS.with_name("search.json")
SEARCH_DATASET = "baby"
DATASETS = ("baby", "sports", "clothing")
#: Content makes graphs over the ID embeddings, as in FREEDOM, and nothing else.
STRUCTURE = {
    "model": "mars",
    "item_graphs": "structure",
    "item_input": "id",
    "semantic_weight": 0.0,
    "view_weight": 0.0,
    "edge_dropout": 0.8,
    "heads": [],
}
HEADS_SUFFIX = "_heads"
HEADS = ["affinity", "ease", "popularity", "similarity"]
MODELS: dict[str, dict[str, Any]] = {
    "bpr": {"model": "bpr"},
    "lightgcn": {"model": "lightgcn"},
    "structure": STRUCTURE,
    "mars": {**STRUCTURE, "item_graphs": "factors+structure"},
    # The paper's inputs and losses, with the edge dropout of the ones above.
    "mars_paper": {"model": "mars", "edge_dropout": 0.8, "heads": []},
    # The paper to the letter.
    "mars_letter": {"model": "mars", "heads": []},
    "ease": {
        "model": "none",
        "heads": ["ease"],
        "ease_clique_weight": 0.0,
        "ease_l2": 300.0,
    },
    "ease_cliques": {"model": "none", "heads": ["ease"]},
    "lightgcn_heads": {"model": "lightgcn", "heads": HEADS},
    "mars_heads": {**STRUCTURE, "item_graphs": "factors+structure", "heads": HEADS},
    # The default of the command line.
    "mars_letter_heads": {"model": "mars", "heads": HEADS},
}
#: Searched on each data by itself, as published figures are.
OWN_SUFFIX = "_own"
MODELS |= {
    "lightgcn_own": MODELS["lightgcn"],
    "mars_own": MODELS["mars"],
    "mars_own_heads": MODELS["mars_heads"],
}
#: The same, with the heads in the loss of the model; see the grid.
MODELS["mars_joint"] = MODELS["mars_heads"]
#: BPR, LightGCN and EASE are above: they are models and a head of the package.
BASELINE_MODELS = {
    name: {**make_config_keys(name), "baseline": name, "arguments": {}}
    for name in BASELINES
    if name not in MODELS
}
MODELS |= BASELINE_MODELS
MODELS |= {
    f"{name}_heads": {**keys, "heads": HEADS} for name, keys in BASELINE_MODELS.items()
}
DEFAULT_MODELS = ("bpr", "lightgcn", "structure", "mars", "ease", "mars_heads")
#: Datasets without items.tsv, of which there are no features and factors.
WITHOUT_CONTENT = ("clothing",)
#: What other recommenders are searched over, their authors' choice first: at most four
#: points each.
GRID: dict[str, list[dict[str, Any]]] = {
    "bpr": [{"regularization": weight} for weight in (0.01, 0.003, 0.001, 0.1)],
    "lightgcn": [{"regularization": weight} for weight in (0.01, 0.003, 0.001, 0.1)],
    "ease": [{"ease_l2": weight} for weight in (300.0, 100.0, 1000.0)],
    "vbpr": [{"regularization": weight} for weight in (0.01, 0.001, 0.1)],
    "lattice": [{"regularization": weight} for weight in (1e-5, 0.001, 0.01)],
    "freedom": [{"regularization": weight} for weight in (0.0, 0.001, 0.01)],
    "bm3": [{}, {"regularization": 0.01}, {"dropout": 0.3}],
    "smore": [{"regularization": weight} for weight in (1e-4, 0.001, 0.01)],
    "mars": [{}, {"regularization": 0.003}],
    "mars_joint": [{"heads_in_loss": scale} for scale in (0.25, 0.5)],
}
#: Ours without heads, which are compared with all that have none, user by user; and
#: with heads, which are compared with all.
COMPARED = (("mars", "mars_letter"), ("mars_heads", "mars_letter_heads"))
WITHOUT_HEADS = ("bpr", "ease", "lightgcn", "lightgcn_own", "structure")
WITHOUT_HEADS += (*BASELINE_MODELS, *COMPARED[0], "mars_paper")
RIVALS_WITH_HEADS = tuple(f"{name}{HEADS_SUFFIX}" for name in BASELINE_MODELS)
RIVALS = (WITHOUT_HEADS, (*WITHOUT_HEADS, *COMPARED[1], *RIVALS_WITH_HEADS))
METRICS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")
#: What a model of the plot reads, and its colour.
KINDS = {
    "with heads": COLOURS[0],
    "factors, no heads": COLOURS[5],
    "no factors": MUTED,
}
WITH_FACTORS = ("mars", "ease_cliques")


def main() -> None:
    """Run what has no record yet, then print the tables, and draw."""
    arguments = parse_arguments()
    if not arguments.table:
        record_jobs(arguments, make_jobs(arguments))
    if arguments.search:
        print(search_table(read_records(arguments)))
        return
    records = read_records(arguments)
    print("\n\n".join([table(records), *comparisons(arguments.output)]))
    for dataset, models in by_dataset(records).items():
        rows = csv_rows(dataset, models)
        stem = arguments.output.with_name(f"{arguments.output.stem}_{dataset}")
        write_csv(rows, stem.with_suffix(".csv"))
        plot(rows, dataset, stem.with_suffix(".png"))


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser, RESULTS)
    parser.add_argument(
        "--datasets",
        nargs="+",
        default=list(DATASETS),
        choices=[*DATASETS, "synthetic"],
    )
    parser.add_argument(
        "--models", nargs="+", default=list(DEFAULT_MODELS), choices=list(MODELS)
    )
    parser.add_argument(
        "--search",
        action="store_true",
        help="run the grid of each model, on validation of Baby, or of all data for "
        f"models named *{OWN_SUFFIX}",
    )
    arguments = parser.parse_args()
    if arguments.search and arguments.output == RESULTS and not arguments.quick:
        arguments.output = SEARCH
    check_arguments(parser, arguments)
    if not arguments.output.suffix:
        # Without it, it is the name of the folder of the places.
        parser.error(f"--output must be a .json file (got {arguments.output})")
    if arguments.search:
        arguments.seeds = [0]
    if arguments.quick:
        arguments.datasets = ["synthetic"]
    return arguments


def make_jobs(arguments: argparse.Namespace) -> Iterator[Job]:
    """The runs to make: each model on each dataset with each seed, or each point."""
    for dataset in arguments.datasets:
        for model in arguments.models:
            keys = MODELS[model]
            needs_content = keys["model"] == "mars" or "heads" in model
            if dataset in WITHOUT_CONTENT and needs_content:
                continue
            if arguments.search:
                here = is_own(model) != (dataset == SEARCH_DATASET)
                if dataset in DATASETS and not here:
                    continue
                # With heads a point would give way to the same one without.
                plain = model.removesuffix(HEADS_SUFFIX)
                for point in grid(plain):
                    yield Job(
                        dataset,
                        point_name(plain, point),
                        0,
                        MODELS[plain],
                        point,
                        validation_only=True,
                        training=plain,
                    )
                continue
            for seed in arguments.seeds:
                yield Job(
                    dataset,
                    model,
                    seed,
                    keys,
                    chosen_point(model, dataset),
                    keep_places=True,
                    twins=[twin(model)],
                )


def is_own(model: str) -> bool:
    """Whether a model is searched on the data that it is trained on."""
    return model.removesuffix(HEADS_SUFFIX).endswith(OWN_SUFFIX)


def base_name(model: str) -> str:
    """The name of a model in the grid; heads do not change its training."""
    return model.removesuffix(HEADS_SUFFIX).removesuffix(OWN_SUFFIX)


def grid(model: str) -> list[dict[str, Any]]:
    """The points that a model is searched over."""
    return GRID.get(base_name(model), [{}])


def twin(model: str) -> str:
    """The name of the same model without heads, or with them."""
    plain = model.removesuffix(HEADS_SUFFIX)
    return plain if plain != model else model + HEADS_SUFFIX


def point_name(model: str, point: dict[str, Any]) -> str:
    """The name of a point of a model's grid in the records."""
    return base_name(model) + "".join(f" {key}={value}" for key, value in point.items())


def chosen_point(model: str, dataset: str) -> dict[str, Any]:
    """The point of largest validation Recall@20; the first where none is recorded."""
    source = dataset if is_own(model) else SEARCH_DATASET
    recall = {
        record["model"]: record["valid"]["recall@20"]
        for record in read_records(SEARCH)
        if record["dataset"] == source
    }
    known = [point for point in grid(model) if point_name(model, point) in recall]
    if not known:
        return grid(model)[0]
    return max(known, key=lambda point: recall[point_name(model, point)])


def search_table(records: list[dict]) -> str:
    """The validation Recall@20 of each point, as a table."""
    lines = ["| dataset | model | valid R@20 | epochs |", "|---|---|---|---|"]
    for record in sorted(records, key=lambda r: (r["dataset"], r["model"])):
        cells = [record["dataset"], record["model"]]
        cells.append(f"{record['valid']['recall@20']:.4f}".lstrip("0"))
        cells.append(str(record.get("epochs", "")))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def table(records: list[dict]) -> str:
    """The records as a table, a row for each dataset and model."""
    groups = defaultdict(list)
    for record in records:
        groups[record["dataset"], record["model"]].append(record)
    heads = [f"{name[0].upper()}@{name.split('@')[1]}" for name in METRICS]
    lines = [
        "| dataset | model | "
        + " | ".join(f"valid {head}" for head in heads)
        + " | "
        + " | ".join(f"test {head}" for head in heads)
        + " | s/epoch | MiB | epochs | seeds |",
        "|" + "---|" * (2 + 2 * len(heads) + 4),
    ]
    order = {
        name: place for place, name in enumerate([*DATASETS, "synthetic", *MODELS])
    }
    for dataset, model in sorted(groups, key=lambda g: (order[g[0]], order[g[1]])):
        runs = groups[dataset, model]
        cells = [dataset, model, *summarize(runs, METRICS)[0].values()]
        if "epochs" in runs[0]:
            timed = [run for run in runs if run["seconds_per_epoch"] is not None]
            times = [run["seconds_per_epoch"] for run in timed]
            cells.append(f"{mean(times):.2f}" if timed else "")
            peaks = [run["peak_mib"] for run in timed]
            # Of several: the first one encodes the texts too.
            cells.append(f"{median(peaks):.0f}" if timed else "")
            cells.append("/".join(str(run["epochs"]) for run in runs))
        else:
            cells += ["", "", ""]
        cells.append(str(len(runs)))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def csv_rows(dataset: str, models: dict[str, list[dict]]) -> list[dict[str, Any]]:
    """The numbers of the table, with the 95 % intervals of the means over seeds."""
    return [
        {
            "dataset": dataset,
            "model": model,
            "seeds": len(models[model]),
            **summarize(models[model], METRICS)[1],
        }
        for model in sorted(models, key=list(MODELS).index)
    ]


def plot(rows: list[dict[str, Any]], dataset: str, path: Path) -> None:
    """Test Recall@20 of each model, with the 95 % interval over the seeds."""
    rows = sorted(rows, key=lambda row: row["test recall@20"])
    title = f"Accuracy, Amazon {dataset.capitalize()}"
    size = 7.5, 1.8 + 0.36 * len(rows)
    with drawing(path, title, size) as (_, axis):
        for kind, colour in KINDS.items():
            own = [y for y, row in enumerate(rows) if kind_of(row["model"]) == kind]
            if own:
                widths = [rows[y]["test recall@20"] for y in own]
                axis.barh(own, widths, color=colour, label=kind)
        for y, row in enumerate(rows):
            width, interval = row["test recall@20"], row["test recall@20 interval"]
            if interval:
                axis.errorbar(width, y, xerr=interval, color="black", capsize=3)
            axis.annotate(
                format_mean([width]),
                (width + interval, y),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                fontsize=11,
            )
        axis.set_yticks(
            range(len(rows)), [f"{row['model']} ({row['seeds']})" for row in rows]
        )
        axis.set_xlabel("test Recall@20 (beside the model: seeds)")
        axis.grid(visible=False, axis="y")
        axis.margins(x=0.12, y=0.02)
        axis.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=3, fontsize=11)


def kind_of(model: str) -> str:
    """What a model reads, of :data:`KINDS`."""
    if model.endswith(HEADS_SUFFIX) or model == "mars_joint":
        return "with heads"
    has_factors = model.startswith(WITH_FACTORS)
    return "factors, no heads" if has_factors else "no factors"


def comparisons(output: Path) -> list[str]:
    """The tables of ours without heads, and with them; see :func:`comparison`."""
    folder, means, seeds = output.with_suffix(""), {}, {}
    for dataset in [*DATASETS, "synthetic"]:
        for model in dict.fromkeys(chain(*COMPARED, *RIVALS)):
            runs = read_places(folder, dataset, model)
            if runs:
                means[dataset, model] = mean_user_metrics(runs)
                seeds[dataset, model] = len(runs)
    return [
        comparison(means, seeds, ours, rivals)
        for ours, rivals in zip(COMPARED, RIVALS, strict=True)
    ]


def comparison(
    means: dict[tuple[str, str], DataFrame],
    seeds: dict[tuple[str, str], int],
    ours: Sequence[str],
    rivals: Sequence[str],
) -> str:
    """Some models against their rivals, user by user, as a table.

    Of Recall@20 and NDCG@20 on the test split: by how much ours is better, and the
    p-value of a paired t-test over the users.

    Args:
        means: The metrics of each user, of each dataset and model, means over seeds.
        seeds: The number of these seeds.
        ours: The models that are compared with others.
        rivals: The others.
    """
    names = [f"{model}, {name}" for model in ours for name in ("R@20", "N@20")]
    lines = [
        f"| dataset | rival | {' | p | '.join(names)} | p | users | seeds |",
        "|" + "---|" * (2 * len(names) + 4),
    ]
    for dataset in dict.fromkeys(dataset for dataset, _ in means):
        for rival in rivals:
            key = dataset, rival
            theirs = means.get(key)
            cells = []
            for model in ours:
                own = means.get((dataset, model)) if model != rival else None
                cells += _differences(own, theirs)
            if theirs is None or not any(cells):
                continue
            cells = [dataset, rival, *cells, str(len(theirs)), str(seeds[key])]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) if len(lines) > 2 else ""


def _differences(ours: DataFrame | None, theirs: DataFrame | None) -> list[str]:
    """By how much ours are better, and the p-value, for each metric."""
    from scipy.stats import ttest_rel

    if ours is None or theirs is None:
        return ["", "", "", ""]
    cells = []
    for name in ("recall", "ndcg"):
        difference = (ours[name] - theirs[name]).mean()
        p = ttest_rel(ours[name], theirs[name]).pvalue
        cells += [f"{difference:+.4f}".replace("0.", "."), f"{p:.0e}"]
    return cells


if __name__ == "__main__":
    main()
