"""What an assignment will take, before it is paid for."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from mars_pyg.factors.content import ItemContent
from mars_pyg.factors.planning import AssignmentPlan, item_codes
from mars_pyg.factors.pricing import Price
from mars_pyg.factors.store import AnswerStore

#: Seconds of a request where none was made yet: a start, and a time for each token of
#: the answer, as hosted models of middle size take them.
_SECONDS = 1.0
_SECONDS_PER_TOKEN = 0.015
_CHUNK = 1000


@dataclass(frozen=True)
class Estimate:
    """What an assignment will take.

    Args:
        items: Items of the catalogue.
        without_content: Items with nothing to show.
        answered: Items whose answers are there, or in a batch.
        repeated: Items of the same content as another, asked once together.
        requests: Requests to come.
        input_tokens: Tokens of these requests.
        output_tokens: Tokens of their answers.
        cost: Their cost, or :obj:`None` if no price is known.
        batch_cost: Their cost as batches.
        seconds: Time at the concurrency that was given.
        spent: What the model has cost on this store so far.
        notes: How the numbers came about.
    """

    items: int
    without_content: int
    answered: int
    repeated: int
    requests: int
    input_tokens: int
    output_tokens: int
    cost: float | None
    batch_cost: float | None
    seconds: float
    spent: float
    notes: tuple[str, ...]


def estimate(
    plan: AssignmentPlan,
    store: AnswerStore,
    contents: Iterable[ItemContent | None],
    price: Price | None,
    concurrency: int,
    num_examples: int = 0,
    mode: str | None = None,
) -> Estimate:
    r"""Count what an assignment will take.

    The requests are made as they would be sent, but for examples, whose number and mean
    length are taken; items that need none are left out. Where the store has answers of
    the model to the same prompts, of the same modality, the tokens that their server
    counted correct the ones counted here, and its time for a request is taken.

    Args:
        plan: What is to be asked.
        store: The answers that are there.
        contents: The items.
        price: The price of the model, or :obj:`None`.
        concurrency: The number of requests at once.
        num_examples: The number of examples of each item. (default: :obj:`0`)
        mode: How json is asked for; :obj:`None` for the way of the last request, or
            else the strictest. (default: :obj:`None`)
    """
    mode = mode or store.last_mode(plan.model, plan.request_prompt) or "json_schema"
    iterator = iter(contents)
    items = without = requests = item_tokens = asked = answered = repeated = 0
    values = 0
    seen: set[bytes] = set()
    input_tokens = output_tokens = 0.0
    while chunk := list(itertools.islice(iterator, _CHUNK)):
        items += len(chunk)
        shown = [content for content in chunk if content is not None]
        without += len(chunk) - len(shown)
        by_key = {c.key: c for c in shown if c.key not in seen}
        seen |= by_key.keys()
        repeated += len(shown) - len(by_key)
        wanted = store.open_questions(list(by_key), plan.questions, batched=False)
        answered += len(by_key) - len(wanted)
        asked += len(wanted)
        values += sum(len(numbers) for numbers in wanted.values())
        pairs = ((by_key[key], numbers) for key, numbers in wanted.items())
        for group in plan.group(pairs):
            requests += 1
            codes = item_codes(group.contents)
            pictures = {code: "" for code, content in codes.items() if content.image}
            messages = plan.messages(group, pictures)
            input_tokens += plan.input_tokens(group, messages, mode)
            output_tokens += plan.output_tokens(group)
            item_tokens += plan.counter.count_messages(messages[1:], plan.image_tokens)
    notes = [f"tokens {plan.counter.method}"]
    if num_examples and asked:
        # An example is an item and its values.
        per_item = item_tokens / asked + output_tokens / asked
        input_tokens += num_examples * asked * per_item
        notes.append(f"{num_examples} examples an item, of the mean length of items")
    if any(content is not None and content.image for content in _first(contents)):
        notes.append(f"{plan.image_tokens} tokens a picture; models differ")
    if plan.thinks:
        notes.append("tokens of thought come on top, until requests were made")
    count, ratio, output_per_value, seconds = store.experience(
        plan.model, plan.request_prompt
    )
    if count:
        input_tokens *= ratio
        output_tokens = max(output_per_value * values, 0.0) or output_tokens
        notes.append(
            f"corrected by the server's own count of {count} requests "
            f"({ratio:.2f} x the input tokens counted here)"
        )
    if not seconds:
        each = output_tokens / max(requests, 1)
        seconds = _SECONDS + _SECONDS_PER_TOKEN * each
        notes.append(f"{seconds:.1f} s a request assumed; none was made yet")
    return Estimate(
        items,
        without,
        answered,
        repeated,
        requests,
        round(input_tokens),
        round(output_tokens),
        None if price is None else price.cost(input_tokens, output_tokens),
        None if price is None else price.cost(input_tokens, output_tokens, batch=True),
        requests * seconds / concurrency,
        store.totals(plan.model).cost,
        tuple(notes),
    )


def _first(contents: Iterable[ItemContent | None]) -> list[ItemContent | None]:
    return list(itertools.islice(iter(contents), 20))


def format_estimate(entry: Estimate, concurrency: int) -> str:
    """Write an estimate for people."""
    lines = [
        f"items            {entry.items:>12,}",
        f"  no content     {entry.without_content:>12,}",
        f"  answered       {entry.answered:>12,}",
        f"  repeated       {entry.repeated:>12,}",
        f"requests         {entry.requests:>12,}",
        f"tokens in        {entry.input_tokens:>12,}",
        f"tokens out       {entry.output_tokens:>12,}",
    ]
    if entry.cost is None or entry.batch_cost is None:
        lines.append("cost                  unknown  (give prices of the model)")
    else:
        lines.append(f"cost             {entry.cost:>12.2f}")
        lines.append(f"  as batches     {entry.batch_cost:>12.2f}")
        if entry.spent:
            lines.append(f"  spent before   {entry.spent:>12.2f}")
    lines.append(
        f"time             {format_seconds(entry.seconds):>12}  at {concurrency} "
        "requests at once"
    )
    return "\n".join([*lines, *(f"note: {note}" for note in entry.notes)])


def format_seconds(seconds: float) -> str:
    """Write a time for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
