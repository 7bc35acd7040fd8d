"""The tables of the READMEs, from the records.

A table of a README that has the header of one that the benchmarks print is that table.
Others are excerpts, and stay as they are.

    python benchmarks/readme.py          # write those that have changed
    python benchmarks/readme.py --check  # name them, and fail if there are any
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import ablations
import accuracy
import factor_sources
import sensitivity
import training
from figures import markdown
from training_runs import read_records

from mars_pyg.files import atomic_path

FOLDER = Path(__file__).parent
FILES = (FOLDER.parent / "README.md", FOLDER / "README.md")
#: The records of trainings, by the command that makes them.
TRAININGS = {
    "accuracy.py": accuracy.RESULTS,
    "accuracy.py --search": accuracy.SEARCH,
    "ablations.py": ablations.RESULTS,
    "sensitivity.py": sensitivity.RESULTS,
}


def main() -> None:
    """Write the tables, or check them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    is_stale = False
    for file in FILES:
        text = file.read_text()
        updated, changed = replace_tables(text, record_tables())
        for header in changed:
            print(f"{file.relative_to(FOLDER.parent)}: {header}")
        is_stale |= bool(changed)
        if changed and not arguments.check:
            with atomic_path(file) as temporary:
                temporary.write_text(updated)
    if arguments.check and is_stale:
        raise SystemExit("not what the records say: run benchmarks/readme.py")


def record_tables() -> Iterator[str]:
    """The tables of the records that a README may have."""
    yield accuracy.table(read_records(accuracy.RESULTS))
    yield from accuracy.comparisons(accuracy.RESULTS)
    yield accuracy.search_table(read_records(accuracy.SEARCH))
    times = json.loads(training.RESULTS.read_text())
    yield training.table(times).partition("\n\n")[0]
    yield training_hours({name: read_records(f) for name, f in TRAININGS.items()})
    for benchmark in (ablations, factor_sources):
        records = read_records(benchmark.RESULTS)
        for rows, _ in benchmark.summaries(records).values():
            yield markdown(rows)


def training_hours(benchmarks: dict[str, list[dict[str, Any]]]) -> str:
    """How long the trainings behind some records took, as a table.

    A training that several records share counts once, and one whose time is in no
    record does not count.
    """
    rows = []
    for benchmark, records in benchmarks.items():
        for dataset in sorted({record["dataset"] for record in records}):
            trainings = {
                (record["seed"], record["epochs"], record["seconds_per_epoch"])
                for record in records
                if record["dataset"] == dataset and record.get("seconds_per_epoch")
            }
            hours = sum(epochs * seconds for _, epochs, seconds in trainings) / 3600
            rows.append(
                {
                    "command": f"`{benchmark}`",
                    "dataset": dataset,
                    "trainings": len(trainings),
                    "hours of training": f"{hours:.1f}",
                }
            )
    return markdown(rows)


def replace_tables(text: str, tables: Iterable[str]) -> tuple[str, list[str]]:
    """Replace the tables of a text by those of the same header, in their order.

    Args:
        text: Markdown.
        tables: Tables in markdown, of which several may have the same header.

    Returns:
        The text, and the headers of the tables that were others.
    """
    known = defaultdict(list)
    for table in tables:
        known[table.partition("\n")[0]].append(table.split("\n"))
    lines, result, changed = text.split("\n"), [], []
    while lines:
        header = lines[0]
        if not known.get(header):
            result.append(lines.pop(0))
            continue
        old = []
        while lines and lines[0].startswith("|"):
            old.append(lines.pop(0))
        new = known[header].pop(0)
        result += new
        if new != old:
            changed.append(header)
    return "\n".join(result), changed


if __name__ == "__main__":
    main()
