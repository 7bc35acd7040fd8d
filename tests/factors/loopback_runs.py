"""Runs against the server on the loopback, with a catalogue of known answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from mars_pyg.factors import Factor, FactorSchema
from mars_pyg.factors.assignment import AssignmentRun
from mars_pyg.factors.assignment_options import AssignmentOptions, AssignmentSummary
from mars_pyg.factors.catalogue import ItemCatalogue
from mars_pyg.factors.client import ChatClient, ClientOptions
from mars_pyg.factors.content import ContentReader
from mars_pyg.factors.export import read_assignments
from mars_pyg.factors.planning import AssignmentPlan
from mars_pyg.factors.pricing import Price
from mars_pyg.factors.store import AnswerStore

PRICE = Price(input=1.0, output=2.0)
MATERIALS, COLORS = ["cotton", "wool", "steel"], ["red", "blue"]
SCHEMA = FactorSchema(
    domain="things",
    factors=[
        Factor(name="material", values=MATERIALS),
        Factor(name="main color", values=COLORS, multiple=True),
        Factor(name="brand", description="as shoppers name it"),
    ],
)


def make_catalogue(n: int) -> ItemCatalogue:
    """Items whose values a reader of their titles knows."""
    titles = [
        f"{MATERIALS[i % 3]} thing {i} in {COLORS[i % 2]}"
        + (" and blue" if i % 4 == 0 else "")
        + (" by Acme" if i % 5 == 0 else "")
        for i in range(n)
    ]
    return ItemCatalogue([f"i{i}" for i in range(n)], {"title": titles})


def expected_values(n: int) -> set[tuple[int, int, str]]:
    """What an errorless reader finds: item, factor, value."""
    found = {(i, 0, MATERIALS[i % 3]) for i in range(n)}
    found |= {(i, 1, COLORS[i % 2]) for i in range(n)}
    found |= {(i, 1, "blue") for i in range(0, n, 4)}
    return found | {(i, 2, "Acme") for i in range(0, n, 5)}


def client_options(url: str, **options: Any) -> ClientOptions:
    """Options with waits that suit a test."""
    base = ClientOptions("m", url, timeout=10, backoff_base=0.01, backoff_longest=0.1)
    return replace(base, **options)


def assign(
    store: str | Path,
    catalogue: ItemCatalogue,
    client: ClientOptions,
    schema: FactorSchema = SCHEMA,
    items_per_request: int = 1,
    reader: ContentReader | None = None,
    price: Price | None = PRICE,
    **options: Any,
) -> AssignmentSummary:
    """Run an assignment as the reasoner does, with every part at hand."""
    answers = AnswerStore(store)
    plan = AssignmentPlan(schema, client.model, answers, items_per_request)
    contents = (reader or ContentReader(schema.modality)).read(catalogue)

    async def work() -> AssignmentSummary:
        chat = ChatClient(client)
        try:
            run = AssignmentRun(
                plan, chat, answers, price, AssignmentOptions(**options)
            )
            return await run.run(contents, len(catalogue))
        finally:
            await chat.close()

    try:
        return asyncio.run(work())
    finally:
        answers.close()


def assign_items(store: Path, url: str, n: int) -> None:
    """What a process of its own does."""
    assign(store, make_catalogue(n), client_options(url), concurrency=8)


def stored_values(
    store: str | Path,
    catalogue: ItemCatalogue,
    schema: FactorSchema = SCHEMA,
    model: str = "m",
    reader: ContentReader | None = None,
) -> set[tuple[int, int, str]]:
    """The values in a store: item, factor, value."""
    answers = AnswerStore(store)
    plan = AssignmentPlan(schema, model, answers)
    contents = (reader or ContentReader(schema.modality)).read(catalogue)
    found = set(zip(*read_assignments(plan, answers, contents), strict=True))
    answers.close()
    return found


def missing_reasons(store: str | Path) -> list[str]:
    """Why values are missing."""
    answers = AnswerStore(store)
    with answers.transaction() as connection:
        rows = connection.execute(
            "SELECT reason FROM answers WHERE reason IS NOT NULL ORDER BY input"
        ).fetchall()
    answers.close()
    return [reason for (reason,) in rows]


@contextlib.contextmanager
def server_process(*arguments: str) -> Iterator[str]:
    """A server in a process of its own; yields its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "loopback_server", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def server_counts(url: str) -> dict[str, Any]:
    """The counts of a server in another process."""
    address = url.replace("/v1", "/counts?told")
    with urllib.request.urlopen(address, timeout=10) as response:
        counts = json.loads(response.read())
    counts["told"] = {(text, factor): n for text, factor, n in counts["told"]}
    return counts
