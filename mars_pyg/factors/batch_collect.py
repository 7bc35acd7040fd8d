"""Stage 2 by the batch API: how batches are, and what they answer."""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mars_pyg.factors.answers import (
    CUT_SHORT,
    CheckedAnswer,
    MalformedAnswer,
    check_assignments,
)
from mars_pyg.factors.batch_store import BatchRequest, BatchRow, BatchStore
from mars_pyg.factors.client import (
    ClientOptions,
    ServiceError,
    check_answer,
    explained,
    make_openai,
)
from mars_pyg.factors.completion import Completion, as_dict
from mars_pyg.factors.content import ItemContent
from mars_pyg.factors.planning import item_codes
from mars_pyg.factors.pricing import PRICES, Price, find_price
from mars_pyg.factors.records import Received, RequestRecord
from mars_pyg.factors.redaction import redact
from mars_pyg.factors.store import AnswerStore
from mars_pyg.factors.tokens import TokenCounter
from mars_pyg.tables import whole_characters

_CHUNK = 200
#: The states in which a server has done all that it will.
_FINAL = ("completed", "failed", "expired", "cancelled")


class _NotThereError(Exception):
    """Something of a batch that the server has not, or has no more."""


@dataclass(frozen=True)
class BatchStatus:
    """What a server says of a batch."""

    row: BatchRow
    state: str
    total: int = 0
    completed: int = 0
    failed: int = 0


@dataclass
class Collected:
    """What was collected.

    Args:
        batches: Batches that are done with.
        waiting: Batches that the server is still at.
        lost: Batches that the server does not know.
        requests: Requests that were answered.
        failed: Requests that the server failed at; they may be asked again.
        fault: What the server says of the last of these, or :obj:`None`.
        again: Values that cannot be used, and may be asked for again.
        missing: Values that were asked for often enough, and are missing.
        cost: What the answers cost.
    """

    batches: int = 0
    waiting: int = 0
    lost: int = 0
    requests: int = 0
    failed: int = 0
    fault: str | None = None
    again: int = 0
    missing: int = 0
    cost: float = 0.0


