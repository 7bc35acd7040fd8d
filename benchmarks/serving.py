"""How fast an export recommends, and what its approximate search misses.

An export is loaded in this process, on one core, and asked for one user at a time:
known users, histories of users who were never seen, and known users with a filter.
Reported are the median and the 99th percentile of the times of single calls of
``recommend``, and the recall of the approximate search: the share of the exact best 20
items of known users that it finds.

    python benchmarks/serving.py                     # generated, 20,000 items
    python benchmarks/serving.py --run RUN_DIR       # a trained run
    python benchmarks/serving.py --quick             # 500 items, seconds
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import mars_pyg
from mars_pyg import HeadedRecommender
from mars_pyg.datasets import SyntheticFactorDataset
from mars_pyg.files import atomic_path
from mars_pyg.heads.build import build_heads
from mars_pyg.nn import LightGCN
from mars_pyg.report import format_table
from mars_pyg.runs import load_run
from mars_pyg.serving import ServedRecommender, export
from mars_pyg.serving.approximate import default_factory
from mars_pyg.training import fit

RESULTS = Path(__file__).parent / "results" / "serving.json"
K = 20
WEIGHTS = {"affinity": 0.2, "ease": 10.0, "popularity": 0.1, "similarity": 1.0}


def generated(num_items: int) -> tuple[HeadedRecommender, object]:
    """A LightGCN that was trained a little, with heads, on generated data.

    Features of texts are as wide as those of MiniLM. The heads' weights are such that
    each part moves scores about as much as the model.
    """
    data = SyntheticFactorDataset(num_users=num_items, num_items=num_items)[0]
    torch.manual_seed(0)
    data["item"].x_text = torch.randn(num_items, 384)
    del data["item"].x_image
    model = LightGCN(data)
    fit(model, data, max_epochs=5, batch_size=4096, progress=False)
    heads = build_heads(data, ease_solver="local")
    for head in heads:
        head.weight.data.fill_(WEIGHTS[head.name])
    return HeadedRecommender(model, data, heads).requires_grad_(False).eval(), data


def measure(served: ServedRecommender, calls: list[dict]) -> dict[str, float]:
    """The median and the 99th percentile of the times of calls, in milliseconds.

    The processor's time beside the clock's says what a loaded machine adds.
    """
    for call in calls[:20]:
        served.recommend(**call)
    clock, processor = [], []
    for call in calls:
        start, start_processor = time.perf_counter(), time.thread_time()
        served.recommend(**call)
        clock.append(1000 * (time.perf_counter() - start))
        processor.append(1000 * (time.thread_time() - start_processor))
    result = {}
    for name, times in (("", clock), ("cpu_", processor)):
        p50, p99 = np.percentile(times, [50, 99])
        result[f"{name}p50_ms"] = round(float(p50), 2)
        result[f"{name}p99_ms"] = round(float(p99), 2)
    return result


def recall(exact: ServedRecommender, other: ServedRecommender, users: list) -> float:
    """The share of the exact best items that another search finds."""
    found = wanted = 0
    for user in users:
        best = {item.item for item in exact.recommend(user, K)}
        found += len(best & {item.item for item in other.recommend(user, K)})
        wanted += len(best)
    return found / wanted


def run(recommender: object, data: object, calls: int, factory: str) -> list[dict]:
    """Export, load and ask."""
    with tempfile.TemporaryDirectory() as folder:
        export(recommender, data, folder, k=0, approximate=factory)
        size = sum(path.stat().st_size for path in Path(folder).glob("*"))
        exact = mars_pyg.load(folder)
        approximate = mars_pyg.load(folder, approximate=True)
    random = np.random.default_rng(0)
    chosen = random.choice(exact.num_users, min(calls, exact.num_users), replace=False)
    users = [exact.catalogue.user_id[u] for u in chosen]
    items = np.array(exact.catalogue.item_id)
    histories = [list(random.choice(items, 10, replace=False)) for _ in users]
    tasks: dict[str, list[dict]] = {
        "known user": [{"user": user, "k": K} for user in users],
        "history of 10 items": [{"user": history, "k": K} for history in histories],
    }
    if exact.values:
        factor, values = max(exact.values.items(), key=lambda pair: len(pair[1]))
        tasks["known user, filter"] = [
            {"user": user, "k": K, "filters": {factor: values[n % len(values)]}}
            for n, user in enumerate(users)
        ]
    common = {
        "num_items": exact.num_items,
        "num_users": exact.num_users,
        "megabytes": round(size / 1e6, 1),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
    }
    records = []
    if factory == "auto":
        factory = default_factory(exact.num_items)
    for name, asked in tasks.items():
        for search, served in (("exact", exact), (factory, approximate)):
            if search != "exact" and "filter" in name:
                # Filters are always searched exactly.
                continue
            record = {"task": name, "search": search, **measure(served, asked)}
            if name == "known user":
                record[f"recall@{K}"] = round(recall(exact, served, users), 4)
            records.append({**record, **common})
    return records


def main() -> None:
    """Measure, print the table, and write the records."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, help="folder of a trained run")
    parser.add_argument("--num-items", type=int, default=20_000)
    parser.add_argument("--calls", type=int, default=1000, help="calls of each kind")
    parser.add_argument("--factory", default="auto", help="faiss's form of the index")
    parser.add_argument("--quick", action="store_true", help="500 items, 50 calls")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.quick:
        arguments.num_items, arguments.calls = 500, 50
        if arguments.output == RESULTS:
            arguments.output = Path(tempfile.mkdtemp()) / "serving.json"
    if arguments.run:
        trained = load_run(arguments.run)
        recommender, data = trained.recommender, trained.data
        name = f"{trained.config.dataset}, {trained.config.model}"
    else:
        recommender, data = generated(arguments.num_items)
        name = f"generated, {arguments.num_items} items"
    records = run(recommender, data, arguments.calls, arguments.factory)
    table = [[str(cell) for cell in row.values()] for row in pad(records)]
    print(format_table(list(pad(records)[0]), table, left=(0, 1)))
    path = arguments.output
    known = json.loads(path.read_text()) if path.is_file() else []
    known = [record for record in known if record["data"] != name]
    with atomic_path(path) as temporary:
        added = [{"data": name, **record} for record in records]
        temporary.write_text(json.dumps(known + added, indent=1) + "\n")


def pad(records: list[dict]) -> list[dict]:
    """The records with the same keys, in the same order."""
    times = ("p50_ms", "p99_ms", "cpu_p50_ms", "cpu_p99_ms")
    keys = ("task", "search", *times, f"recall@{K}", "num_items", "load")
    return [{key: record.get(key, "") for key in keys} for record in records]


if __name__ == "__main__":
    main()
