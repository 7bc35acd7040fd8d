"""Asking the questions of Stage 1, each of which is answered by a document."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from mars_pyg.factors.answers import (
    CUT_SHORT,
    ENLARGEMENTS,
    MalformedAnswer,
    Model,
    parse_model,
    response_format,
)
from mars_pyg.factors.budget import Budget, check_priced
from mars_pyg.factors.client import ChatClient, ServiceError
from mars_pyg.factors.committing import Committer
from mars_pyg.factors.completion import Completion
from mars_pyg.factors.planning import spare_output
from mars_pyg.factors.pricing import Price
from mars_pyg.factors.prompts import PROMPT_VERSION, Message
from mars_pyg.factors.records import Received, RequestRecord
from mars_pyg.factors.redaction import redact
from mars_pyg.factors.store import AnswerStore
from mars_pyg.factors.tokens import IMAGE_TOKENS, TokenCounter

_ATTEMPTS = 4
#: Seconds that requests on their way are waited for at the end.
_DRAIN = 15.0


@dataclass(frozen=True)
class _Question:
    key: bytes
    name: str
    model: type[BaseModel]
    messages: list[Message]
    form: dict[str, Any]
    expected: int


class DocumentAsker:
    r"""Asks for documents, and stores what comes, within a budget.

    Within ``async with`` a caller may be cancelled: requests that are on their way, and
    paid for, are waited for at the end.

    Args:
        client: Who is asked.
        store: Where the answers are kept.
        price: The price of the model, or :obj:`None`.
        max_cost: What all requests on the store may cost; :obj:`None` for
            no limit.

    Raises:
        DataError: If there is a budget and no price is known.
    """

    def __init__(
        self,
        client: ChatClient,
        store: AnswerStore,
        price: Price | None,
        max_cost: float | None,
    ) -> None:
        self.client, self.store, self.price = client, store, price
        self.model, self.max_cost = client.options.model, max_cost
        check_priced(self.model, price, max_cost)
        self.cost = 0.0
        self._counter = TokenCounter(self.model)
        self._requests: set[asyncio.Task[Completion]] = set()

    async def __aenter__(self) -> DocumentAsker:
        self._committer = Committer(self.store, self.model)
        self._budget = Budget(self._committer, self.model, self.price, self.max_cost)
        await self._committer.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        try:
            if self._requests:
                await asyncio.wait(self._requests, timeout=_DRAIN)
        finally:
            requests = list(self._requests)
            for request in requests:
                request.cancel()
            await asyncio.gather(*requests, return_exceptions=True)
            await self._committer.__aexit__(*exception)

    async def ask(
        self, messages: list[Message], model: type[Model], name: str, room: int = 0
    ) -> Model:
        """Ask, or take the answer out of the store.

        Args:
            messages: What is asked.
            model: The form of the answer.
            name: The name of the form.
            room: Tokens of the longest answer; zero for those of the question, which
                it repeats in part. (default: :obj:`0`)

        Raises:
            BudgetReached: If the request may cost more than is left.
            ServiceError: If the server cannot be used or gives no usable answer.
        """
        asked = [self.model, PROMPT_VERSION, messages]
        key = hashlib.blake2b(json.dumps(asked).encode(), digest_size=16).digest()
        stored = await self._committer.call(self.store.document, key)
        if stored is not None:
            return model.model_validate_json(stored)
        form = response_format(model, name)
        pictures = IMAGE_TOKENS if self.price is None else self.price.image_tokens
        expected = self._counter.count_messages(messages, pictures)
        limit = spare_output(self.model) + (room or expected)
        expected += self._counter.count(json.dumps(form["json_schema"]))
        question = _Question(key, name, model, messages, form, expected)
        cut, why = 0, ""
        for _ in range(_ATTEMPTS):
            # An answer that was cut short needs more room.
            most = limit << min(cut, ENLARGEMENTS)
            reserved = await self._budget.reserve(expected, most)
            request = asyncio.create_task(self._send(question, most, reserved))
            self._requests.add(request)
            request.add_done_callback(self._end)
            completion = await asyncio.shield(request)
            try:
                return parse_model(completion.text, model)
            except MalformedAnswer as error:
                why = redact(str(error))
            if completion.finish_reason == "length":
                cut, why = cut + 1, CUT_SHORT
        raise ServiceError(
            f"{_ATTEMPTS} answers to the question {name!r} cannot be used; the last: "
            f"{why}"
        )

    async def _send(
        self, question: _Question, most: int, reserved: float
    ) -> Completion:
        """Ask once, and store what comes."""
        # Without a budget, models may think for as long as they like.
        limit = None if self.max_cost is None else most
        try:
            completion = await self.client.complete(
                question.messages, question.form, max_output_tokens=limit
            )
            try:
                text = parse_model(completion.text, question.model).model_dump_json()
            except MalformedAnswer:
                text = None
            record = self._describe(completion, question)
            await self._committer.call(
                self.store.record_document, question.key, question.name, text, record
            )
            return completion
        finally:
            if reserved:
                await self._committer.commit(Received(None, reserved=reserved))

    def _end(self, request: asyncio.Task[Completion]) -> None:
        self._requests.discard(request)
        if not request.cancelled():
            request.exception()  # Its caller may have gone, and not take it.

    def _describe(self, completion: Completion, question: _Question) -> RequestRecord:
        usage = completion.usage
        input_tokens, output_tokens = usage.input_tokens, usage.output_tokens
        if input_tokens:
            self._budget.learn(question.expected, input_tokens)
        else:
            # A server that does not count must not pass for one that costs nothing.
            input_tokens = question.expected
            output_tokens = self._counter.count(completion.text)
        cost = 0.0
        if self.price is not None:
            cost = self.price.cost(input_tokens, output_tokens, usage.cached_tokens)
        self.cost += cost
        return RequestRecord(
            model=self.model,
            answered_by=completion.model,
            prompt=f"{question.name} {PROMPT_VERSION}",
            schema="",
            mode=completion.mode,
            items=0,
            factors=0,
            expected_input=question.expected,
            input_tokens=input_tokens,
            cached_tokens=usage.cached_tokens,
            output_tokens=output_tokens,
            cost=cost,
            seconds=completion.seconds,
        )
