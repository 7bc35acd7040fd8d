from __future__ import annotations

import asyncio
import csv
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from loopback_runs import (
    SCHEMA,
    client_options,
    expected_values,
    make_catalogue,
)
from loopback_server import FaultPlan, LoopbackServer

from mars_pyg.errors import DataError
from mars_pyg.factors import Factor, FactorProfiles, FactorSchema
from mars_pyg.factors.assignment_options import AssignmentOptions
from mars_pyg.factors.catalogue import ItemCatalogue
from mars_pyg.factors.client import ClientOptions, ServiceError
from mars_pyg.factors.content import ContentReader
from mars_pyg.factors.llm_reasoner import LLMReasoner, run_async
from mars_pyg.factors.origin import check_origin
from mars_pyg.factors.pricing import Price
from mars_pyg.factors.prompts import items_message
from mars_pyg.factors.records import Received
from mars_pyg.factors.retrieval import ExampleIndex

PRICES = {"m": Price(input=1, output=2)}


def make_reasoner(tmp_path: Path, url: str, **options: Any) -> LLMReasoner:
    options = {"prices": PRICES, "schema": SCHEMA} | options
    return LLMReasoner(
        model=client_options(url), store=tmp_path / "s.sqlite", **options
    )


def triplets(profiles: FactorProfiles) -> set[tuple[int, int, str]]:
    return set(
        zip(
            profiles.item_index.tolist(),
            profiles.factor_index.tolist(),
            [profiles.value_names[v] for v in profiles.value_index.tolist()],
            strict=True,
        )
    )


