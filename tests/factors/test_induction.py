from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from loopback_runs import PRICE, client_options
from loopback_server import FaultPlan, LoopbackServer, rules

from mars_pyg.errors import DataError
from mars_pyg.factors import FactorSchema
from mars_pyg.factors.answers import InducedFactor
from mars_pyg.factors.catalogue import ItemCatalogue
from mars_pyg.factors.client import ChatClient, ServiceError
from mars_pyg.factors.content import ContentReader
from mars_pyg.factors.induction import (
    FactorInduction,
    InducedGroup,
    InductionOptions,
    fold,
    format_induction,
)
from mars_pyg.factors.pricing import Price
from mars_pyg.factors.store import AnswerStore


def induce(
    store: Path,
    url: str,
    catalogue: ItemCatalogue | None = None,
    price: Price | None = None,
    reader: ContentReader | None = None,
    max_retries: int = 4,
    **options: Any,
) -> tuple[FactorSchema, list[InducedGroup]]:
    if catalogue is None:
        titles = [f"thing {i}" for i in range(100)]
        catalogue = ItemCatalogue([str(i) for i in range(100)], {"title": titles})
    contents = (reader or ContentReader()).read(catalogue)
    answers = AnswerStore(store)

    async def work() -> tuple[FactorSchema, list[InducedGroup]]:
        client = ChatClient(client_options(url, max_retries=max_retries))
        induction = FactorInduction(
            client,
            answers,
            price=price,
            options=InductionOptions(**{"sample_size": 9} | options),
        )
        try:
            return await induction.run(contents), induction.groups
        finally:
            await client.close()

    try:
        return asyncio.run(work())
    finally:
        answers.close()


def test_factors_are_joined_counted_and_kept(tmp_path: Path) -> None:
    """Names that the server varies by sample become one, with the right count."""
    with LoopbackServer() as server:
        schema, groups = induce(tmp_path / "s", server.url, num_samples=12)
        bodies = server.counts.bodies
    samples = [b for b in bodies if "name the factors" in b["messages"][0]["content"]]
    assert len(samples) == 12
    # The server names all but one perspective for every sample.
    counts = {}
    for body in samples:
        told, _ = rules.answer(body)
        for factor in told["factors"]:
            for entry in rules.PERSPECTIVES:
                if factor["name"] in entry["names"]:
                    first = entry["names"][0]
                    counts[first] = counts.get(first, 0) + 1
    assert 0 < counts["target_user"] < 12
    found = {}
    for group in groups:
        for entry in rules.PERSPECTIVES:
            if {fold(name) for name in entry["names"]} >= set(map(fold, group.names)):
                found[entry["names"][0]] = group.count
    assert found == counts
    assert len(groups) == len(rules.PERSPECTIVES)
    assert [group.count for group in groups] == sorted(counts.values(), reverse=True)
    assert schema.factors[-1].count == counts["target_user"]
    values = {factor.name: factor.values for factor in schema.factors}
    assert ["cotton", "wool", "steel", "wood"] in values.values()
    assert values["brand"] is None
    text = format_induction(groups, schema, 12)
    assert "12 of 12  open vocabulary" in text
    assert "also" in text


def test_the_most_frequent_are_kept(tmp_path: Path) -> None:
    with LoopbackServer() as server:
        schema, groups = induce(
            tmp_path / "s", server.url, num_samples=12, num_factors=4, max_values=3
        )
    assert [factor.name for factor in schema.factors] == [g.name for g in groups[:4]]
    assert all(factor.count == 12 for factor in schema.factors)
    assert max(len(factor.values or []) for factor in schema.factors) == 3
    assert "left out" in format_induction(groups, schema, 12)


def test_a_repeated_induction_asks_nothing(tmp_path: Path) -> None:
    with LoopbackServer() as server:
        first = induce(tmp_path / "s", server.url)
        requests = server.counts.requests
        assert induce(tmp_path / "s", server.url)[0] == first[0]
        assert server.counts.requests == requests
        other, _ = induce(tmp_path / "s", server.url, seed=1)
        assert server.counts.requests > requests
    assert len(other.factors) == len(first[0].factors)


def test_faults_are_got_over(tmp_path: Path) -> None:
    kinds = ("broken_json", "truncated_json", "empty_choices", "error_500")
    with LoopbackServer(faults=FaultPlan(0.3, kinds)) as server:
        schema, _ = induce(tmp_path / "s", server.url)
        assert sum(server.counts.faults.values()) > 2
    with LoopbackServer() as server:
        assert induce(tmp_path / "t", server.url)[0] == schema


