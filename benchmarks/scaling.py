"""Time and memory of the factor propagation against the number of items.

Timed is the fused sum over the factors, forward and with the gradients of items and
gate: our engines, the dense clique graph of the paper, and what PyG offers. Before a
method is timed it is compared with dense matrices in float64 on a small problem, and
with sparse ones on the problem that is timed. Only two ``SAGEConv`` hops in
``HeteroConv`` compute another function, and are there for their time.

Each method has a process of its own for each problem; the methods take turns, for
several rounds. ``ms`` is the median of all runs. ``peak_mib`` is what a pass and the
prepared form of the graph need beside items, gates and edges. All keep the memory that
they free (``mars_pyg.memory``), as else its page faults would hide what is compared.
The floor is the time in which ``N (5 * 4 d + 16 K)`` bytes, forward alone
``N (2 * 4 d + 8 K)``, are copied, at the bandwidth of a large copy right before and
after the runs. ``x rows`` compares with moving a row for each edge twice in each pass,
which it takes where no row stays in a cache. Too much memory or time is a result. On a
machine that others use, too, look at ``other_load``, the share of the processors that
they took during the runs.

    python benchmarks/scaling.py                 # a quarter of an hour
    python benchmarks/scaling.py --table         # table and plot of what is recorded
    python benchmarks/scaling.py --quick         # small, methods side by side
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

from machines import describe_machine
from scaling_problems import SCENARIOS
from scaling_report import PROBLEM, plot, table

from mars_pyg.files import atomic_path
from mars_pyg.kernels.propagate import has_engine

RESULTS = Path(__file__).parent / "results" / "scaling.json"
PASSES = ("forward", "forward+backward")
METHODS = (
    "dense",
    "metapaths",
    "scatter",
    "hypergraph",
    "sage",
    "torch",
    "numba",
    "triton",
)
OURS = ("torch", "numba", "triton")
ITEMS = (1000, 10_000, 100_000, 200_000, 1_000_000)
#: The number of items of the scenarios other than ``even``.
MAIN_ITEMS = 200_000
#: The end of a process that the system killed, as it does for want of memory.
KILLED = (-9, 137)


def main() -> None:
    """Measure what has no record yet, then print the table and draw the plot."""
    arguments = parse_arguments()
    if arguments.task:
        # Torch is loaded by the processes that measure, and not by this one.
        from scaling_process import run

        arguments.record.write_text(json.dumps(run(json.loads(arguments.task))))
        return
    if not arguments.table:
        measure_all(arguments)
    records = read_records(arguments.output)
    print(table(records))
    if all(record["status"] != "ok" for record in records):
        return
    picture = arguments.output.with_suffix(".png")
    try:
        with atomic_path(picture) as temporary:
            plot(records, temporary)
    except ImportError as error:
        print(f"\nNo plot: {error}; install it with pip install 'mars-pyg[plot]'")
    else:
        print(f"\nThe plot is in {picture}")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--methods", nargs="+", choices=METHODS, help="(default: all that can run)")
    add("--scenarios", nargs="+", choices=list(SCENARIOS), default=list(SCENARIOS))
    add(
        "--items",
        nargs="+",
        type=int,
        help=f"numbers of items (default: {' '.join(map(str, ITEMS))} with even "
        f"values, else {MAIN_ITEMS})",
    )
    add("--max-items", type=int, help="go on to so many items, in powers of ten")
    add("--channels", type=int, default=64, help="d (default: %(default)s)")
    add("--factors", type=int, default=10, help="K (default: %(default)s)")
    add("--values", type=int, default=50, help="of each factor (default: %(default)s)")
    add("--dtype", default="float32", choices=["float32", "float64", "bfloat16"])
    add("--device", default="cpu", choices=["cpu", "cuda"])
    add("--threads", type=int, default=os.cpu_count(), help="(default: one for a core)")
    add("--rounds", type=int, default=2, help="(default: %(default)s)")
    add(
        "--seconds",
        type=float,
        default=1.0,
        help="of runs of a pass in a round, 3 runs at least (default: %(default)s)",
    )
    add(
        "--time-cap",
        type=float,
        default=120.0,
        help="seconds for a process (default: %(default)s)",
    )
    add(
        "--memory-cap",
        type=float,
        help="GiB for a process (default: half of the memory, or the device's)",
    )
    add(
        "--output",
        type=Path,
        default=RESULTS,
        help="the records; the plot lies beside them (default: %(default)s)",
    )
    add("--again", action="store_true", help="measure what is recorded, too")
    add("--table", action="store_true", help="show what is recorded, and end")
    add("--quick", action="store_true", help="a small problem, for a test")
    # One method on one problem in a process of its own, which writes to this file.
    add("--task", help=argparse.SUPPRESS)
    add("--record", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.quick:
        # Threads of processes side by side would wait for each other.
        arguments.rounds, arguments.seconds, arguments.threads = 1, 0.1, 1
        arguments.items = arguments.items or [2000]
        arguments.scenarios = ["even"]
        if arguments.output == RESULTS:
            arguments.output = Path(tempfile.mkdtemp()) / "scaling.json"
    if arguments.methods is None:
        arguments.methods = default_methods(arguments)
    if arguments.memory_cap is None:
        arguments.memory_cap = memory(arguments.device) / 2**31
    return arguments


def default_methods(arguments: argparse.Namespace) -> list[str]:
    """The methods that can run here."""
    engine = {"cpu": "numba", "cuda": "triton"}[arguments.device]
    # Sums in bfloat16, as the others take them, are no use.
    methods = OURS if arguments.dtype == "bfloat16" else METHODS
    return [
        name
        for name in methods
        if name not in ("numba", "triton") or (name == engine and has_engine(name))
    ]


def measure_all(arguments: argparse.Namespace) -> None:
    """Measure all problems, those with few items first."""
    print("all methods run with freed memory kept for the next tensors", flush=True)
    settings = describe(arguments)
    failed: dict[tuple[str, str], str] = {}
    for scenario in arguments.scenarios:
        for items in sizes(arguments, scenario):
            methods = []
            for method in arguments.methods:
                key = {"method": method, "scenario": scenario, "items": items}
                before = find(arguments.output, {**key, **settings})
                if before and not arguments.again:
                    print(f"{scenario} {items} {method}: recorded before")
                    if before["status"] != "ok":
                        failed[method, scenario] = before["status"]
                elif (method, scenario) in failed:
                    # With fewer items it came to no result.
                    status = {"status": failed[method, scenario]}
                    add_records(arguments.output, make_records(key, settings, [status]))
                else:
                    methods.append(method)
            results = measure(arguments, settings, scenario, items, methods)
            for method, outcomes in results.items():
                key = {"method": method, "scenario": scenario, "items": items}
                add_records(arguments.output, make_records(key, settings, outcomes))
                if outcomes[-1]["status"] != "ok":
                    failed[method, scenario] = outcomes[-1]["status"]


def sizes(arguments: argparse.Namespace, scenario: str) -> list[int]:
    """The numbers of items of a scenario."""
    if arguments.items:
        return sorted(arguments.items)
    if scenario != "even":
        return [MAIN_ITEMS]
    result = list(ITEMS)
    while arguments.max_items and result[-1] * 10 <= arguments.max_items:
        result.append(result[-1] * 10)
    if arguments.max_items:
        result = [items for items in result if items <= arguments.max_items]
    return result


def measure(
    arguments: argparse.Namespace,
    settings: dict[str, Any],
    scenario: str,
    items: int,
    methods: list[str],
) -> dict[str, list[dict]]:
    """Run the methods in turn, some rounds of it; what each round gave."""
    results: dict[str, list[dict]] = {method: [] for method in methods}

    def turn(method: str) -> None:
        outcomes = results[method]
        if outcomes and outcomes[-1]["status"] != "ok":
            return
        print(f"{scenario} {items} {method}", flush=True)
        task = {"method": method, "scenario": scenario, "items": items, **settings}
        task |= {"seconds": arguments.seconds, "memory_cap": arguments.memory_cap}
        outcomes.append(run_process(task, arguments.time_cap))

    with ThreadPoolExecutor(os.cpu_count() if arguments.quick else 1) as pool:
        for _ in range(arguments.rounds):
            list(pool.map(turn, methods))
    return results


def run_process(task: dict[str, Any], time_cap: float) -> dict[str, Any]:
    """Run a method in a process of its own; a failure of it is an error."""
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "record.json"
        command = [sys.executable, __file__, "--task", json.dumps(task)]
        command += ["--record", str(record)]
        try:
            done = subprocess.run(
                command, timeout=time_cap, stderr=subprocess.PIPE, text=True
            )
        except subprocess.TimeoutExpired:
            return {"status": f"over {time_cap:g} s"}
        if done.returncode == 0:
            return json.loads(record.read_text())
        if done.returncode in KILLED or "bad_alloc" in done.stderr:
            return {"status": "out of memory"}
        raise SystemExit(f"{task['method']} failed:\n{done.stderr}")


def describe(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the results depend on."""
    packages = ["torch", "torch-geometric", "numba", "triton", "mars-pyg"]
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "channels": arguments.channels,
        "factors": arguments.factors,
        "values": arguments.values,
        "dtype": arguments.dtype,
        "device": arguments.device,
        "threads": arguments.threads,
        "machine": describe_machine(arguments.device),
        "versions": versions,
    }


