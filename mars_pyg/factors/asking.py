"""Asking for a group of items until every value is there or known to be missing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mars_pyg.factors.answers import (
    CUT_SHORT,
    ENLARGEMENTS,
    CheckedAnswer,
    MalformedAnswer,
    check_assignments,
)
from mars_pyg.factors.assignment_options import AssignmentOptions, AssignmentSummary
from mars_pyg.factors.budget import Budget
from mars_pyg.factors.client import (
    ChatClient,
    RequestRefusedError,
    RetriesExhaustedError,
    ServiceError,
)
from mars_pyg.factors.committing import Committer
from mars_pyg.factors.completion import Completion
from mars_pyg.factors.content import ItemContent
from mars_pyg.factors.images import PictureError, load_picture
from mars_pyg.factors.planning import AssignmentPlan, Group, item_codes
from mars_pyg.factors.pricing import Price
from mars_pyg.factors.records import Received, RequestRecord
from mars_pyg.factors.redaction import redact

if TYPE_CHECKING:
    from mars_pyg.factors.retrieval import ExampleIndex

#: Requests in a row without a usable answer after which a run ends.
_PATIENCE = 30

Pair = tuple[bytes, int]


@dataclass
class Job:
    """A group on its way, with what went wrong so far.

    Args:
        group: The items, and what is asked of them.
        malformed: How often the answer had not its form.
        faults: What was wrong with values, by item and question.
        times: How often values were wrong, by item and question.
    """

    group: Group
    malformed: int = 0
    faults: dict[Pair, str] = field(default_factory=dict)
    times: dict[Pair, int] = field(default_factory=dict)

    def part(
        self, contents: Sequence[ItemContent], questions: tuple[int, ...] | None = None
    ) -> Job:
        """The same for some of the items, or of the questions."""
        if questions is None:
            questions = self.group.questions
        group = Group(tuple(contents), questions)
        return Job(group, self.malformed, self.faults, self.times)


class Asker:
    r"""Asks for groups of items, and stores what comes.

    What can be used of an answer is stored at once. Values outside of the schema are
    asked for again, with what is wrong with them, and then stored as missing with the
    reason. An answer that has not its form, or not its items, is asked for again. What
    the server refuses is asked for in halves, until the item is found that it refuses.

    Args:
        plan: What is asked.
        client: Who is asked.
        committer: Where answers go.
        price: The price of the model, or :obj:`None`.
        options: How it is asked.
        examples: Where examples come from, or :obj:`None`.
        advance: Called with the number of items that are done.
    """

    def __init__(
        self,
        plan: AssignmentPlan,
        client: ChatClient,
        committer: Committer,
        price: Price | None,
        options: AssignmentOptions,
        examples: ExampleIndex | None,
        advance: Callable[[int], None],
    ) -> None:
        self.plan, self.client, self.committer = plan, client, committer
        self.price, self.options, self.examples = price, options, examples
        self.summary = AssignmentSummary()
        self.useful = 0
        self.stopping = False
        self.on_the_way = 0
        self._advance = advance
        self._in_a_row = 0
        self._budget = Budget(committer, plan.model, price, options.max_cost)

    async def ask(self, job: Job) -> None:
        """Ask for a group.

        Raises:
            BudgetReached: If the next request may cost more than is left.
            ServiceError: If the server cannot be used.
        """
        jobs = [job]
        while jobs and not self.stopping:
            job, pictures = await self._load_pictures(jobs.pop())
            if not job.group.contents:
                continue
            examples = []
            if self.examples is not None:
                examples = await asyncio.to_thread(
                    self.examples.nearest,
                    job.group.contents,
                    self.plan.factor_names(job.group.questions),
                    self.options.num_examples,
                )
            messages = self.plan.messages(job.group, pictures, examples, job.faults)
            mode = self.client.mode
            expected = self.plan.input_tokens(job.group, messages, mode)
            limit = self.options.max_output_tokens or self.plan.output_limit(job.group)
            # An answer that was cut short needs more room.
            limit <<= min(job.malformed, ENLARGEMENTS)
            reserved = await self._budget.reserve(expected, limit)
            self.on_the_way += 1
            try:
                completion = await self.client.complete(
                    messages,
                    self.plan.response_format(job.group.questions),
                    expected + self.plan.output_tokens(job.group),
                    limit,
                )
            except RequestRefusedError as error:
                jobs += await self._refused(job, str(error), None, reserved)
            except RetriesExhaustedError as error:
                await self.committer.commit(Received(None, reserved=reserved))
                await self._give_up(job, str(error))
            else:
                if completion.mode != mode:
                    # What the server takes was found out meanwhile.
                    mode = completion.mode
                    expected = self.plan.input_tokens(job.group, messages, mode)
                request = self._describe(completion, job.group, expected)
                if completion.finish_reason == "content_filter":
                    why = "the model declines to answer"
                    jobs += await self._refused(job, why, request, reserved)
                else:
                    received = Received(request, reserved=reserved)
                    jobs += await self._take(job, completion, received)
            finally:
                self.on_the_way -= 1
        self.summary.repeated = self.client.failures

    async def _take(
        self, job: Job, completion: Completion, received: Received
    ) -> list[Job]:
        """Store what can be used of an answer; returns what is to be asked again."""
        codes = item_codes(job.group.contents)
        factors = self.plan.factors(job.group.questions)
        number_of = {
            factor.name: number
            for factor, number in zip(factors, job.group.questions, strict=True)
        }
        why = "the answer leaves the item out, or names another"
        try:
            checked = check_assignments(completion.text, factors, list(codes))
        except MalformedAnswer as error:
            checked, why = CheckedAnswer(absent=list(codes)), str(error)
            if completion.finish_reason == "length":
                why = f"{CUT_SHORT}; models that think need --max-output-tokens"
        for code, values in checked.values.items():
            for name, entry in values.items():
                received.answers.append((codes[code].key, number_of[name], entry, None))
        if received.answers:
            self._in_a_row, self.useful = 0, self.useful + 1
        again: dict[tuple[int, ...], list[ItemContent]] = {}
        for code, faults in checked.faults.items():
            numbered = {number_of[name]: fault for name, fault in faults.items()}
            questions = self._judge_faults(received, job, codes[code], numbered)
            if questions:
                again.setdefault(questions, []).append(codes[code])
        absent = [codes[code] for code in checked.absent]
        tries = self.client.options.max_retries
        if completion.finish_reason == "length":
            # The room for an answer grows no more than so often.
            tries = min(tries, ENLARGEMENTS + 1)
        give_up = job.malformed >= tries and self.useful > 0
        if give_up:
            for content in absent:
                reason = f"no usable answer: {why}"
                self._set_missing(received, content, job.group.questions, reason)
            absent = []
        await self.committer.commit(received)
        self._finish(len(codes) - len(absent) - sum(map(len, again.values())))
        jobs = [job.part(contents, questions) for questions, contents in again.items()]
        if absent:
            rest = job.part(absent)
            rest.malformed += 1
            jobs.append(rest)
        if checked.absent:
            self._note_trouble(f"no usable answer: {why}")
        return jobs

    def _judge_faults(
        self,
        received: Received,
        job: Job,
        content: ItemContent,
        faults: dict[int, str],
    ) -> tuple[int, ...]:
        """Note values that cannot be used; returns the questions to ask again."""
        again = []
        for number, fault in faults.items():
            pair, fault = (content.key, number), redact(fault)
            job.times[pair] = job.times.get(pair, 0) + 1
            if job.times[pair] > self.options.max_reasks:
                reason = f"not in the schema: {fault}"
                self._set_missing(received, content, [number], reason)
            else:
                job.faults[pair] = fault
                received.faults.append((*pair, fault))
                again.append(number)
        return tuple(again)

    def _set_missing(
        self,
        received: Received,
        content: ItemContent,
        questions: Sequence[int],
        reason: str,
    ) -> None:
        self.summary.missing += len(questions)
        for number in questions:
            received.answers.append((content.key, number, [], reason[:300]))

    async def _refused(
        self, job: Job, why: str, request: RequestRecord | None, reserved: float
    ) -> list[Job]:
        """One item may be what the server refuses; the others go without it."""
        received = Received(request, reserved=reserved)
        contents = job.group.contents
        if len(contents) > 1:
            await self.committer.commit(received)
            middle = len(contents) // 2
            return [job.part(contents[:middle]), job.part(contents[middle:])]
        if self.useful:
            reason = f"refused: {why}"
            self._set_missing(received, contents[0], job.group.questions, reason)
        await self.committer.commit(received)
        if self.useful:
            self._finish(1)
            self._note_trouble(why)
        else:
            # Nothing was ever answered: the fault need not be the item's.
            await self._give_up(job, why)
        return []

    async def _give_up(self, job: Job, why: str) -> None:
        """Leave a group for the next pass or the next run."""
        self.summary.failed += len(job.group.contents)
        self.summary.fault = redact(why)
        pairs = [
            (content.key, number)
            for content in job.group.contents
            for number in job.group.questions
        ]
        await self.committer.call(self.committer.store.unclaim, pairs)
        self._note_trouble(why)

    def _note_trouble(self, why: str) -> None:
        self._in_a_row += 1
        if self._in_a_row >= _PATIENCE:
            raise ServiceError(
                f"{_PATIENCE} requests in a row brought nothing; the last: {why}. What "
                "was answered is kept: run again to go on"
            )

    def _finish(self, items: int) -> None:
        self.summary.asked += items
        self._advance(items)

    async def _load_pictures(self, job: Job) -> tuple[Job, dict[str, str]]:
        """Load the pictures of a group; items whose pictures fail leave it."""
        if not any(content.image for content in job.group.contents):
            return job, {}
        good: list[ItemContent] = []
        pictures: dict[bytes, str] = {}
        received, finished = Received(None), 0
        for content in job.group.contents:
            try:
                pictures[content.key] = await asyncio.to_thread(
                    load_picture, content.image, self.options.image_size
                )
                good.append(content)
            except PictureError as error:
                reason, finished = f"no picture: {error}", finished + 1
                self._set_missing(received, content, job.group.questions, reason)
            except OSError as error:
                await self._give_up(job.part([content]), f"no picture: {error}")
        if finished:
            await self.committer.commit(received)
            self._finish(finished)
        shown = {
            code: pictures[content.key] for code, content in item_codes(good).items()
        }
        return job.part(good), shown

    def _describe(
        self, completion: Completion, group: Group, expected: int
    ) -> RequestRecord:
        usage = completion.usage
        input_tokens, output_tokens = usage.input_tokens, usage.output_tokens
        if input_tokens:
            self._budget.learn(expected, input_tokens)
        else:
            # A server that does not count must not pass for one that costs nothing.
            input_tokens = expected
            output_tokens = self.plan.counter.count(completion.text)
        cost = 0.0
        if self.price is not None:
            cost = self.price.cost(input_tokens, output_tokens, usage.cached_tokens)
        self.summary.requests += 1
        self.summary.input_tokens += input_tokens
        self.summary.output_tokens += output_tokens
        self.summary.cost += cost
        return RequestRecord(
            model=self.plan.model,
            answered_by=completion.model,
            prompt=self.plan.request_prompt,
            schema=self.plan.schema.version,
            mode=completion.mode,
            items=len(group.contents),
            factors=len(group.questions),
            expected_input=expected,
            input_tokens=input_tokens,
            cached_tokens=usage.cached_tokens,
            output_tokens=output_tokens,
            cost=cost,
            seconds=completion.seconds,
        )