def test_an_interrupted_induction_goes_on(tmp_path: Path) -> None:
    faults = FaultPlan(script=[None] * 4, rate=1.0, kinds=("error_503",))
    with LoopbackServer(faults=faults) as server:
        with pytest.raises(ServiceError, match="no answer after"):
            induce(tmp_path / "s", server.url)
        faults.rate = 0.0
        server.counts.requests = 0
        schema, _ = induce(tmp_path / "s", server.url)
        again = server.counts.requests
        assert induce(tmp_path / "t", server.url)[0] == schema
        assert server.counts.requests - again == again + 4


def test_the_budget_is_not_passed(tmp_path: Path) -> None:
    """It stops before, keeps what it has paid for, and goes on with more money."""
    store, budget = tmp_path / "s", 0.01
    few: dict[str, Any] = {"num_samples": 30, "num_factors": 4, "max_values": 4}
    with LoopbackServer(latency=0.05) as server:

        def paid() -> float:
            counts = server.counts
            return PRICE.cost(counts.input_tokens, counts.output_tokens)

        with pytest.raises(DataError, match="may cost more than is left") as caught:
            induce(store, server.url, price=PRICE, max_cost=0, **few)
        assert (caught.value.field, server.counts.requests) == ("max_cost", 0)
        with pytest.raises(DataError, match="may cost more than is left"):
            induce(store, server.url, price=PRICE, max_cost=budget, **few)
        requests = server.counts.requests
        assert 0.6 * budget < paid() <= budget
        answers = AnswerStore(store)
        totals = answers.totals("m")
        answers.close()
        assert (totals.requests, totals.cost) == (requests, pytest.approx(paid()))
        schema, _ = induce(store, server.url, price=PRICE, max_cost=1, **few)
        again = server.counts.requests
        # Without a budget, answers have no limit, and are the same.
        assert induce(tmp_path / "t", server.url, **few)[0] == schema
        assert server.counts.requests - again == again
        limits = ["max_completion_tokens" in body for body in server.counts.bodies]
    assert limits == [True] * again + [False] * again


def test_a_server_that_does_not_count_is_not_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LoopbackServer() as server:
        real = server.completion
        monkeypatch.setattr(
            server, "completion", lambda *a: {**real(*a), "usage": None}
        )
        with pytest.raises(DataError, match="may cost more than is left"):
            induce(
                tmp_path / "s", server.url, price=PRICE, max_cost=0.01, num_samples=50
            )


def test_answers_cut_short_get_more_room(tmp_path: Path) -> None:
    faults = FaultPlan(script=["truncated_json"] * 2)
    with LoopbackServer(faults=faults) as server:
        induce(tmp_path / "s", server.url, price=PRICE, max_cost=1, num_samples=1)
        limits = [body["max_completion_tokens"] for body in server.counts.bodies]
    assert limits[:3] == [limits[0], 2 * limits[0], 4 * limits[0]]


def test_a_budget_needs_a_price(tmp_path: Path) -> None:
    with LoopbackServer() as server:
        with pytest.raises(DataError, match="no price of the model 'm'"):
            induce(tmp_path / "s", server.url, max_cost=1)
        assert server.counts.requests == 0


def test_what_is_on_its_way_at_an_error_is_kept(tmp_path: Path) -> None:
    """One sample fails while others are asked, which are paid for."""
    faults = FaultPlan(script=[None, "error_503"])
    with LoopbackServer(faults=faults, latency=0.3) as server:
        with pytest.raises(ServiceError, match="no answer after"):
            induce(tmp_path / "s", server.url, num_samples=6, max_retries=0)
        answers = AnswerStore(tmp_path / "s")
        assert answers.totals("m").requests == server.counts.requests - 1 == 5
        answers.close()


def test_no_content(tmp_path: Path) -> None:
    catalogue = ItemCatalogue(["a"], {"title": [" "]})
    with LoopbackServer() as server, pytest.raises(DataError, match="no item has"):
        induce(tmp_path / "s", server.url, catalogue)


@pytest.mark.parametrize(
    ("name", "folded"),
    [
        ("Usage Scenarios", "usage_scenario"),
        ("usage-scenario", "usage_scenario"),
        ("dress", "dress"),
        ("Größe!", "grösse"),
        ("gas", "gas"),
        ("!", ""),
    ],
)
def test_spellings(name: str, folded: str) -> None:
    assert fold(name) == folded


def test_pictures_that_cannot_be_read_are_not_asked_about(tmp_path: Path) -> None:
    images = [str(tmp_path / f"{i}.png") for i in range(4)]
    catalogue = ItemCatalogue(list("abcd"), images=images)
    with LoopbackServer() as server:
        reader = ContentReader("image")
        with pytest.raises(DataError, match="no picture of the samples"):
            induce(tmp_path / "s", server.url, catalogue, reader=reader)
        assert server.counts.requests == 0


def test_an_empty_list_of_values_is_an_open_vocabulary() -> None:
    brand = InducedFactor(name="brand", description="", values=[], several=False)
    assert InducedGroup("brand", [(0, brand)]).open