def memory(device: str) -> int:
    """Bytes of the machine, or twice those of the GPU, all of which may be used."""
    if device == "cuda":
        import torch

        return 2 * torch.cuda.get_device_properties(0).total_memory
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def make_records(
    key: dict[str, Any], settings: dict[str, Any], outcomes: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The records of a method on a problem, one for each pass."""
    status = outcomes[-1]["status"]
    result = []
    for name in PASSES:
        record = {**key, "pass": name, "status": status}
        if status == "ok":
            runs = [ms for outcome in outcomes for ms in outcome["runs"][name]]
            bandwidth = max(outcome["copy_gb_s"] for outcome in outcomes)
            ms, edges = median(runs), outcomes[0]["edges"]
            moved = moved_bytes(
                key["items"],
                settings["channels"],
                outcomes[0]["num_factors"],
                settings["dtype"],
                name,
            )
            floor = moved / bandwidth / 1e6
            record |= {
                "ms": round(ms, 4),
                "peak_mib": round(max(o["peak_mib"][name] for o in outcomes), 1),
                "floor_ratio": round(ms / floor, 3),
                "floor_ms": round(floor, 4),
                "copy_gb_s": round(bandwidth, 2),
                "items_per_s": round(1000 * key["items"] / ms),
                "edges_per_s": round(1000 * edges / ms),
                "edges": edges,
                "fastest_ms": round(min(runs), 4),
                "runs": len(runs),
                "other_load": round(max(o["other_load"] for o in outcomes), 2),
            }
        result.append({**record, **settings})
    return result


def moved_bytes(
    items: int, channels: int, num_factors: int, dtype: str, which: str
) -> int:
    """Bytes that any method must move; see the module."""
    row = {"float64": 8, "float32": 4, "bfloat16": 2}[dtype] * channels
    if which == "forward":
        return items * (2 * row + 8 * num_factors)
    return items * (5 * row + 16 * num_factors)


def read_records(path: Path) -> list[dict]:
    """Read the records, none where there is no file."""
    return json.loads(path.read_text()) if path.is_file() else []


def find(path: Path, keys: dict[str, Any]) -> dict | None:
    """A record with these keys."""
    for record in read_records(path):
        if all(record[key] == value for key, value in keys.items()):
            return record
    return None


def add_records(path: Path, new: list[dict]) -> None:
    """Add records; those of the same measurement give way to them."""

    def key(record: dict) -> tuple:
        names = ("method", "scenario", "items", "pass", *PROBLEM)
        return tuple(record[name] for name in names)

    keys = {key(record) for record in new}
    kept = [record for record in read_records(path) if key(record) not in keys]
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(kept + new, indent=1) + "\n")


if __name__ == "__main__":
    main()
