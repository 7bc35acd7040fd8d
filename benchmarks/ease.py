"""EASE in its dense and its local form: time, memory, and what recall is kept.

Every task is a process of its own, so that its peak memory is its own. The number of
neighbours was chosen on validation; the test split is read by the two forms as they
are by default. On synthetic data only time and memory count.

    python benchmarks/ease.py --root DATA
    python benchmarks/ease.py --sizes 1000000    # synthetic data of so many items
    python benchmarks/ease.py --table            # the table of what is recorded
    python benchmarks/ease.py --quick            # small synthetic data, half a minute
"""

from __future__ import annotations

import argparse
import inspect
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from mars_pyg import (
    EASE,
    AmazonFactorDataset,
    HeadedRecommender,
    SyntheticFactorDataset,
    evaluate,
)
from mars_pyg.files import atomic_path
from mars_pyg.heads.ease_dense import DENSE_ITEMS

RESULTS = Path(__file__).parent / "results" / "ease.json"
NEIGHBORS = (64, 128, 256)
DEFAULT = inspect.signature(EASE).parameters["num_neighbors"].default
#: Users of synthetic data who are scored.
SCORED_USERS = 1024
QUICK_SIZE = 600


def main() -> None:
    """Measure, record, and print the table."""
    arguments = parse_arguments()
    if arguments.task:
        print(json.dumps(run(arguments, json.loads(arguments.task))))
        return
    if not arguments.table:
        measure(arguments)
    print(table(json.loads(arguments.output.read_text())))


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, help="folder of the Amazon data")
    parser.add_argument("--datasets", nargs="*", choices=["baby", "sports"])
    parser.add_argument("--sizes", nargs="*", type=int, default=[])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.datasets is None:
        arguments.datasets = ["baby", "sports"] if arguments.root else []
    if arguments.quick:
        arguments.datasets, arguments.sizes = [], [QUICK_SIZE]
        if arguments.output == RESULTS:
            arguments.output = Path(tempfile.mkdtemp()) / "ease.json"
    if not (arguments.table or arguments.task or arguments.root or arguments.sizes):
        parser.error("--root, the folder of the Amazon data, or --sizes are needed")
    return arguments


def measure(arguments: argparse.Namespace) -> None:
    """Run every task, and keep its record as soon as it ends."""
    tasks: list[dict] = []
    for dataset in arguments.datasets:
        tasks.append({"dataset": dataset, "solver": "dense"})
        tasks += [
            {"dataset": dataset, "solver": "local", "neighbors": number}
            for number in NEIGHBORS
        ]
    for size in arguments.sizes:
        if size <= DENSE_ITEMS:
            tasks.append({"dataset": "synthetic", "items": size, "solver": "dense"})
        local = {"solver": "local", "neighbors": DEFAULT}
        tasks.append({"dataset": "synthetic", "items": size, **local})
    for task in tasks:
        command = [sys.executable, __file__, "--task", json.dumps(task)]
        command += ["--threads", str(arguments.threads)]
        if arguments.root is not None:
            command += ["--root", str(arguments.root)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        record = json.loads(done.stdout.split(b"\n")[-2])
        print(record, flush=True)
        add_record(arguments.output, record)


def add_record(path: Path, record: dict) -> None:
    """Add a record; one of the same task gives way to it."""

    def key(item: dict) -> tuple:
        return item["dataset"], item["items"], item["solver"], item.get("neighbors")

    records = json.loads(path.read_text()) if path.is_file() else []
    records = [r for r in records if key(r) != key(record)] + [record]
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(records, indent=1) + "\n")


def run(arguments: argparse.Namespace, task: dict) -> dict:
    """One task in this process."""
    torch.set_num_threads(arguments.threads)
    if task["dataset"] == "synthetic":
        size = task["items"]
        data = SyntheticFactorDataset(size, size, 10 * size)[0]
    else:
        data = AmazonFactorDataset(arguments.root, task["dataset"])[0]
    num_items = data["item"].num_nodes
    before = peak_mib()
    start = time.perf_counter()
    # As many entries of an item in both forms.
    number = task.get("neighbors", DEFAULT)
    head = EASE(num_items, solver=task["solver"], num_neighbors=number).fit(data)
    seconds = time.perf_counter() - start
    record = {
        **task,
        "items": num_items,
        "interactions": data["user", "interacts", "item"].edge_index.size(1),
        "seconds": round(seconds, 1),
        "peak_mib": round(peak_mib()),
        "data_mib": round(before),
        "entries": head.index.numel(),
        "threads": arguments.threads,
        "torch": torch.__version__,
    }
    recommender = HeadedRecommender(None, data, [head])
    start = time.perf_counter()
    some = SCORED_USERS if task["dataset"] == "synthetic" else None
    record["valid"] = evaluate(recommender, data, "val", num_users=some)
    record["ranking_seconds"] = round(time.perf_counter() - start, 1)
    if task["dataset"] != "synthetic" and number == DEFAULT:
        record["test"] = evaluate(recommender, data, "test")
    record["peak_mib_ranking"] = round(peak_mib())
    return record


def peak_mib() -> float:
    """The largest memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def table(records: list[dict]) -> str:
    """The records as a table, with the share of the dense form's recall."""
    lines = [
        "| dataset | items | form | neighbours | s | peak MiB | entries | "
        "valid R@20 | of dense | test R@20 | of dense |",
        "|" + "---|" * 11,
    ]
    dense = {(r["dataset"], r["items"]): r for r in records if r["solver"] == "dense"}
    for record in records:
        cells = [record["dataset"], f"{record['items']:,}", record["solver"]]
        cells += [str(record.get("neighbors", "")), f"{record['seconds']:,}"]
        cells += [f"{record['peak_mib']:,}", f"{record['entries']:,}"]
        rival = dense.get((record["dataset"], record["items"]), {})
        for split in ("valid", "test"):
            recall = record.get(split, {}).get("recall@20")
            cells.append("" if recall is None else f"{recall:.4f}".lstrip("0"))
            other = rival.get(split, {}).get("recall@20")
            compared = recall and other and record is not rival
            cells.append(f"{recall / other:.1%}" if compared else "")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
