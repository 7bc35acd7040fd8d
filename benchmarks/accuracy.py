"""Accuracy on the Amazon 2014 data, and the table of it in the README.

Every run is a process of its own, whose record is added to the results as soon as it
ends: a benchmark that is interrupted goes on where it was. All choices behind
``MODELS`` and the defaults of a training run were made on validation; the test split is
read once, by the model that validation picked.

    python benchmarks/accuracy.py --root DATA --text-model MODEL
    python benchmarks/accuracy.py --table        # the table of what is recorded
    python benchmarks/accuracy.py --quick        # synthetic data, a minute
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import pandas as pd
from baselines import BASELINES
from baselines.runs import describe_baseline, make_config_keys, train_baseline

from mars_pyg.config import TrainConfig, make_config
from mars_pyg.features import DEFAULT_TEXT_MODEL
from mars_pyg.files import atomic_path
from mars_pyg.runs import load_run, train
from mars_pyg.training.evaluation import evaluate_users

RESULTS = Path(__file__).parent / "results" / "accuracy.json"
DATASETS = ("baby", "sports", "clothing")
#: Content makes graphs over the ID embeddings, as in FREEDOM; with the paper's inputs
#: and losses (``mars_paper``) MARS comes to less on validation.
STRUCTURE = {
    "model": "mars",
    "item_graphs": "structure",
    "item_input": "id",
    "semantic_weight": 0.0,
    "view_weight": 0.0,
    "edge_dropout": 0.8,
    "heads": [],
}
HEADS = ["affinity", "ease", "popularity", "similarity"]
MODELS: dict[str, dict[str, Any]] = {
    "bpr": {"model": "bpr"},
    "lightgcn": {"model": "lightgcn"},
    "structure": STRUCTURE,
    "mars": {**STRUCTURE, "item_graphs": "factors+structure"},
    "mars_paper": {"model": "mars", "edge_dropout": 0.8, "heads": []},
    "ease": {
        "model": "none",
        "heads": ["ease"],
        "ease_clique_weight": 0.0,
        "ease_l2": 300.0,
    },
    "ease_cliques": {"model": "none", "heads": ["ease"]},
    "lightgcn_heads": {"model": "lightgcn", "heads": HEADS},
    "mars_heads": {**STRUCTURE, "item_graphs": "factors+structure", "heads": HEADS},
}
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
#: Models that are compared with ``mars_heads``, user by user.
RIVALS = ("ease", "lightgcn", "structure", *BASELINE_MODELS)
METRICS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")
QUICK = {"dataset": "synthetic", "max_epochs": 20, "batch_size": 1024}


def main() -> None:
    """Run what has no record yet, then print the table."""
    arguments = parse_arguments()
    if arguments.record:
        run(arguments)
        return
    if not arguments.table:
        run_all(arguments)
    print(table(json.loads(arguments.output.read_text())))
    print()
    print(comparison(arguments.output))


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, help="folder of the Amazon data")
    parser.add_argument(
        "--text-model",
        default=DEFAULT_TEXT_MODEL,
        help="sentence-transformers model or path of the text features; "
        "'tfidf' for scikit-learn's TF-IDF (default: %(default)s)",
    )
    parser.add_argument(
        "--datasets",
        nargs="+",
        default=list(DATASETS),
        choices=[*DATASETS, "synthetic"],
    )
    parser.add_argument(
        "--models", nargs="+", default=list(DEFAULT_MODELS), choices=list(MODELS)
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument(
        "--output",
        type=Path,
        default=RESULTS,
        help="where the records are kept (default: %(default)s)",
    )
    parser.add_argument(
        "--runs",
        type=Path,
        help="folder that keeps the runs, and of which interrupted ones go on",
    )
    parser.add_argument(
        "--table", action="store_true", help="print the table of the records and end"
    )
    parser.add_argument(
        "--quick", action="store_true", help="small runs on synthetic data"
    )
    # One run in a process of its own, which writes its record to this file.
    parser.add_argument("--record", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.quick and not arguments.record:
        arguments.datasets = ["synthetic"]
        if arguments.output == RESULTS:
            arguments.output = Path(tempfile.mkdtemp()) / "accuracy.json"
    elif not arguments.table and arguments.root is None and not arguments.quick:
        parser.error("--root, the folder of the Amazon data, is needed")
    return arguments


def run_all(arguments: argparse.Namespace) -> None:
    """Run each model on each dataset with each seed, unless it has a record."""
    for dataset in arguments.datasets:
        for model in arguments.models:
            needs_content = MODELS[model]["model"] == "mars" or "heads" in model
            if dataset in WITHOUT_CONTENT and needs_content:
                continue
            for seed in arguments.seeds:
                settings = describe(make(arguments, dataset, model, seed), model)
                records = read_records(arguments.output)
                if any(
                    (r["dataset"], r["model"], r["seed"]) == (dataset, model, seed)
                    and r["config"] == settings
                    for r in records
                ):
                    print(f"{dataset} {model} seed {seed}: recorded before")
                    continue
                print(f"{dataset} {model} seed {seed}", flush=True)
                add_record(arguments, run_process(arguments, dataset, model, seed))


def run_process(
    arguments: argparse.Namespace, dataset: str, model: str, seed: int
) -> dict:
    """Run once in a process of its own, so that its peak memory is its own."""
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "record.json"
        command = [sys.executable, __file__, "--record", str(record)]
        command += ["--datasets", dataset, "--models", model, "--seeds", str(seed)]
        command += ["--text-model", arguments.text_model]
        command += ["--quick"] if arguments.quick else ["--root", str(arguments.root)]
        command += ["--runs", str(arguments.runs)] if arguments.runs else []
        subprocess.run(command, check=True)
        keep_users(arguments, record, dataset, model, seed)
        return json.loads(record.read_text())


def users_file(output: Path, dataset: str, model: str, seed: int) -> Path:
    """Where the metrics of each test user of a run are kept."""
    return output.with_suffix("") / f"{dataset}-{model}-{seed}.parquet"


def keep_users(
    arguments: argparse.Namespace, record: Path, dataset: str, model: str, seed: int
) -> None:
    """Keep the metrics of each test user beside the records."""
    with atomic_path(users_file(arguments.output, dataset, model, seed)) as temporary:
        shutil.copyfile(record.with_suffix(".parquet"), temporary)


def run(arguments: argparse.Namespace) -> None:
    """Train and test one model, and write its record."""
    (dataset,), (model,), (seed,) = (
        arguments.datasets,
        arguments.models,
        arguments.seeds,
    )
    config = make(arguments, dataset, model, seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.runs or Path(temporary)
        folder = folder / f"{dataset}-{model}-{seed}"
        if "baseline" in MODELS[model]:
            keys = MODELS[model]
            metrics, trained = train_baseline(
                keys["baseline"], keys["arguments"], config, folder, show
            )
        else:
            metrics = train(config, folder, resume=True, progress=show)
            trained = load_run(folder)
    user, recall, ndcg = evaluate_users(trained.recommender, trained.data, "test")
    record = {
        "dataset": dataset,
        "model": model,
        "seed": seed,
        "valid": metrics["val"],
        "test": metrics["test"],
        "config": describe(config, model),
    }
    if "epochs" in metrics:
        record |= {
            # Of a run that had no epoch left to train there is no time.
            "seconds_per_epoch": metrics["seconds_per_epoch"]
            and round(metrics["seconds_per_epoch"], 3),
            "peak_mib": metrics["peak_mib"],
            "epochs": metrics["epochs"],
            "best_epoch": metrics["best_epoch"],
        }
    if "weights" in metrics:
        record["weights"] = {
            name: round(weight, 4) for name, weight in metrics["weights"].items()
        }
    arguments.record.write_text(json.dumps(record))
    columns = {
        "user": user.numpy().astype(np.int32),
        "recall": recall.numpy().astype(np.float32),
        "ndcg": ndcg.numpy().astype(np.float32),
    }
    pd.DataFrame(columns).to_parquet(
        arguments.record.with_suffix(".parquet"), compression="zstd", index=False
    )


def show(line: str) -> None:
    """Print a line of progress at once."""
    print(line, flush=True)


def make(
    arguments: argparse.Namespace, dataset: str, model: str, seed: int
) -> TrainConfig:
    """The configuration of a run."""
    keys = {"dataset": dataset, "text_model": arguments.text_model, "seed": seed}
    if arguments.root is not None:
        keys["root"] = arguments.root
    return make_config(
        {**keys, **model_keys(model), **(QUICK if arguments.quick else {})}
    )


def model_keys(model: str) -> dict[str, object]:
    """The keys of a configuration that a model sets."""
    keys = MODELS[model].items()
    return {name: key for name, key in keys if name not in ("baseline", "arguments")}


def describe(config: TrainConfig, model: str) -> dict[str, object]:
    """Everything that a result depends on: the resolved keys, but for local paths."""
    # The data's own profiles are read, so that those of the package do not matter, and
    # no epoch has as many steps as would make batches grow.
    left_out = {"root", "accelerator", "engine", "shipped_profiles", "max_steps"}
    keys = config.resolve().model_dump(mode="json", exclude_none=True, exclude=left_out)
    if not keys["heads"]:
        del keys["heads"]
    keys["text_model"] = Path(config.text_model).name
    if "baseline" in MODELS[model]:
        own = MODELS[model]
        keys = describe_baseline(own["baseline"], own["arguments"], keys)
    return keys


def read_records(path: Path) -> list[dict]:
    """Read the records, none where there is no file."""
    return json.loads(path.read_text()) if path.is_file() else []


def add_record(arguments: argparse.Namespace, record: dict) -> None:
    """Add a record; one of the same dataset, model and seed gives way to it."""
    path = arguments.output

    def key(item: dict) -> tuple:
        return item["dataset"], item["model"], item["seed"]

    records = [r for r in read_records(path) if key(r) != key(record)] + [record]
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(records, indent=1) + "\n")


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
        cells = [dataset, model]
        for split in ("valid", "test"):
            for name in METRICS:
                values = [run[split][name] for run in runs]
                spread = f" ± {stdev(values):.4f}" if len(values) > 1 else ""
                cells.append(f"{mean(values):.4f}{spread}".replace("0.", "."))
        if "epochs" in runs[0]:
            times = [run["seconds_per_epoch"] for run in runs]
            times = [seconds for seconds in times if seconds is not None]
            cells.append(f"{mean(times):.2f}" if times else "")
            cells.append(f"{max(run['peak_mib'] for run in runs):.0f}")
            cells.append("/".join(str(run["epochs"]) for run in runs))
        else:
            cells += ["", "", ""]
        cells.append(str(len(runs)))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def comparison(output: Path) -> str:
    """``mars_heads`` against its rivals, user by user, as a table.

    A user's metric is the mean over the seeds of a model; the test is the paired t-test
    over the users.
    """
    from scipy.stats import ttest_rel

    lines = [
        "| dataset | rival | test R@20, difference | p | test N@20, difference | p |"
        " users | seeds |",
        "|" + "---|" * 8,
    ]
    for dataset in [*DATASETS, "synthetic"]:
        ours = user_metrics(output, dataset, "mars_heads")
        for rival in RIVALS:
            theirs = user_metrics(output, dataset, rival)
            if ours is None or theirs is None:
                continue
            cells = [dataset, rival]
            for name in ("recall", "ndcg"):
                difference = (ours[name] - theirs[name]).mean()
                p = ttest_rel(ours[name], theirs[name]).pvalue
                cells += [f"{difference:+.4f}".replace("0.", "."), f"{p:.0e}"]
            cells += [str(ours["recall"].size), f"{ours['seeds']}/{theirs['seeds']}"]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) if len(lines) > 2 else ""


def user_metrics(output: Path, dataset: str, model: str) -> dict | None:
    """The metrics of each test user, the means over the seeds of a model."""
    files = sorted(output.with_suffix("").glob(f"{dataset}-{model}-*.parquet"))
    if not files:
        return None
    runs = [pd.read_parquet(file) for file in files]
    result: dict = {"seeds": len(runs)}
    for name in ("recall", "ndcg"):
        values = [run[name].to_numpy(np.float64) for run in runs]
        result[name] = np.mean(values, axis=0)
    return result


if __name__ == "__main__":
    main()
