"""Writing answers to the store while others are on their way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from mars_pyg.factors.records import Received
from mars_pyg.factors.store import AnswerStore

T = TypeVar("T")

#: Seconds between two signs of life of a process.
_PULSE = 10.0


class Committer:
    r"""Writes to a store from one thread, so that requests do not wait for the disk.

    Answers that come while a commit is under way make up the next one together. Within
    ``async with`` the claims of the process are kept; at its end all that was received
    is in the store, and the claims are given back.

    Args:
        store: The store.
        model: The model that is asked.
        on_commit: Called, in the thread of the store, with what was stored.
            (default: :obj:`None`)
    """

    def __init__(
        self,
        store: AnswerStore,
        model: str,
        on_commit: Callable[[Received], None] | None = None,
    ) -> None:
        self.store, self.model, self.on_commit = store, model, on_commit
        self._thread = ThreadPoolExecutor(1, "store")
        self._waiting: list[tuple[Received, asyncio.Future[None]]] = []
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Committer:
        self._tasks = [
            asyncio.create_task(self._commit_forever()),
            asyncio.create_task(self._live()),
        ]
        return self

    async def __aexit__(self, *exception: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # What a cancelled task was to write is done by the thread before this.
        await self.call(self._write, [received for received, _ in self._waiting])
        await self.call(self.store.release)
        self._thread.shutdown()

    async def commit(self, received: Received) -> None:
        """Return once something is in the store."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((received, future))
        self._wake.set()
        await future

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function in the thread of the store, the caller cancelled or not."""
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._thread, function, *arguments)
        # What waits for the thread would leave its queue with a cancelled caller, and
        # an answer with it that is paid for.
        return await asyncio.shield(work)

    async def _commit_forever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            entries, self._waiting = self._waiting, []
            fault: Exception | None = None
            try:
                await self.call(self._write, [received for received, _ in entries])
            except Exception as error:
                fault = error
            for _, future in entries:
                if future.done():  # Its worker was cancelled.
                    continue
                if fault is None:
                    future.set_result(None)
                else:
                    future.set_exception(fault)

    def _write(self, entries: list[Received]) -> None:
        if not entries:
            return
        self.store.record(entries)
        if self.on_commit is not None:
            for received in entries:
                self.on_commit(received)

    async def _live(self) -> None:
        while True:
            await asyncio.sleep(_PULSE)
            await self.call(self.store.sign_of_life, self.model)
