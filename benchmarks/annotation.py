"""What the client of language models adds to the time of a server, and to memory.

A server on the loopback, in a process of its own, takes a fixed time for each answer.
With C requests at once no client is done with N requests before N / C times that time;
reported is that bound over the time that was taken. Then the memory of the process is
measured over a catalogue of 10^5 items, which are made as they are read. Nothing of it
needs a network.

    python benchmarks/annotation.py

What 10,000 items of the example's shop cost by the prices of the package, or of a table
of your own, with tokens counted by bpe-openai:

    python benchmarks/annotation.py --costs [--prices prices.yaml]

``--table`` prints the records again, ``--quick`` takes a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from machines import describe_machine

from mars_pyg.factors import Factor, FactorSchema
from mars_pyg.factors.assignment import AssignmentRun
from mars_pyg.factors.assignment_options import AssignmentOptions, AssignmentSummary
from mars_pyg.factors.catalogue import ItemCatalogue
from mars_pyg.factors.client import ChatClient, ClientOptions
from mars_pyg.factors.content import ContentReader, ItemContent, make_content
from mars_pyg.factors.estimate import estimate
from mars_pyg.factors.planning import AssignmentPlan
from mars_pyg.factors.pricing import PRICES, read_prices
from mars_pyg.factors.store import AnswerStore
from mars_pyg.files import atomic_path

REPOSITORY = Path(__file__).resolve().parents[1]
RECORDS = REPOSITORY / "benchmarks" / "results" / "annotation.json"
QUICK = {"latency": [0.05], "rounds": 4, "concurrency": 8, "memory_items": 2000}
MODELS = ("gpt-4.1-nano", "gpt-4o-mini", "gpt-4.1-mini", "gpt-4.1")

#: Ten factors of usual size, seven values each.
SCHEMA = FactorSchema(
    domain="household goods",
    factors=[
        Factor(
            name=name,
            description=f"the {name.replace('_', ' ')} of the product",
            values=[value.strip() for value in values.split(",")],
        )
        for name, values in {
            "product_type": "blanket, mat, bowl, bottle, bag, cushion, tray",
            "material": "cotton, wool, steel, wood, plastic, glass, leather",
            "color": "red, blue, green, grey, black, white, multicolour",
            "usage_scenario": "travel, kitchen, sport, sleep, work, garden, party",
            "target_user": "baby, child, adult, senior, dog, cat, anyone",
            "style": "plain, modern, classic, playful, rustic, luxury, sporty",
            "key_benefit": "comfort, safety, ease, durability, price, looks, fun",
            "form": "foldable, rigid, soft, wearable, portable, fixed, stackable",
            "care": "hand wash, machine wash, dishwasher, wipe clean, none, dry, oil",
            "season": "spring, summer, autumn, winter, all year, holidays, rain",
        }.items()
    ],
)


class Titles:
    """A catalogue of any size that is nowhere whole.

    Args:
        number: The number of items.
    """

    def __init__(self, number: int) -> None:
        self.number = number

    def __iter__(self) -> Iterator[ItemContent]:
        for i in range(self.number):
            material = ("cotton", "wool", "steel")[i % 3]
            yield make_content({"title": f"Blue {material} bowl for travel, no. {i}"})


@contextmanager
def serve(latency: float) -> Iterator[str]:
    """A server in a process of its own; yields its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "loopback_server", f"--latency={latency}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY / "tests",
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def annotate(
    url: str, items: int, concurrency: int, items_per_request: int = 1
) -> AssignmentSummary:
    """Assign a catalogue, with a store that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        store = AnswerStore(Path(folder) / "answers.sqlite")
        plan = AssignmentPlan(SCHEMA, "loopback", store, items_per_request)

        async def work() -> AssignmentSummary:
            client = ChatClient(ClientOptions("loopback", url))
            options = AssignmentOptions(concurrency=concurrency)
            try:
                run = AssignmentRun(plan, client, store, options=options)
                return await run.run(Titles(items), items)
            finally:
                await client.close()

        try:
            return asyncio.run(work())
        finally:
            store.close()


def measure_throughput(
    latency: float, items: int, concurrency: int
) -> dict[str, float | int | str]:
    """Time a run against the bound."""
    with serve(latency) as url:
        annotate(url, 2 * concurrency, concurrency)  # imports, connections
        cpu = time.process_time()
        summary = annotate(url, items, concurrency)
        cpu = time.process_time() - cpu
    assert summary.complete
    assert summary.requests == items
    bound = items / concurrency * latency
    return {
        "what": "throughput",
        "latency": latency,
        "items": items,
        "concurrency": concurrency,
        "bound_seconds": bound,
        "seconds": round(summary.seconds, 2),
        "share_of_bound": round(bound / summary.seconds, 3),
        "requests_per_second": round(items / summary.seconds, 1),
        "cpu_seconds": round(cpu, 2),
    }


def measure_memory(
    items: int, items_per_request: int, concurrency: int
) -> dict[str, float | int | str | list[float]]:
    """Watch the resident memory of this process over a run."""
    seen: list[float] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            seen.append(resident_mib())

    with serve(0.0) as url:
        annotate(url, 1000, concurrency, items_per_request)  # imports, connections
        before = resident_mib()
        thread = threading.Thread(target=watch)
        thread.start()
        summary = annotate(url, items, concurrency, items_per_request)
        done.set()
        thread.join()
        seen.append(resident_mib())
    assert summary.complete
    assert summary.asked == items
    # The highest of each tenth of the run.
    tenths = [
        # A fast run has fewer than ten samples.
        max(seen[len(seen) * k // 10 : len(seen) * k // 10 + -(-len(seen) // 10)])
        for k in range(10)
    ]
    return {
        "what": "memory",
        "items": items,
        "items_per_request": items_per_request,
        "concurrency": concurrency,
        "seconds": round(summary.seconds, 1),
        "mib_before": round(before, 1),
        "mib_by_tenth": [round(value, 1) for value in tenths],
        "mib_growth": round(tenths[-1] - tenths[0], 1),
    }


def resident_mib() -> float:
    """Resident memory of this process, as Linux tells."""
    with open("/proc/self/statm") as stream:
        return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def print_costs(prices_file: Path | None, number: int = 10_000) -> None:
    """Print what a catalogue costs by model, one by one and ten at a time."""
    prices = dict(PRICES) if prices_file is None else read_prices(prices_file)
    models = MODELS if prices_file is None else tuple(prices)
    shop = REPOSITORY / "examples" / "own_catalogue" / "items.csv"
    catalogue = repeat(ItemCatalogue.from_table(shop), number)
    contents = ContentReader().read(catalogue)
    print(
        "| model | items a request | M tokens in | M tokens out | cost | as batches |"
    )
    print("|---|---|---|---|---|---|")
    for items_per_request in (1, 10):
        method = None
        for model in models:
            with tempfile.TemporaryDirectory() as folder:
                store = AnswerStore(Path(folder) / "answers.sqlite")
                plan = AssignmentPlan(SCHEMA, model, store, items_per_request)
                entry = estimate(plan, store, contents, prices[model], 16)
                store.close()
            assert entry.cost is not None
            assert entry.batch_cost is not None
            print(
                f"| {model} | {items_per_request} | {entry.input_tokens / 1e6:.2f} | "
                f"{entry.output_tokens / 1e6:.2f} | {entry.cost:.2f} | "
                f"{entry.batch_cost:.2f} |",
                flush=True,
            )
            method = entry.notes[0]
    print(f"{number:,} items, {len(SCHEMA.factors)} factors; {method}")


def repeat(catalogue: ItemCatalogue, number: int) -> ItemCatalogue:
    """Make a larger catalogue of one, whose items are told apart by a number."""
    rounds = itertools.islice(itertools.count(), -(-number // len(catalogue)))
    copies = [(copy, i) for copy in rounds for i in range(len(catalogue))][:number]
    fields = {
        name: [
            f"{texts[i]} {copy}" if name == "title" else texts[i] for copy, i in copies
        ]
        for name, texts in catalogue.fields.items()
    }
    return ItemCatalogue([f"{catalogue.ids[i]}-{c}" for c, i in copies], fields)


def print_table(records: list[dict]) -> None:
    """Print the records."""
    print("| latency | at once | requests | bound | taken | share of the bound | CPU |")
    print("|---|---|---|---|---|---|---|")
    for entry in records:
        if entry["what"] == "throughput":
            share = 100 * entry["share_of_bound"]
            print(
                f"| {entry['latency']} s | {entry['concurrency']} | {entry['items']:,} "
                f"| {entry['bound_seconds']:.1f} s | {entry['seconds']:.1f} s | "
                f"{share:.0f} % | {entry['cpu_seconds']:.1f} s |"
            )
    for entry in records:
        if entry["what"] == "memory":
            first, *_, last = entry["mib_by_tenth"]
            print(
                f"\n{entry['items']:,} items, {entry['items_per_request']} a request: "
                f"{first:.0f} MiB in the first tenth, {last:.0f} MiB in the last"
            )


def main() -> None:
    """Measure, and print and write the records."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--latency", type=float, nargs="+", default=[0.5, 1.0])
    parser.add_argument(
        "--rounds", type=int, default=40, help="answers of a connection"
    )
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--memory-items", type=int, default=100_000)
    parser.add_argument("--memory-items-per-request", type=int, default=20)
    parser.add_argument("--output", type=Path, default=RECORDS)
    parser.add_argument("--table", action="store_true", help="print the records only")
    parser.add_argument("--quick", action="store_true", help="a small measurement")
    parser.add_argument("--costs", action="store_true", help="print costs only")
    parser.add_argument("--prices", type=Path, help="price table, for --costs")
    arguments = parser.parse_args()
    if arguments.quick:
        vars(arguments).update(QUICK)
        if arguments.output == RECORDS:
            arguments.output = Path(tempfile.mkdtemp()) / RECORDS.name
    if arguments.costs:
        print_costs(arguments.prices)
        return
    if not arguments.table:
        records: list[dict] = [
            measure_throughput(
                latency,
                arguments.rounds * arguments.concurrency,
                arguments.concurrency,
            )
            for latency in arguments.latency
        ]
        records.append(
            measure_memory(
                arguments.memory_items,
                arguments.memory_items_per_request,
                arguments.concurrency,
            )
        )
        for record in records:
            record |= {
                "machine": describe_machine(),
                "python": platform.python_version(),
            }
        with atomic_path(arguments.output) as temporary:
            temporary.write_text(json.dumps(records, indent=1) + "\n")
    print_table(json.loads(arguments.output.read_text()))


if __name__ == "__main__":
    main()