def test_assign_and_write(tmp_path: Path) -> None:
    catalogue = make_catalogue(30)
    with LoopbackServer() as server:
        reasoner = make_reasoner(tmp_path, server.url)
        profiles = reasoner.assign(catalogue)
        requests = server.counts.requests
    # The rest needs no server.
    assert triplets(profiles) == expected_values(30)
    assert reasoner.estimate(catalogue).requests == 0
    reasoner.write(catalogue, tmp_path / "factors", "item")
    schema = FactorSchema.read(tmp_path / "factors" / "schema.json")
    assert schema == SCHEMA
    read = FactorProfiles.read(
        tmp_path / "factors" / "profiles.tsv", schema, catalogue.ids, "item"
    )
    assert triplets(read) == expected_values(30)
    with open(tmp_path / "factors" / "provenance.tsv", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert len(rows) == 90
    row = rows[1]
    assert (row["item"], row["factor"], row["value"]) == (
        "i0",
        "main color",
        "red|blue",
    )
    assert (row["model"], row["answered_by"]) == ("m", "m-loopback")
    assert (row["prompt_version"], row["schema_version"]) == ("1", SCHEMA.version)
    assert row["date"].startswith("20")
    assert len(row["input_hash"]) == 32
    assert int(row["input_tokens"]) > int(row["output_tokens"]) > 10
    assert requests == 30


def test_in_a_running_loop(tmp_path: Path) -> None:
    """As in a notebook."""

    async def work(reasoner: LLMReasoner) -> FactorProfiles:
        return reasoner.assign(make_catalogue(3))

    with LoopbackServer() as server:
        profiles = asyncio.run(work(make_reasoner(tmp_path, server.url)))
    assert triplets(profiles) == expected_values(3)


def test_an_interrupt_in_a_running_loop_ends_the_run(tmp_path: Path) -> None:
    """Nothing more is asked, and what is paid for is kept."""
    catalogue = make_catalogue(500)

    async def work(reasoner: LLMReasoner) -> None:
        reasoner.run(catalogue)

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    # Unlike asyncio.run, notebooks leave interrupts to Python.
    loop = asyncio.new_event_loop()
    try:
        with LoopbackServer(latency=0.1) as server:

            def interrupt() -> None:
                while not server.counts.told:
                    time.sleep(0.01)
                os.kill(os.getpid(), signal.SIGINT)

            threading.Thread(target=interrupt, daemon=True).start()
            reasoner = make_reasoner(tmp_path, server.url)
            with pytest.raises(KeyboardInterrupt):
                loop.run_until_complete(work(reasoner))
            requests = server.counts.requests
    finally:
        loop.close()
        signal.signal(signal.SIGINT, handler)
    assert requests < 250
    assert reasoner.estimate(catalogue).answered == requests


def test_an_error_in_a_running_loop_is_raised() -> None:
    async def fail() -> None:
        raise ValueError("not today")

    async def work() -> None:
        run_async(fail())

    with pytest.raises(ValueError, match="not today"):
        asyncio.run(work())


def test_tables_of_other_profiles_do_not_stay(tmp_path: Path) -> None:
    catalogue, folder = make_catalogue(3), tmp_path / "factors"
    folder.mkdir()
    (folder / "profiles.csv").write_text("item,brand")
    reasoner = make_reasoner(tmp_path, "")
    reasoner.write(catalogue, folder)
    written = {"schema.json", "profiles.tsv", "provenance.tsv"}
    assert {path.name for path in folder.iterdir()} == written
    reasoner.write(catalogue, folder, provenance=False)
    assert {path.name for path in folder.iterdir()} == written - {"provenance.tsv"}


def test_open_values_of_one_spelling(tmp_path: Path) -> None:
    """Values that differ in case only are one, as written most often."""
    titles = ["a by Acme", "b by ACME", "c by Acme", "d by Bolt"]
    catalogue = ItemCatalogue(list("abcd"), {"title": titles})
    with LoopbackServer() as server:
        reasoner = make_reasoner(
            tmp_path, server.url, schema=FactorSchema(factors=[Factor(name="brand")])
        )
        profiles = reasoner.assign(catalogue)
    assert profiles.value_names == ["Acme", "Bolt"]
    assert profiles.value_index.tolist() == [0, 0, 0, 1]


def test_an_incomplete_assignment_is_an_error(tmp_path: Path) -> None:
    with LoopbackServer() as server:
        reasoner = make_reasoner(
            tmp_path, server.url, options=AssignmentOptions(max_cost=0.002)
        )
        with pytest.raises(ServiceError, match="call again to go on"):
            reasoner.assign(make_catalogue(30))
        some = triplets(reasoner.profiles(make_catalogue(30)))
    assert some < expected_values(30)


def test_a_budget_needs_a_price(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no price of the model"):
        make_reasoner(tmp_path, "", prices={}, options=AssignmentOptions(max_cost=1.0))


@pytest.mark.parametrize("features", [True, False])
def test_near_items_serve_as_examples(tmp_path: Path, features: bool) -> None:
    """The nearest assigned ones, with their values; never the item itself."""
    catalogue = make_catalogue(12)
    x = torch.eye(3)[torch.arange(12) % 3] + torch.arange(12)[:, None] / 100
    if features:
        catalogue.features["text"] = x
    with LoopbackServer() as server:
        reasoner = make_reasoner(
            tmp_path,
            server.url,
            options=AssignmentOptions(concurrency=1, num_examples=2),
            text_model="tfidf",
        )
        assert triplets(reasoner.assign(catalogue)) == expected_values(12)
        shown = [json.loads(b["messages"][1]["content"]) for b in server.counts.bodies]
    assert "examples_already_assigned" not in shown[0]
    for number, entry in enumerate(shown[6:], start=6):
        examples = entry["examples_already_assigned"]
        assert len(examples) == 2
        if not features:
            continue
        cosine = torch.nn.functional.cosine_similarity(x[:number], x[number], dim=1)
        nearest = cosine.topk(2).indices.tolist()
        titles = [catalogue.fields["title"][index] for index in nearest]
        assert [example["title"] for example in examples] == titles
        material = loopback_material(nearest[0])
        assert examples[0]["values"]["material"] == material
    # Answers with examples are not mixed with those without.
    assert make_reasoner(tmp_path, "").estimate(catalogue).requests == 12


def loopback_material(index: int) -> str:
    return ["cotton", "wool", "steel"][index % 3]


def test_examples_hold_what_is_asked_for() -> None:
    contents = list(ContentReader().read(make_catalogue(3)))
    a, b, c = (content for content in contents if content is not None)
    index = ExampleIndex(contents, torch.tensor([[1.0, 0], [1, 1], [0, 0]]))
    index.add(a.key, "material", ["cotton"])
    index.add(a.key, "brand", ["Acme"])
    index.add(a.key, "main color", [])
    index.add(c.key, "brand", ["Bolt"])  # it has no features
    (example,) = index.nearest([b], ["brand", "main color"], 5)
    assert example == {**a.fields, "values": {"brand": "Acme"}}
    assert index.nearest([a], ["brand"], 5) == []
    assert index.nearest([c], ["brand"], 5) == []
    assert index.nearest([b], ["size"], 5) == []


def test_a_caption_or_picture_is_needed(tmp_path: Path) -> None:
    schema = FactorSchema(modality="image", factors=SCHEMA.factors)
    with pytest.raises(DataError, match="neither pictures nor captions"):
        make_reasoner(tmp_path, "", schema=schema).estimate(make_catalogue(1))


def test_pictures_have_no_examples(tmp_path: Path) -> None:
    schema = FactorSchema(modality="image", factors=SCHEMA.factors)
    options = AssignmentOptions(num_examples=2)
    reasoner = make_reasoner(tmp_path, "", schema=schema, options=options)
    for method in (reasoner.run, reasoner.estimate):
        with pytest.raises(DataError, match="examples are of texts"):
            method(ItemCatalogue(["a"], {}, ["a.png"]))


def test_fields_are_chosen_by_name() -> None:
    fields = {"price": ["3"], "title": ["a" * 30], "brand": ["\x00 "]}
    catalogue = ItemCatalogue(["a"], fields)
    (content,) = ContentReader(max_characters=10).read(catalogue)
    assert content is not None
    assert content.fields == {"title": "a" * 10 + " …"}
    (content,) = ContentReader(fields=["price"]).read(catalogue)
    assert content is not None
    assert content.fields == {"price": "3"}
    with pytest.raises(DataError) as caught:
        ContentReader(fields=["prize"]).read(catalogue)
    assert caught.value.field == "prize"


def test_a_field_of_the_name_of_codes_is_shown() -> None:
    """As where a catalogue has the names of its items in a column "item"."""
    catalogue = ItemCatalogue(["a"], {"item": ["red mug"]})
    (content,) = ContentReader(fields=["item"]).read(catalogue)
    assert content is not None
    (shown,) = json.loads(items_message({"c0de": content}, {})["content"])["items"]
    assert shown == {"item text": "red mug", "item": "c0de"}


def test_faults_do_not_change_the_result(tmp_path: Path) -> None:
    with LoopbackServer(faults=FaultPlan(0.2), hang=0.5) as server:
        reasoner = make_reasoner(tmp_path, server.url, items_per_request=3)
        assert triplets(reasoner.assign(make_catalogue(60))) == expected_values(60)


def test_examples_have_values_of_what_is_asked_for() -> None:
    """Neither the item itself nor items without such values take their places."""
    contents = list(ContentReader().read(make_catalogue(3)))
    a, b, c = (content for content in contents if content is not None)
    index = ExampleIndex(contents, torch.tensor([[1.0, 0], [1, 0.1], [1, 1]]))
    for content in (a, b):
        index.add(content.key, "brand", ["Acme"])
    index.add(c.key, "material", ["wool"])
    (example,) = index.nearest([a], ["material"], 1)
    assert example == {**c.fields, "values": {"material": "wool"}}
    (example,) = index.nearest([a], ["brand"], 1)
    assert example == {**b.fields, "values": {"brand": "Acme"}}


def test_the_size_of_pictures_is_part_of_what_is_shown(tmp_path: Path) -> None:
    options = AssignmentOptions(image_size=64)
    assert make_reasoner(tmp_path, "", options=options).reader.image_size == 64


def test_spellings_of_a_value_are_one(tmp_path: Path) -> None:
    """Also accents in another form, as older stores have them."""
    catalogue = make_catalogue(3)
    reasoner = make_reasoner(tmp_path, "")
    with reasoner.open() as (plan, store):
        answers = [
            (content.key, plan.questions[2], [value], None)
            for content, value in zip(
                reasoner.reader.read(catalogue),
                ["Caf\u00e9", "Caf\u00e9", "Cafe\u0301"],
                strict=True,
            )
            if content is not None
        ]
        store.record([Received(None, answers)])
    assert reasoner.profiles(catalogue).value_names[-1] == "Caf\u00e9"
    assert len(set(reasoner.profiles(catalogue).value_index.tolist())) == 1
    reasoner.write(catalogue, tmp_path / "factors", "id")
    check_origin(tmp_path / "factors", reasoner.schema)  # raises nothing


def test_numbers_that_ask_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="'items_per_request' must be at least 1"):
        LLMReasoner(SCHEMA, "m", items_per_request=0)
    with pytest.raises(ValueError, match="'max_retries' must be at least 0"):
        ClientOptions("m", max_retries=-1)
