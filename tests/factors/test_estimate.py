from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import pytest
from loopback_runs import SCHEMA, assign, client_options, make_catalogue
from loopback_server import LoopbackServer

from mars_pyg.errors import DataError
from mars_pyg.factors.catalogue import ItemCatalogue
from mars_pyg.factors.content import ContentReader
from mars_pyg.factors.estimate import Estimate, estimate, format_estimate
from mars_pyg.factors.planning import AssignmentPlan
from mars_pyg.factors.pricing import Price, find_price, read_prices
from mars_pyg.factors.store import AnswerStore
from mars_pyg.factors.tokens import TokenCounter

PRICE = Price(input=1.0, output=2.0)


def make_estimate(
    store: Path,
    catalogue: ItemCatalogue,
    price: Price | None = PRICE,
    num_examples: int = 0,
    mode: str | None = None,
    **plan: Any,
) -> Estimate:
    answers = AnswerStore(store)
    entry = AssignmentPlan(SCHEMA, "m", answers, **plan)
    contents = ContentReader().read(catalogue)
    result = estimate(entry, answers, contents, price, 16, num_examples, mode)
    answers.close()
    return result


def test_requests_are_counted_as_they_would_be_sent(tmp_path: Path) -> None:
    titles = ["red wool", "", *make_catalogue(9).fields["title"]]
    catalogue = ItemCatalogue(
        [str(i) for i in range(12)], {"title": [*titles, "red wool"]}
    )
    entry = make_estimate(tmp_path / "s", catalogue, items_per_request=4)
    assert (entry.items, entry.without_content, entry.repeated) == (12, 1, 1)
    assert entry.requests == 3
    answers = AnswerStore(tmp_path / "s")
    plan = AssignmentPlan(SCHEMA, "m", answers, 4)
    contents = [c for c in ContentReader().read(catalogue) if c is not None][:10]
    groups = plan.group((content, plan.questions) for content in contents)
    tokens = 0
    for group in groups:
        messages = plan.messages(group)
        text = "".join(message["content"] for message in messages)
        form = json.dumps(plan.response_format(plan.questions)["json_schema"])
        tokens += plan.counter.count(text + form)
    # Twelve tokens a request stand for what goes around messages.
    assert entry.input_tokens == pytest.approx(tokens + 3 * 12, abs=6)
    assert entry.cost == pytest.approx(
        entry.input_tokens * 1e-6 + entry.output_tokens * 2e-6
    )
    assert entry.batch_cost == pytest.approx(entry.cost / 2)


def test_an_estimate_is_near_what_comes(tmp_path: Path) -> None:
    """At first nearly; then corrected by what the server has counted."""
    catalogue, half = make_catalogue(200), make_catalogue(100)
    first = make_estimate(tmp_path / "s", catalogue)
    with LoopbackServer() as server:
        options = client_options(server.url)
        assign(tmp_path / "s", half, options)
        second = make_estimate(tmp_path / "s", catalogue)
        spent = server.counts.input_tokens * 1e-6 + server.counts.output_tokens * 2e-6
        rest = assign(tmp_path / "s", catalogue, options)
    third = make_estimate(tmp_path / "s", catalogue)
    assert (first.requests, second.requests, third.requests) == (200, 100, 0)
    assert second.answered == 100
    assert second.spent == pytest.approx(spent)
    assert second.input_tokens == pytest.approx(rest.input_tokens, rel=0.02)
    assert second.output_tokens == pytest.approx(rest.output_tokens, rel=0.05)
    # The server counts no form of the answer, and four characters a token.
    assert 0.8 * 2 * rest.input_tokens < first.input_tokens < 3 * 2 * rest.input_tokens
    assert 0.8 * 2 * rest.output_tokens < first.output_tokens
    assert first.output_tokens < 2 * 2 * rest.output_tokens
    assert any("was made yet" in note for note in first.notes)
    assert any("own count of 100 requests" in note for note in second.notes)


def test_the_form_counts_where_it_is_sent(tmp_path: Path) -> None:
    """As the first request has found out, or as it is given."""
    catalogue, half = make_catalogue(40), make_catalogue(20)
    strict = make_estimate(tmp_path / "s", catalogue)
    with LoopbackServer(modes=("json_object",)) as server:
        options = client_options(server.url)
        assign(tmp_path / "s", half, options)
        second = make_estimate(tmp_path / "s", catalogue)
        rest = assign(tmp_path / "s", catalogue, options)
    assert second.input_tokens == pytest.approx(rest.input_tokens, rel=0.02)
    loose = make_estimate(tmp_path / "t", catalogue, mode="json_object")
    assert loose.input_tokens < 0.9 * strict.input_tokens


def test_tokens_of_an_answer_are_near_those_of_its_json(tmp_path: Path) -> None:
    answers = AnswerStore(tmp_path / "s")
    plan = AssignmentPlan(SCHEMA, "m", answers, 10)
    contents = [c for c in ContentReader().read(make_catalogue(10)) if c is not None]
    (group,) = plan.group((content, plan.questions) for content in contents)
    values = {"material": "cotton", "main color": ["red"], "brand": "Acme"}
    items = [{"item": content.key.hex()[:6], "values": values} for content in contents]
    tokens = plan.counter.count(json.dumps({"items": items}))
    tolerance = 0.2 if plan.counter.method.startswith("counted") else 0.4
    assert plan.output_tokens(group) == pytest.approx(tokens, rel=tolerance)
    assert plan.output_limit(group) > 2 * tokens


