"""Time and memory of an epoch of training and of a full ranking.

Beside our LightGCN stands the same model by PyG's ``nn.LightGCN`` and the loop of PyG's
example for it, with the same width, layers, batches and optimiser; beside LightGCN
stands MARS; beside our evaluation a plain loop over dense scores. Every task is a
process of its own, so that its peak memory is its own, and the tasks take turns, so
that a machine that gets slower does so for all of them; figures are medians.

    python benchmarks/training.py --root DATA --text-model MODEL
    python benchmarks/training.py --table        # the table of what is recorded
    python benchmarks/training.py --quick        # synthetic data, half a minute
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from machines import describe_machine
from torch import Tensor
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData
from torch_geometric.nn import LightGCN as PyGLightGCN
from torch_geometric.utils import to_undirected

from mars_pyg.config import TrainConfig, make_config
from mars_pyg.features import DEFAULT_TEXT_MODEL
from mars_pyg.files import atomic_path
from mars_pyg.memory import keep_freed_memory
from mars_pyg.nn import LightGCN
from mars_pyg.runs import build_recommender, load_data
from mars_pyg.training import RecommenderDataModule, evaluate

RESULTS = Path(__file__).parent / "results" / "training.json"
#: MARS with content in its graphs alone, and to the letter of the paper, also in mixed
#: precision.
MARS = {
    "model": "mars",
    "item_input": "id",
    "semantic_weight": 0.0,
    "view_weight": 0.0,
    "edge_dropout": 0.8,
}
MODELS: dict[str, dict[str, object]] = {
    "lightgcn": {"model": "lightgcn", "num_layers": 2},
    "mars": MARS,
    "mars_letter": {"model": "mars"},
    "mars_letter_bf16": {"model": "mars", "precision": "bf16-mixed"},
}
TRAIN_TASKS = ("pyg_lightgcn", *MODELS)
EVALUATION_TASKS = ("plain_ranking", "ranking")
WIDTH, LAYERS, BATCH_SIZE, LEARNING_RATE = 64, 2, 8192, 4e-3


def main() -> None:
    """Measure, record, and print the table."""
    arguments = parse_arguments()
    if arguments.task:
        print(json.dumps(run_task(arguments)))
        return
    if not arguments.table:
        records = measure(arguments)
        if arguments.output.is_file():
            # Those of other datasets stay.
            measured = {record["dataset"] for record in records}
            before = json.loads(arguments.output.read_text())
            records += [r for r in before if r["dataset"] not in measured]
        with atomic_path(arguments.output) as temporary:
            temporary.write_text(json.dumps(records, indent=1) + "\n")
    print(table(json.loads(arguments.output.read_text())))


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, help="folder of the Amazon data")
    parser.add_argument("--text-model", default=DEFAULT_TEXT_MODEL)
    parser.add_argument("--datasets", nargs="+", default=["baby", "sports"])
    parser.add_argument("--epochs", type=int, default=3, help="epochs that are timed")
    parser.add_argument("--repeats", type=int, default=3, help="processes of each task")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    parser.add_argument("--load-only", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.quick and not arguments.task:
        arguments.datasets, arguments.repeats, arguments.epochs = ["synthetic"], 1, 1
        if arguments.output == RESULTS:
            arguments.output = Path(tempfile.mkdtemp()) / "training.json"
    if not (arguments.table or arguments.quick or arguments.root):
        parser.error("--root, the folder of the Amazon data, is needed")
    return arguments


def measure(arguments: argparse.Namespace) -> list[dict]:
    """Run every task in turn, as often as asked for, and take medians."""
    records = []
    for dataset in arguments.datasets:
        # Features that are not kept yet are encoded here, and take no memory below.
        run_process(arguments, dataset, "mars", load_only=True)
        runs: dict[str, list[dict]] = {}
        for _ in range(arguments.repeats):
            for task in (*TRAIN_TASKS, *EVALUATION_TASKS):
                runs.setdefault(task, []).append(run_process(arguments, dataset, task))
                print(
                    f"{dataset} {task}: {runs[task][-1]['seconds']:.3f} s", flush=True
                )
        for task, results in runs.items():
            middle = sorted(results, key=lambda run: run["seconds"])[len(results) // 2]
            records.append(
                {
                    "dataset": dataset,
                    "task": task,
                    **middle,
                    "seconds": median(run["seconds"] for run in results),
                    "peak_mib": max(run["peak_mib"] for run in results),
                    "threads": arguments.threads,
                    "torch": torch.__version__,
                    "machine": describe_machine(),
                }
            )
    return records


def run_process(
    arguments: argparse.Namespace, dataset: str, task: str, load_only: bool = False
) -> dict:
    """One task in a process of its own."""
    command = [sys.executable, __file__, "--task", task]
    command += ["--datasets", dataset, "--threads", str(arguments.threads)]
    command += ["--epochs", str(arguments.epochs)]
    command += ["--text-model", arguments.text_model]
    command += ["--quick"] if arguments.quick else ["--root", str(arguments.root)]
    command += ["--load-only"] if load_only else []
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    result: dict = json.loads(done.stdout.split(b"\n")[-2])
    return result


def run_task(arguments: argparse.Namespace) -> dict[str, object]:
    """One task in this process."""
    keep_freed_memory()
    torch.set_num_threads(arguments.threads)
    (dataset,) = arguments.datasets
    model = MODELS.get(arguments.task, MODELS["lightgcn"])
    keys: dict[str, object] = {"dataset": dataset, "text_model": arguments.text_model}
    if arguments.root is not None:
        keys["root"] = arguments.root
    config = make_config({**keys, **model})
    data = load_data(config)
    if arguments.load_only:
        return {}
    before = peak_mib()
    seed_everything(0)
    if arguments.task == "pyg_lightgcn":
        result: dict[str, object] = time_epochs(pyg_epoch(data), arguments.epochs)
    elif arguments.task in MODELS:
        parts: dict[str, float] = {}
        result = time_epochs(our_epoch(config, data, parts), arguments.epochs)
        result["parts"] = {
            name: round(seconds / (arguments.epochs + 1), 4)
            for name, seconds in parts.items()
        }
    else:
        result = time_ranking(config, data, arguments.task == "ranking")
    return {**result, "peak_mib": round(peak_mib()), "data_mib": round(before)}


def time_epochs(epoch: Callable[[], None], count: int) -> dict[str, object]:
    """The median time of an epoch, one before them not counted."""
    epoch()
    seconds = []
    for _ in range(count):
        start = time.perf_counter()
        epoch()
        seconds.append(time.perf_counter() - start)
    return {"seconds": median(seconds)}


def our_epoch(
    config: TrainConfig, data: HeteroData, parts: dict[str, float]
) -> Callable[[], None]:
    """An epoch of ours, its parts timed beside it."""
    recommender = build_recommender(config, data).train()
    batches = RecommenderDataModule(data, BATCH_SIZE).train_dataloader()
    optimizer = torch.optim.Adam(recommender.parameters(), LEARNING_RATE, fused=True)
    is_mixed = config.precision == "bf16-mixed"

    def loss_of(batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=is_mixed):
            return recommender.loss(*batch)["loss"]

    def timed(name: str, function: Callable[[], object]) -> object:
        start = time.perf_counter()
        result = function()
        parts[name] = parts.get(name, 0.0) + time.perf_counter() - start
        return result

    def epoch() -> None:
        generator = torch.Generator().manual_seed(0)
        timed("start of the epoch", lambda: recommender.start_epoch(generator))
        triplets = timed("shuffle and negatives", lambda: list(batches))
        for batch in triplets:  # type: ignore[attr-defined]
            loss = timed("forward", lambda batch=batch: loss_of(batch))
            optimizer.zero_grad()
            timed("backward", loss.backward)  # type: ignore[attr-defined]
            timed("optimizer", optimizer.step)

    return epoch


def pyg_epoch(data: HeteroData) -> Callable[[], None]:
    """An epoch of PyG's LightGCN, by the loop of PyG's example for it."""
    num_users, num_items = data["user"].num_nodes, data["item"].num_nodes
    offset = torch.tensor([[0], [num_users]])
    train = data["user", "interacts", "item"].edge_index + offset
    graph = to_undirected(train)
    model = PyGLightGCN(num_users + num_items, WIDTH, LAYERS)
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)

    def epoch() -> None:
        loader = torch.utils.data.DataLoader(
            range(train.size(1)), batch_size=BATCH_SIZE, shuffle=True
        )
        for index in loader:
            positive = train[:, index]
            negative = torch.stack(
                [
                    positive[0],
                    torch.randint(num_users, num_users + num_items, index.shape),
                ]
            )
            labels = torch.cat([positive, negative], dim=1)
            optimizer.zero_grad()
            positive_rank, negative_rank = model(graph, labels).chunk(2)
            loss = model.recommendation_loss(
                positive_rank, negative_rank, node_id=labels.unique()
            )
            loss.backward()
            optimizer.step()

    return epoch


def time_ranking(
    config: TrainConfig, data: HeteroData, ours: bool
) -> dict[str, object]:
    """The time to rank all items for the users of the test split."""
    recommender = build_recommender(config, data).eval()
    assert isinstance(recommender, LightGCN)
    run: Callable[[], dict[str, float]]
    if ours:
        run = lambda: evaluate(recommender, data, "test", (20,))  # noqa: E731
    else:
        run = lambda: {"recall@20": plain_recall(recommender, data)}  # noqa: E731
    recall = run()["recall@20"]
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    users = data["user", "interacts", "item"].test_edge_index[0].unique().numel()
    return {
        "seconds": median(seconds),
        "users_per_second": round(users / median(seconds)),
        # Both must come to the same.
        "recall@20": recall,
    }


@torch.no_grad()
def plain_recall(recommender: LightGCN, data: HeteroData, k: int = 20) -> float:
    """Recall of the test split by dense scores, masks and hits, batch by batch."""
    store = data["user", "interacts", "item"]
    train, test = store.edge_index, store.test_edge_index
    users, items = recommender()
    total, count = 0.0, 0
    for start in range(0, recommender.num_users, 1024):
        scores = users[start : start + 1024] @ items.t()

        def dense(edges: Tensor, start: int = start, like: Tensor = scores) -> Tensor:
            chosen = edges[:, (edges[0] >= start) & (edges[0] < start + 1024)]
            mask = torch.zeros_like(like, dtype=torch.bool)
            mask[chosen[0] - start, chosen[1]] = True
            return mask

        top = scores.masked_fill(dense(train), -torch.inf).topk(k).indices
        relevant = dense(test)
        number = relevant.sum(dim=1)
        hits = relevant.gather(1, top).sum(dim=1)
        known = number > 0
        total += float((hits[known] / number[known]).sum())
        count += int(known.sum())
    return total / count


def peak_mib() -> float:
    """The largest memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def table(records: list[dict]) -> str:
    """The records as a table, with what each task is compared with."""
    rivals = {
        "lightgcn": "pyg_lightgcn",
        "mars": "lightgcn",
        "mars_letter": "lightgcn",
        "mars_letter_bf16": "mars_letter",
        "ranking": "plain_ranking",
    }
    lines = [
        "| dataset | task | s | peak MiB | users/s | time against |",
        "|---|---|---|---|---|---|",
    ]
    records = sorted(records, key=lambda record: record["dataset"])
    seconds = {(r["dataset"], r["task"]): r["seconds"] for r in records}
    for record in records:
        rival = rivals.get(record["task"])
        ratio = ""
        if rival:
            ratio = record["seconds"] / seconds[record["dataset"], rival]
            ratio = f"{ratio:.2f} of {rival}"
        lines.append(
            f"| {record['dataset']} | {record['task']} | {record['seconds']:.3f} | "
            f"{record['peak_mib']} | {record.get('users_per_second', '')} | {ratio} |"
        )
    lines += ["", "Where an epoch's time goes, in seconds:", ""]
    for record in records:
        if "parts" in record:
            parts = ", ".join(f"{k} {v:.3f}" for k, v in record["parts"].items())
            lines.append(f"- {record['dataset']} {record['task']}: {parts}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
