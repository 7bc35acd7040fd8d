"""Stage 2 by the batch API: cheaper, and within a day. How batches are submitted."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO

from mars_pyg.factors.answers import CUT_SHORT, ENLARGEMENTS
from mars_pyg.factors.batch_store import BatchRequest, BatchRow, BatchStore
from mars_pyg.factors.client import (
    BROKEN_BODY,
    ClientOptions,
    ServiceError,
    check_answer,
    explained,
    make_openai,
    request_parameters,
)
from mars_pyg.factors.content import ItemContent
from mars_pyg.factors.images import PictureError, load_picture
from mars_pyg.factors.option_bounds import check_least
from mars_pyg.factors.planning import AssignmentPlan, Group, item_codes
from mars_pyg.factors.pricing import Price
from mars_pyg.factors.records import Received
from mars_pyg.factors.store import LEASE, AnswerStore

_CHUNK = 200
#: What the name of a batch is kept under in the server's metadata.
_METADATA = "mars_pyg"


#: A request, its line in the file, and what it may cost.
_Made = tuple[BatchRequest, bytes, float]


@dataclass(frozen=True)
class BatchOptions:
    r"""How batches are made.

    Args:
        max_requests: Most requests of a batch; servers have their own limit.
            (default: :obj:`50_000`)
        max_bytes: Most bytes of a batch's file. (default: :obj:`190_000_000`)
        max_cost: What all requests on the store may cost, those of batches
            under way included; :obj:`None` for no limit. (default: :obj:`None`)
        max_output_tokens: Limit of an answer's tokens; :obj:`None` for twice what the
            longest answer needs. (default: :obj:`None`)
        image_size: Longest side of pictures in pixels. (default: :obj:`512`)

    Raises:
        ValueError: If one is too small.
    """

    max_requests: int = 50_000
    max_bytes: int = 190_000_000
    max_cost: float | None = None
    max_output_tokens: int | None = None
    image_size: int = 512

    def __post_init__(self) -> None:
        check_least(
            self,
            max_requests=1,
            max_bytes=1,
            max_cost=0,
            max_output_tokens=1,
            image_size=1,
        )


class BatchSubmitter:
    r"""Submits what is to be asked of a catalogue as batches.

    What is submitted is claimed in the name of its batch, so that neither another batch
    nor a run asks for it meanwhile. Every step is written to the store before and after
    it is done, so that an interrupted command goes on when it is given again, and no
    batch is created twice.

    Args:
        plan: What is asked.
        client: How the server is asked.
        store: Where the answers are kept.
        price: The price of the model, or :obj:`None`. (default: :obj:`None`)
        options: How batches are made. (default: :obj:`None`)
    """

    def __init__(
        self,
        plan: AssignmentPlan,
        client: ClientOptions,
        store: AnswerStore,
        price: Price | None = None,
        options: BatchOptions | None = None,
    ) -> None:
        self.plan, self.client, self.store = plan, client, store
        self.price, self.options = price, options or BatchOptions()
        self.batches = BatchStore(store)
        self.mode = client.mode or "json_schema"
        #: Whether the budget has ended the last call.
        self.stopped = False
        #: Contents that are not asked for, as their pictures could not be had now.
        self.left_out: set[bytes] = set()
        self._chunk = min(_CHUNK, self.options.max_requests)
        self._openai = make_openai(client, max_retries=client.max_retries)
        self._seen = -LEASE

    async def close(self) -> None:
        """Close the connections."""
        await self._openai.close()

    async def submit(self, contents: Iterable[ItemContent | None]) -> list[BatchRow]:
        """Submit what has no answer and is in no batch.

        Returns:
            The batches that are submitted now, those of an interrupted call included.

        Raises:
            ServiceError: If the server cannot be used. What is written is submitted by
                the next call.
        """
        self.stopped, self.left_out = False, set()
        names = []
        for row in self.batches.adopt(self.plan.model):
            await self._send_alive(row)
            names.append(row.id)
        for name in self._write_batches(contents):
            row = next(row for row in self.batches.rows() if row.id == name)
            await self._send_alive(row)
            names.append(name)
        return [row for row in self.batches.rows() if row.id in names]

    async def _send_alive(self, row: BatchRow) -> None:
        """Send a batch, however long it takes, without passing for dead."""

        async def live() -> None:
            while True:
                self._live()
                await asyncio.sleep(LEASE / 6)

        beat = asyncio.create_task(live())
        try:
            await self._send(row)
        finally:
            beat.cancel()

    def _live(self) -> None:
        """Give a sign of life, if the last one is some time ago."""
        if time.monotonic() - self._seen > LEASE / 6:
            self.store.sign_of_life(self.plan.model)
            self._seen = time.monotonic()

    def _write_batches(self, contents: Iterable[ItemContent | None]) -> Iterator[str]:
        """Write the files of batches, one after the other."""
        groups = self._groups(contents)
        waiting = next(groups, None)
        while waiting is not None:
            plan = self.plan
            name = self.batches.begin(
                plan.model, self.mode, plan.request_prompt, plan.schema.version
            )
            with open(self.batches.file(name), "wb") as stream:
                waiting = self._fill(name, stream, waiting, groups)
            row = next(row for row in self.batches.rows() if row.id == name)
            if not row.requests:
                # All of it was claimed by others meanwhile, or is beyond the budget.
                self.batches.drop(name)
                continue
            self.batches.set(name, state="written")
            yield name

    def _groups(self, contents: Iterable[ItemContent | None]) -> Iterator[list[Group]]:
        """Go through the catalogue; yields groups in chunks."""
        iterator = iter(contents)
        size = self._chunk * self.plan.items_per_request
        while chunk := list(itertools.islice(iterator, size)):
            by_key = {content.key: content for content in chunk if content is not None}
            wanted = self.store.open_questions(list(by_key), self.plan.questions)
            pairs = ((by_key[key], numbers) for key, numbers in wanted.items())
            groups = self.plan.group(pairs)
            # Items that lack different answers make more groups.
            while part := list(itertools.islice(groups, self._chunk)):
                yield part

    def _fill(
        self,
        name: str,
        stream: IO[bytes],
        waiting: list[Group],
        groups: Iterator[list[Group]],
    ) -> list[Group] | None:
        """Fill a batch; returns what comes after it, or nothing at the end."""
        number, size, count = itertools.count(), 0, 0
        while True:
            self._live()
            contents = {c.key: c for group in waiting for c in group.contents}
            wanted = {
                content.key: list(group.questions)
                for group in waiting
                for content in group.contents
            }
            claimed = self.store.claim(wanted, owner=name).questions
            pairs = ((contents[key], numbers) for key, numbers in claimed.items())
            requests: list[BatchRequest] = []
            reserved, written = 0.0, 0
            names = (f"{name}-{place}" for place in number)
            room = self.options.max_bytes - size
            made, rest = self._make_fitting(names, self.plan.group(pairs), room, count)
            for request, line, cost in self._affordable(made):
                stream.write(line)
                requests.append(request)
                reserved, written = reserved + cost, written + len(line)
            stream.flush()
            held = 0.0 if self.options.max_cost is None else reserved
            self.batches.add(name, requests, reserved, held)
            self._unclaim(name, claimed, requests)
            size, count = size + written, count + len(requests)
            if rest and not self.stopped:
                return rest
            following = None if self.stopped else next(groups, None)
            # A chunk that may come is as long as this one.
            full = size + 1.5 * written > self.options.max_bytes
            if following is None or full:
                return following
            if count + self._chunk > self.options.max_requests:
                return following
            waiting = following

    def _unclaim(
        self, name: str, claimed: dict[bytes, list[int]], requests: list[BatchRequest]
    ) -> None:
        """Give back what was claimed and is in no request."""
        asked = {
            (key, question)
            for request in requests
            for key in request.inputs
            for question in request.questions
        }
        pairs = {(key, n) for key, numbers in claimed.items() for n in numbers}
        self.store.unclaim(sorted(pairs - asked), owner=name)

    def _affordable(self, made: list[_Made]) -> list[_Made]:
        """The first requests that the budget has, set aside for now."""
        budget, model = self.options.max_cost, self.plan.model
        costs = [cost for _, _, cost in made]
        if budget is None or self.store.reserve(model, sum(costs), budget)[0]:
            return made
        held = itertools.takewhile(
            lambda cost: self.store.reserve(model, cost, budget)[0], costs
        )
        number = sum(1 for _ in held)
        self.stopped = number < len(made)
        return made[:number]

    def _make_fitting(
        self, names: Iterator[str], groups: Iterable[Group], room: int, count: int
    ) -> tuple[list[_Made], list[Group]]:
        """Make requests while there is room, and tell for what there is none.

        The first request of a batch, which has ``count`` so far, always has it.
        """
        made: list[_Made] = []
        iterator = iter(groups)
        for group in iterator:
            entry = self._make(next(names), group)
            if entry is None:
                continue
            room -= len(entry[1])
            if room < 0 and (made or count):
                return made, [group, *iterator]
            made.append(entry)
        return made, []

    def _make(self, custom_id: str, group: Group) -> _Made | None:
        """Make a request, its line, and what it may cost."""
        group, pictures = self._load_pictures(group)
        if not group.contents:
            return None
        keys = [content.key for content in group.contents]
        earlier = self.store.faults(keys, group.questions)
        faults = {pair: fault for pair, (_, fault) in earlier.items()}
        messages = self.plan.messages(group, pictures, faults=faults)
        expected = self.plan.input_tokens(group, messages, self.mode)
        limit = self.options.max_output_tokens or self.plan.output_limit(group)
        # An answer that was cut short needs more room.
        short = [n for n, fault in earlier.values() if CUT_SHORT in fault]
        limit <<= min(max(short, default=0), ENLARGEMENTS)
        body = request_parameters(
            self.client,
            self.mode,
            messages,
            self.plan.response_format(group.questions),
            limit,
        )
        line = {
            "custom_id": custom_id,
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": body,
        }
        cost = 0.0
        if self.price is not None:
            cost = self.price.cost(1.3 * expected, limit, batch=True)
        request = BatchRequest(custom_id, tuple(keys), group.questions, expected)
        return request, (json.dumps(line) + "\n").encode(), cost

    def _load_pictures(self, group: Group) -> tuple[Group, dict[str, str]]:
        """Load the pictures of a group; items whose pictures fail leave it."""
        good: list[ItemContent] = []
        pictures: dict[bytes, str] = {}
        for content in group.contents:
            self._live()
            try:
                if content.image:
                    pictures[content.key] = load_picture(
                        content.image, self.options.image_size
                    )
                good.append(content)
                self.left_out.discard(content.key)
            except PictureError as error:
                reason = f"no picture: {error}"[:300]
                received = Received(None)
                for question in group.questions:
                    received.answers.append((content.key, question, [], reason))
                self.store.record([received])
            except OSError:
                self.left_out.add(content.key)
        codes = item_codes(good)
        shown = {
            code: pictures[content.key] for code, content in codes.items() if pictures
        }
        return Group(tuple(good), group.questions), shown

    async def _send(self, row: BatchRow) -> None:
        """Upload the file of a batch, and create it, unless either is done."""
        if not self.batches.is_own(row.id):
            return  # Another process has taken it over.

        input_file, remote = row.input_file, None
        with explained():
            if input_file is None:
                input_file = await self._upload(row)
                if not self.batches.is_own(row.id):
                    return
                self.batches.set(row.id, state="uploaded", input_file=input_file)
            else:
                # The call before may have created it, and ended before it was noted.
                remote = await self._find(row.id)
            if remote is None:
                remote = await self._create(row.id, input_file)
        self.batches.set(row.id, state="submitted", remote=remote)

    async def _upload(self, row: BatchRow) -> str:
        import openai

        try:
            with open(self.batches.file(row.id), "rb") as stream:
                upload = await self._openai.files.create(file=stream, purpose="batch")
                check_answer(upload)
        except openai.NotFoundError:
            # Its items would wait for it for ever.
            self.batches.drop(row.id)
            raise ServiceError(
                "the server takes no batches: it has no address for files; ask one by "
                "one with 'assign', or give another --base-url"
            ) from None
        return upload.id

    async def _create(self, name: str, input_file: str) -> str:
        import openai

        for attempt in itertools.count():
            try:
                # Sent again by itself, it could create a second batch.
                client = self._openai.with_options(max_retries=0)
                batch = await client.batches.create(
                    input_file_id=input_file,
                    endpoint="/v1/chat/completions",
                    completion_window="24h",
                    metadata={_METADATA: name},
                )
                check_answer(batch)
                return batch.id
            except (
                openai.APIConnectionError,
                openai.InternalServerError,
                *BROKEN_BODY,
            ):
                # It may be there all the same.
                found = await self._find(name)
                if found is not None:
                    return found
                if attempt >= self.client.max_retries:
                    raise
                await asyncio.sleep(self.client.backoff_base * 2**attempt)
        raise AssertionError

    async def _find(self, name: str) -> str | None:
        """Look for a batch by its name."""
        seen = 0
        async for batch in self._openai.batches.list(limit=100):
            if (batch.metadata or {}).get(_METADATA) == name:
                return batch.id
            seen += 1
            if seen >= 1000:
                break
        return None