class BatchCollector:
    r"""Asks after the batches of a store, and stores their answers.

    What was asked stands in the store, so that a schema may be edited, or gone, while
    its batches are under way.

    Args:
        client: How the server is asked; its model does not matter.
        store: Where the answers are kept.
        prices: The price table. (default: the package's)
        max_reasks: Times that a value outside of the schema is asked for again, by
            later batches or runs, before it counts as missing. (default: :obj:`2`)
    """

    def __init__(
        self,
        client: ClientOptions,
        store: AnswerStore,
        prices: Mapping[str, Price] = PRICES,
        max_reasks: int = 2,
    ) -> None:
        self.store, self.prices, self.max_reasks = store, prices, max_reasks
        self.batches = BatchStore(store)
        self._openai = make_openai(client, max_retries=client.max_retries)

    async def close(self) -> None:
        """Close the connections."""
        await self._openai.close()

    async def status(self) -> list[BatchStatus]:
        """Ask the server for all batches that are not collected."""
        return [await self._status(row) for row in self.batches.rows()]

    async def _status(self, row: BatchRow) -> BatchStatus:
        try:
            batch = await self._retrieve(row)
        except _NotThereError:
            return BatchStatus(row, "not known to the server", row.requests)
        if batch is None:
            return BatchStatus(row, f"{row.state}, not submitted", row.requests)
        counts = batch.request_counts
        if counts is None:
            return BatchStatus(row, batch.status, row.requests)
        return BatchStatus(
            row, batch.status, counts.total, counts.completed, counts.failed
        )

    async def _retrieve(self, row: BatchRow) -> Any:
        import openai

        if row.remote is None:
            return None
        with explained():
            try:
                batch = await self._openai.batches.retrieve(row.remote)
                check_answer(batch)
                return batch
            except openai.NotFoundError:
                # A server without batches, at a wrong address, has lost none.
                await self._openai.batches.list(limit=1)
                raise _NotThereError from None

    async def collect(
        self, say: Callable[[str], None] = print, drop_lost: bool = False
    ) -> Collected:
        """Store the answers of all batches that are done.

        What a batch has not answered, or not well, may be asked for again.

        Args:
            say: Called with what is worth telling of single batches.
            drop_lost: Whether batches that the server does not know are forgotten, so
                that their items may be asked for again: a key of another project does
                not see them either. (default: :obj:`False`)

        Raises:
            ServiceError: If a batch could not be collected; those after it are.
        """
        collected, faults = Collected(), list[Exception]()
        for row in self.batches.rows():
            try:
                await self._collect_batch(row, collected, say, drop_lost)
            # Whatever is wrong with one batch, others are paid for.
            except Exception as error:
                say(f"batch {row.remote}: {redact(str(error))}")
                faults.append(error)
        if faults:
            raise faults[0]
        return collected

    async def _collect_batch(
        self,
        row: BatchRow,
        collected: Collected,
        say: Callable[[str], None],
        drop_lost: bool,
    ) -> None:
        try:
            batch = await self._retrieve(row)
        except _NotThereError:
            collected.lost += 1
            if drop_lost:
                self.batches.drop(row.id)
                say(f"batch {row.remote}: dropped, its items may be asked for again")
            else:
                say(
                    f"batch {row.remote}: the server does not know it; see whether the "
                    "key is of the same project, or drop it (--drop-lost)"
                )
            return
        if self.batches.is_left(row):
            if drop_lost:
                self.batches.drop(row.id)
                say(f"batch {row.id}: dropped, its items may be asked for again")
                return
            say(
                f"batch {row.id}: it has not reached the server; give 'batch submit' "
                "again, or drop it (--drop-lost)"
            )
        if batch is None or batch.status not in _FINAL:
            collected.waiting += 1
            return
        if batch.status != "completed":
            errors = getattr(batch.errors, "data", None) or []
            why = "; ".join(redact(str(entry.message)) for entry in errors)
            say(f"batch {row.remote}: {batch.status}{f' ({why})' if why else ''}")
        answered, is_whole = 0, batch.status == "completed" and not drop_lost
        for name in filter(None, (batch.output_file_id, batch.error_file_id)):
            try:
                answered += await self._collect(row, name, collected)
            except _NotThereError:
                is_whole = False
                say(
                    f"batch {row.remote}: the server no longer has its file {name}; "
                    "what was in it may be asked for again"
                )
        if is_whole and answered < row.requests:
            raise ServiceError(
                f"the server gave {answered} of {row.requests} answers; collect again, "
                "or forget the others (--drop-lost)"
            )
        self.batches.drop(row.id)
        collected.batches += 1

    async def _collect(self, row: BatchRow, name: str, collected: Collected) -> int:
        """Store the answers in a file of the server; returns their number."""
        import openai

        # Another process may be collecting the same batch.
        file = self.batches.file(row.id).with_suffix(f".{uuid.uuid4().hex}.download")
        # The store may have been moved without its folder.
        file.parent.mkdir(parents=True, exist_ok=True)
        with explained():
            try:
                content = self._openai.files.with_streaming_response.content(name)
                async with content as response:
                    with open(file, "wb") as stream:
                        async for part in response.iter_bytes():
                            stream.write(part)
            except openai.NotFoundError:
                raise _NotThereError from None
            except (openai.OpenAIError, OSError):
                raise
            # On the way errors are those of what openai connects with.
            except Exception as error:
                raise ServiceError(
                    f"the download broke off ({type(error).__name__}: {error}); "
                    "collect again"
                ) from None
        number = 0
        with open(file, "rb") as stream:
            while lines := list(itertools.islice(stream, _CHUNK)):
                number += sum(map(bool, map(bytes.strip, lines)))
                entries = [self._read(row, line, collected) for line in lines]
                self.store.record([entry for entry in entries if entry is not None])
        return number

    def _read(
        self, row: BatchRow, line: bytes, collected: Collected
    ) -> Received | None:
        """Read one answer of a batch."""
        try:
            entry = json.loads(line)
            request = self.batches.request(str(entry["custom_id"]))
        except (ValueError, KeyError, TypeError):
            collected.failed += 1
            return None
        response = entry.get("response")
        is_answer = isinstance(response, dict) and response.get("status_code") == 200
        if request is None or not is_answer:
            collected.failed += 1
            collected.fault = _fault(entry) or collected.fault
            return None
        completion = Completion.read(response.get("body"), row.mode)
        contents = [ItemContent(key, {}) for key in request.inputs]
        codes = item_codes(contents)
        factors = self.store.factors(request.questions)
        number_of = {
            factor.name: number
            for factor, number in zip(factors, request.questions, strict=True)
        }
        why = "the answer leaves the item out, or names another"
        try:
            checked = check_assignments(completion.text, factors, list(codes))
        except MalformedAnswer as error:
            checked, why = CheckedAnswer(absent=list(codes)), str(error)
            if completion.finish_reason == "length":
                why = CUT_SHORT
        for code in checked.absent:
            checked.faults[code] = dict.fromkeys(number_of, f"no usable answer: {why}")
        record = self._describe(row, request, completion)
        received = Received(record)
        for code, values in checked.values.items():
            for factor, value in values.items():
                pair = (codes[code].key, number_of[factor])
                received.answers.append((*pair, value, None))
        earlier = self.store.faults(request.inputs, request.questions)
        for code, faults in checked.faults.items():
            for factor, fault in faults.items():
                pair, fault = (codes[code].key, number_of[factor]), redact(fault)
                if earlier.get(pair, (0, ""))[0] < self.max_reasks:
                    received.faults.append((*pair, fault[:300]))
                    collected.again += 1
                else:
                    received.answers.append((*pair, [], fault[:300]))
                    collected.missing += 1
        collected.requests += 1
        collected.cost += record.cost
        return received

    def _describe(
        self, row: BatchRow, request: BatchRequest, completion: Completion
    ) -> RequestRecord:
        usage, price = completion.usage, find_price(row.model, self.prices)
        input_tokens, output_tokens = usage.input_tokens, usage.output_tokens
        if not input_tokens:
            # A server that does not count must not pass for one that costs nothing.
            input_tokens = request.expected_input
            output_tokens = TokenCounter(row.model).count(completion.text)
        cost = 0.0
        if price is not None:
            cost = price.cost(
                input_tokens, output_tokens, usage.cached_tokens, batch=True
            )
        return RequestRecord(
            model=row.model,
            answered_by=completion.model,
            prompt=row.prompt,
            schema=row.schema,
            mode=row.mode,
            items=len(request.inputs),
            factors=len(request.questions),
            expected_input=request.expected_input,
            input_tokens=input_tokens,
            cached_tokens=usage.cached_tokens,
            output_tokens=output_tokens,
            cost=cost,
            batch=row.remote,
            custom_id=request.custom_id,
        )


def _fault(entry: dict[str, Any]) -> str | None:
    """What a server says of a request that it failed at, as far as it does."""
    body = as_dict(as_dict(entry.get("response")).get("body"))
    error = as_dict(body.get("error")) or as_dict(entry.get("error"))
    message = error.get("message")
    return redact(whole_characters(str(message)))[:300] if message else None