def test_examples_are_counted(tmp_path: Path) -> None:
    without = make_estimate(tmp_path / "s", make_catalogue(50))
    with_them = make_estimate(tmp_path / "s", make_catalogue(50), num_examples=4)
    assert with_them.input_tokens > without.input_tokens + 50 * 4 * 20


def test_no_price_is_said(tmp_path: Path) -> None:
    entry = make_estimate(tmp_path / "s", make_catalogue(5), price=None)
    assert entry.cost is None
    assert "unknown" in format_estimate(entry, 16)


@pytest.mark.parametrize(
    ("count", "cost"), [((10**6, 10**6, 0), 5.0), ((10**6, 0, 10**6), 0.25)]
)
def test_costs(count: tuple[int, int, int], cost: float) -> None:
    price = Price(input=1.0, output=4.0, cached_input=0.25)
    assert price.cost(*count) == pytest.approx(cost)
    assert price.cost(*count, batch=True) == pytest.approx(cost / 2)


def test_prices_of_a_file_go_over_ours(tmp_path: Path) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text("gpt-4o-mini: {input: 9, output: 8}\nmine: {input: 0, output: 0}\n")
    prices = read_prices(file)
    # A picture takes as many tokens, whatever they cost; a dated name is the model's.
    wanted = Price(input=9, output=8, image_tokens=2833)
    assert find_price("gpt-4o-mini", prices) == wanted
    assert find_price("mine", prices) == Price(input=0, output=0)
    dated = find_price("gpt-4o-mini-2024-07-18")
    assert dated is not None
    assert dated == find_price("gpt-4o-mini")
    assert dated != find_price("gpt-4o")
    assert find_price("gpt-4o-minimal") is None


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("a: {input: -1, output: 1}", "a.input"),
        ("a: {input: 1}", "a.output"),
        ("a: 3", "a"),
        ("a: {input: 1, output: 1, tax: 1}", "a.tax"),
        ("- 3", None),
        ("a: {", None),
    ],
)
def test_faults_of_prices(tmp_path: Path, text: str, field: str | None) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text(text)
    with pytest.raises(DataError) as caught:
        read_prices(file)
    assert caught.value.field == field


def test_counts_without_a_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not counted is said to be taken from the length."""
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **options: Any) -> Any:
        if name in ("bpe_openai", "tiktoken"):
            raise ImportError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    counter = TokenCounter("gpt-4o")
    assert "length of the text" in counter.method
    assert counter.count("a" * 38) == 10
    assert counter.count("") == 0


def test_counts_with_a_vocabulary() -> None:
    """Counts that OpenAI's own tokenizer gives for the vocabularies."""
    pytest.importorskip("bpe_openai")
    for model, count in [("gpt-4o-mini", 6), ("gpt-4", 6)]:
        counter = TokenCounter(model)
        assert "bpe_openai" in counter.method
        assert counter.count("tiktoken is great!") == count
    assert TokenCounter("gpt-4o").count("お誕生日おめでとう") == 8
    assert TokenCounter("gpt-4").count("お誕生日おめでとう") == 9
    assert "may differ" in TokenCounter("qwen").method


def test_pictures_are_counted(tmp_path: Path) -> None:
    catalogue = ItemCatalogue(list("abc"), {}, ["a.png", "b.png", ""])
    contents = ContentReader("image").read(catalogue)
    answers, tokens = AnswerStore(tmp_path / "s"), []
    for image_tokens in (0, 1000):
        plan = AssignmentPlan(SCHEMA, "m", answers, image_tokens=image_tokens)
        entry = estimate(plan, answers, contents, PRICE, 16)
        tokens.append(entry.input_tokens)
    answers.close()
    assert tokens[1] - tokens[0] == 2000


def test_pictures_do_not_correct_texts(tmp_path: Path) -> None:
    """A server's count of pictures says nothing of that of texts."""
    catalogue = make_catalogue(5)
    before = make_estimate(tmp_path / "s", catalogue)
    captions = ItemCatalogue(catalogue.ids, {"caption": catalogue.fields["title"]})
    schema = SCHEMA.model_copy(update={"modality": "image"})
    with LoopbackServer() as server:
        assign(tmp_path / "s", captions, client_options(server.url), schema)
    assert make_estimate(tmp_path / "s", catalogue).input_tokens == before.input_tokens
    answers = AnswerStore(tmp_path / "s")
    plan = AssignmentPlan(schema, "m", answers)
    entry = estimate(plan, answers, ContentReader("image").read(captions), PRICE, 16)
    answers.close()
    assert any("5 requests" in note for note in entry.notes)


def test_values_of_factors_that_are_not_asked_for_are_not_counted(
    tmp_path: Path,
) -> None:
    catalogue = make_catalogue(20)
    with LoopbackServer() as server:
        assign(tmp_path / "s", catalogue, client_options(server.url))
    answers = AnswerStore(tmp_path / "s")
    first, *others = SCHEMA.factors
    changed = first.model_copy(update={"description": "what it is made of"})
    schema = SCHEMA.model_copy(update={"factors": [changed, *others]})
    plan = AssignmentPlan(schema, "m", answers)
    _, _, per_value, _ = answers.experience(plan.model, plan.prompt)
    entry = estimate(plan, answers, ContentReader().read(catalogue), PRICE, 16)
    answers.close()
    assert entry.requests == 20
    assert entry.output_tokens == pytest.approx(20 * per_value, abs=1)
