"""Stage 2: a language model assigns factor values to the items of a catalogue."""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tqdm import tqdm

from mars_pyg.factors.asking import Asker, Job
from mars_pyg.factors.assignment_options import AssignmentOptions, AssignmentSummary
from mars_pyg.factors.budget import BudgetReached
from mars_pyg.factors.client import ChatClient
from mars_pyg.factors.committing import Committer
from mars_pyg.factors.content import ItemContent
from mars_pyg.factors.planning import AssignmentPlan, Group
from mars_pyg.factors.pricing import Price
from mars_pyg.factors.records import Claimed, Received
from mars_pyg.factors.store import AnswerStore

if TYPE_CHECKING:
    from mars_pyg.factors.retrieval import ExampleIndex

#: Passes over the catalogue that ask again for what failed in the one before.
_PASSES = 3
#: Seconds that requests on their way are waited for when a run ends early.
_DRAIN = 15.0


class AssignmentRun:
    r"""Asks a language model for the values of all items, and stores its answers.

    Items are read, claimed, asked and stored in a stream, so that memory does not grow
    with the catalogue. An answer counts once it is in the store. A run that ended for
    whatever reason goes on where it was when it is started again; so do several at
    once, which share the work.

    Args:
        plan: What is asked.
        client: Who is asked.
        store: Where the answers are kept.
        price: The price of the model, or :obj:`None`. (default: :obj:`None`)
        options: How it is asked. (default: :obj:`None`)
        examples: Where examples come from. (default: :obj:`None`)
    """

    def __init__(
        self,
        plan: AssignmentPlan,
        client: ChatClient,
        store: AnswerStore,
        price: Price | None = None,
        options: AssignmentOptions | None = None,
        examples: ExampleIndex | None = None,
    ) -> None:
        self.plan, self.client, self.store = plan, client, store
        self.options = options or AssignmentOptions()
        self.examples = examples
        learn = None if examples is None else self._learn
        self.committer = Committer(store, plan.model, learn)
        self.asker = Asker(
            plan,
            client,
            self.committer,
            price,
            self.options,
            examples,
            self._advance,
        )
        self._bar: tqdm | None = None

    @property
    def summary(self) -> AssignmentSummary:
        """What the run has done so far."""
        return self.asker.summary

    async def run(
        self, contents: Iterable[ItemContent | None], total: int | None = None
    ) -> AssignmentSummary:
        r"""Ask for all items.

        Args:
            contents: The items, which must be readable several times: a list, or what
                :meth:`~mars_pyg.factors.content.ContentReader.read` returns.
            total: The number of items, to show the time left. (default: :obj:`None`)

        Raises:
            ServiceError: If the server cannot be used. What was answered is stored.
        """
        start = time.monotonic()
        interval = 0.5 if sys.stderr.isatty() else 30.0
        with tqdm(total=total, unit="item", mininterval=interval) as self._bar:
            async with self.committer:
                try:
                    await self._passes(contents)
                except BudgetReached:
                    self.summary.stopped = "the next request may cost more than is left"
        summary = self.summary
        summary.seconds = time.monotonic() - start
        return summary

    async def _passes(self, contents: Iterable[ItemContent | None]) -> None:
        summary, useful, again = self.summary, -1, 0
        for number in itertools.count():
            busy = await self._pass(contents, first=number == 0)
            if busy:
                # Another process is at it; its claims end with it at the latest.
                await asyncio.sleep(min(0.5 * (number + 1), 5.0))
            elif summary.failed and useful != self.asker.useful and again < _PASSES:
                again += 1
            else:
                break
            useful = self.asker.useful
        done = summary.without_content + summary.answered + summary.asked
        rest = summary.items - done - summary.failed - summary.elsewhere
        # What others did meanwhile.
        summary.answered += rest
        self._advance(rest)

    async def _pass(self, contents: Iterable[ItemContent | None], first: bool) -> int:
        """Go through the catalogue once; returns how much other processes are at."""
        queue: asyncio.Queue[Job] = asyncio.Queue(self.options.concurrency)
        self.summary.failed = self.summary.elsewhere = 0
        workers = [
            asyncio.create_task(self._work(queue))
            for _ in range(self.options.concurrency)
        ]
        feeder = asyncio.create_task(self._feed(contents, queue, first))
        try:
            # Workers end by an error only, which ends the pass.
            await _first_result(feeder, workers)
            await _first_result(asyncio.create_task(queue.join()), workers)
            return feeder.result()
        except BaseException:
            await self._drain()
            raise
        finally:
            for task in (feeder, *workers):
                task.cancel()
            await asyncio.gather(feeder, *workers, return_exceptions=True)

    async def _drain(self) -> None:
        """Wait for the answers that are on their way, which are paid for."""
        self.asker.stopping = True
        deadline = time.monotonic() + _DRAIN
        while self.asker.on_the_way and time.monotonic() < deadline:
            await asyncio.sleep(0.02)

    async def _feed(
        self,
        contents: Iterable[ItemContent | None],
        queue: asyncio.Queue[Job],
        first: bool,
    ) -> int:
        """Claim what has no answer, a little ahead of the workers."""
        size = max(64, 2 * self.options.concurrency * self.plan.items_per_request)
        busy, summary = 0, self.summary
        iterator = iter(contents)
        while chunk := await asyncio.to_thread(_take, iterator, size):
            shown = [content for content in chunk if content is not None]
            jobs, claimed = await self.committer.call(self._claim, shown)
            busy += len(claimed.busy)
            summary.elsewhere += len(claimed.batched)
            if first:
                under_way = {*claimed.questions, *claimed.busy, *claimed.batched}
                # Items of equal content are asked once.
                answered = len(shown) - len(under_way)
                summary.items += len(chunk)
                summary.without_content += len(chunk) - len(shown)
                summary.answered += answered
                self._advance(len(chunk) - len(shown) + answered)
            for job in jobs:
                await queue.put(job)
        return busy

    def _claim(self, contents: Sequence[ItemContent]) -> tuple[list[Job], Claimed]:
        by_key = {content.key: content for content in contents}
        keys, questions = list(by_key), self.plan.questions
        if self.examples is not None:
            for (key, number), entry in self.store.answers(keys, questions).items():
                self.examples.add(key, self.plan.factor_of[number].name, entry[0])
        wanted = self.store.open_questions(keys, questions)
        claimed = self.store.claim(wanted, model=self.plan.model)
        earlier = self.store.faults(list(claimed.questions), questions)
        groups = self.plan.group(
            (by_key[key], numbers) for key, numbers in claimed.questions.items()
        )
        return [_make_job(group, earlier) for group in groups], claimed

    async def _work(self, queue: asyncio.Queue[Job]) -> None:
        while not self.asker.stopping:
            job = await queue.get()
            await self.asker.ask(job)
            queue.task_done()

    def _learn(self, received: Received) -> None:
        """Take answers that are stored for examples."""
        assert self.examples is not None
        for key, number, values, _ in received.answers:
            self.examples.add(key, self.plan.factor_of[number].name, values)

    def _advance(self, items: int) -> None:
        if self._bar is not None:
            summary = self.summary
            tokens = summary.input_tokens + summary.output_tokens
            cost = "" if self.asker.price is None else f"cost {summary.cost:.4f}, "
            self._bar.set_postfix_str(
                f"{cost}{tokens} tokens, {self.client.failures} repeated", refresh=False
            )
            self._bar.update(items)


async def _first_result(
    task: asyncio.Task, others: Sequence[asyncio.Task[None]]
) -> None:
    """Wait for a task, or for the error of another."""
    try:
        done, _ = await asyncio.wait(
            {task, *others}, return_when=asyncio.FIRST_COMPLETED
        )
        for entry in done:
            entry.result()
    finally:
        task.cancel()


def _take(iterator: Iterable[ItemContent | None], size: int) -> list:
    return list(itertools.islice(iterator, size))


def _make_job(group: Group, earlier: dict[tuple[bytes, int], tuple[int, str]]) -> Job:
    """Make a job that knows what was wrong with answers of earlier runs."""
    job = Job(group)
    for content in group.contents:
        for number in group.questions:
            pair = (content.key, number)
            if pair in earlier:
                job.times[pair], job.faults[pair] = earlier[pair]
    return job
