from __future__ import annotations

import asyncio
import time
from pathlib import Path

from mars_pyg.factors.committing import Committer
from mars_pyg.factors.records import Received
from mars_pyg.factors.store import AnswerStore


def test_what_waits_for_a_busy_store_is_not_lost(tmp_path: Path) -> None:
    """A run ends while an answer waits for the thread of the store."""
    store = AnswerStore(tmp_path / "s")
    key = b"k" * 16

    async def work() -> None:
        async with Committer(store, "m") as committer:
            busy = asyncio.create_task(committer.call(time.sleep, 0.5))
            await asyncio.sleep(0.05)
            received = Received(None, [(key, 1, ["wool"], None)])
            worker = asyncio.create_task(committer.commit(received))
            await asyncio.sleep(0.05)
            assert not busy.done()
            worker.cancel()

    asyncio.run(work())
    assert store.answers([key], [1]) == {(key, 1): (["wool"], None, None)}
    store.close()
