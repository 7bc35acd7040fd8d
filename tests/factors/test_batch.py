"""Batches: submitted, collected and resumed without anything twice."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from aiohttp import web
from loopback_runs import (
    SCHEMA,
    assign,
    client_options,
    expected_values,
    make_catalogue,
    missing_reasons,
    stored_values,
)
from loopback_server import LoopbackServer

from mars_pyg.factors.assignment_options import AssignmentOptions
from mars_pyg.factors.batch import BatchOptions, BatchSubmitter
from mars_pyg.factors.batch_collect import (
    BatchCollector,
    BatchStatus,
    Collected,
    _fault,
)
from mars_pyg.factors.batch_store import BatchRow, BatchStore
from mars_pyg.factors.catalogue import ItemCatalogue
from mars_pyg.factors.client import ServiceError
from mars_pyg.factors.content import ContentReader
from mars_pyg.factors.estimate import estimate
from mars_pyg.factors.induction import InductionOptions
from mars_pyg.factors.planning import AssignmentPlan
from mars_pyg.factors.pricing import Price
from mars_pyg.factors.records import Received
from mars_pyg.factors.store import AnswerStore

PRICE = Price(input=1.0, output=2.0)


def submit(
    store: Path,
    url: str,
    catalogue: ItemCatalogue,
    items_per_request: int = 1,
    **options: Any,
) -> list[BatchRow]:
    answers = AnswerStore(store)
    plan = AssignmentPlan(SCHEMA, "m", answers, items_per_request)

    async def work() -> list[BatchRow]:
        submitter = BatchSubmitter(
            plan, client_options(url), answers, PRICE, BatchOptions(**options)
        )
        try:
            return await submitter.submit(ContentReader().read(catalogue))
        finally:
            await submitter.close()

    try:
        return asyncio.run(work())
    finally:
        answers.close()


def ask(
    store: Path, url: str, method: str, drop_lost: bool = False, **options: Any
) -> Any:
    answers = AnswerStore(store)

    async def work() -> Any:
        collector = BatchCollector(
            client_options(url), answers, {"m": PRICE}, **options
        )
        try:
            if drop_lost:
                return await collector.collect(drop_lost=True)
            return await getattr(collector, method)()
        finally:
            await collector.close()

    try:
        return asyncio.run(work())
    finally:
        answers.close()


def status(store: Path, url: str) -> list[BatchStatus]:
    return ask(store, url, "status")


def collect(store: Path, url: str, **options: Any) -> Collected:
    return ask(store, url, "collect", **options)


@pytest.mark.parametrize("items_per_request", [1, 3])
def test_submit_and_collect(tmp_path: Path, items_per_request: int) -> None:
    store, catalogue = tmp_path / "s", make_catalogue(50)
    with LoopbackServer() as server:
        rows = submit(store, server.url, catalogue, items_per_request, max_requests=20)
        sizes = [row.requests for row in rows]
        assert sizes == ([20, 20, 10] if items_per_request == 1 else [17])
        # What is in a batch is asked for by nothing else.
        assert submit(store, server.url, catalogue) == []
        summary = assign(store, catalogue, client_options(server.url))
        assert (summary.elsewhere, summary.requests) == (50, 0)
        first = collect(store, server.url)
        assert (first.batches, first.waiting) == (0, len(rows))
        states = status(store, server.url)
        assert {entry.state for entry in states} <= {"in_progress", "completed"}
        last = collect(store, server.url)
        assert (last.batches, last.requests) == (len(rows), sum(sizes))
        assert status(store, server.url) == []
        paid = server.counts.input_tokens * 1e-6 + server.counts.output_tokens * 2e-6
        assert last.cost == pytest.approx(paid / 2)
        assert assign(store, catalogue, client_options(server.url)).requests == 0
        assert set(server.counts.told.values()) == {1}
    assert stored_values(store, catalogue) == expected_values(50)
    assert not list(Path(f"{store}.batches").iterdir())


@pytest.mark.parametrize("items_per_request", [1, 3])
def test_no_file_is_longer_than_it_may_be(
    tmp_path: Path, items_per_request: int
) -> None:
    """Nor is a request left out, but for one that is too long for any file."""
    catalogue, most = make_catalogue(20), 9_000
    with LoopbackServer() as server:
        server.batches.polls = 0
        rows = submit(
            tmp_path / "s", server.url, catalogue, items_per_request, max_bytes=most
        )
        files = server.batches.files.values()
        assert len(files) == len(rows) > 2
        assert all(len(file) <= most for file in files)
        assert collect(tmp_path / "s", server.url).batches == len(rows)
        rows = submit(tmp_path / "t", server.url, make_catalogue(3), max_bytes=1)
        assert [row.requests for row in rows] == [1, 1, 1]
    assert stored_values(tmp_path / "s", catalogue) == expected_values(20)


@pytest.mark.parametrize(
    ("kind", "option"),
    [
        (AssignmentOptions, "concurrency"),
        (InductionOptions, "concurrency"),
        (BatchOptions, "max_requests"),
    ],
)
def test_no_option_is_too_small(kind: type, option: str) -> None:
    """A run without a worker would never end."""
    with pytest.raises(ValueError, match=f"'{option}' must be at least 1"):
        kind(**{option: 0})


def test_what_a_batch_does_not_answer_is_asked_again(tmp_path: Path) -> None:
    """With what was wrong; then it is missing, with the reason."""
    store, catalogue = tmp_path / "s", make_catalogue(10)
    with LoopbackServer() as server:
        batches = server.batches
        batches.polls = 0
        batches.failing = {1}
        batches.spoiled = {2: "outside_schema", 3: "truncated_json", 4: "wrong_ids"}
        submit(store, server.url, catalogue)
        done = collect(store, server.url)
        assert (done.failed, done.again, done.missing) == (1, 1 + 3 + 3, 0)
        batches.failing, batches.spoiled = set(), {1: "outside_schema"}
        (row,) = submit(store, server.url, catalogue)
        assert row.requests == 4
        sent = list(batches.files.values())[-1].decode().splitlines()
        batches.polls = 0
        complaints = [line for line in sent if "cannot be used" in line]
        assert len(complaints) == 3
        done = collect(store, server.url, max_reasks=1)
        assert (done.again, done.missing) == (0, 1)
        assert submit(store, server.url, catalogue) == []
    (reason,) = missing_reasons(store)
    assert "no such value" in reason
    lost = expected_values(10) - stored_values(store, catalogue)
    assert len(lost) == 1


def test_a_batch_is_created_once(tmp_path: Path) -> None:
    """The connection breaks after the server has created it."""
    store, catalogue = tmp_path / "s", make_catalogue(5)
    with LoopbackServer() as server:
        server.batches.cut_after_create = True
        (row,) = submit(store, server.url, catalogue)
        assert row.remote == "batch_0"
        assert len(server.batches.batches) == 1


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("step", ["add", "upload", "create", "note"])
def test_an_interrupted_submit_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    store, catalogue = tmp_path / "s", make_catalogue(30)

    def fail(*arguments: Any, **options: Any) -> Any:
        raise Killed

    async def fail_later(*arguments: Any, **options: Any) -> Any:
        raise Killed

    with LoopbackServer() as server:
        with monkeypatch.context() as patch:
            # A process that is killed gives nothing back.
            patch.setattr(AnswerStore, "close", lambda self: None)
            if step == "add":
                patch.setattr("mars_pyg.factors.batch.BatchStore.add", fail)
            elif step == "upload":
                patch.setattr("openai.resources.files.AsyncFiles.create", fail_later)
            elif step == "create":
                patch.setattr(BatchSubmitter, "_create", fail_later)
            else:
                real = BatchSubmitter._create

                async def create(self: BatchSubmitter, *rest: Any) -> str:
                    await real(self, *rest)
                    raise Killed

                patch.setattr(BatchSubmitter, "_create", create)
            with pytest.raises(Killed):
                submit(store, server.url, catalogue, max_requests=20)
        answers = AnswerStore(store)
        with answers.transaction() as connection:
            connection.execute("UPDATE owners SET process = 4194305")
        answers.close()
        rows = submit(store, server.url, catalogue, max_requests=20)
        assert [row.requests for row in rows] == [20, 10]
        assert len(server.batches.batches) == 2
        server.batches.polls = 0
        for _ in range(2):
            collect(store, server.url)
        assert set(server.counts.told.values()) == {1}
    assert stored_values(store, catalogue) == expected_values(30)


def test_an_interrupted_collect_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers count once, and so do their costs and faults."""
    store, catalogue = tmp_path / "s", make_catalogue(30)

    def fail(*arguments: Any) -> None:
        raise Killed

    with LoopbackServer() as server:
        server.batches.polls = 0
        server.batches.spoiled = {0: "outside_schema"}
        submit(store, server.url, catalogue)
        with monkeypatch.context() as patch:
            patch.setattr("mars_pyg.factors.batch_collect.BatchStore.drop", fail)
            with pytest.raises(Killed):
                collect(store, server.url)
        collect(store, server.url)
    answers = AnswerStore(store)
    totals = answers.totals("m")
    with answers.transaction() as connection:
        times = connection.execute("SELECT times FROM faults").fetchall()
    answers.close()
    assert totals.requests == 30
    assert totals.output_tokens == server.counts.output_tokens
    assert times == [(1,)]


def test_a_batch_that_is_gone_blocks_nothing(tmp_path: Path) -> None:
    """Others are collected, and what was in it can be asked for again."""
    store, catalogue = tmp_path / "s", make_catalogue(30)
    with LoopbackServer() as server:
        server.batches.polls = 0
        submit(store, server.url, catalogue, max_requests=20)
        del server.batches.batches["batch_0"]
        states = [entry.state for entry in status(store, server.url)]
        assert states == ["not known to the server", "completed"]
        done = collect(store, server.url)
        assert (done.lost, done.batches, done.requests) == (1, 1, 10)
        # It may be there for another key, and stays until it is said to be lost.
        assert submit(store, server.url, catalogue) == []
        assert collect(store, server.url, drop_lost=True).lost == 1
        assert status(store, server.url) == []
        (row,) = submit(store, server.url, catalogue)
        assert row.requests == 20
        collect(store, server.url)
    assert stored_values(store, catalogue) == expected_values(30)
    assert not list(Path(f"{store}.batches").iterdir())


def test_a_file_that_is_gone_blocks_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    store, catalogue = tmp_path / "s", make_catalogue(30)
    with LoopbackServer() as server:
        server.batches.polls = 0
        submit(store, server.url, catalogue, max_requests=20)
        status(store, server.url)
        name = server.batches.batches["batch_0"]["output_file_id"]
        del server.batches.files[name]
        done = collect(store, server.url)
        assert (done.batches, done.requests) == (2, 10)
        assert f"no longer has its file {name}" in capfd.readouterr().out
        assert [row.requests for row in submit(store, server.url, catalogue)] == [20]


def test_a_server_without_batches_has_lost_none(tmp_path: Path) -> None:
    """As at a wrong address: what is paid for elsewhere is not forgotten."""
    store, catalogue = tmp_path / "s", make_catalogue(5)
    with LoopbackServer() as server:
        server.batches.polls = 0
        submit(store, server.url, catalogue)
        server.batches.absent = True
        with pytest.raises(ServiceError, match="404"):
            collect(store, server.url)
        server.batches.absent = False
        assert collect(store, server.url).requests == 5


def test_a_fault_of_one_batch_comes_after_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, catalogue = tmp_path / "s", make_catalogue(30)
    real = BatchCollector._collect

    async def fail(self: BatchCollector, row: BatchRow, *rest: Any) -> int:
        if row.remote == "batch_0":
            raise ServiceError("not today")
        return await real(self, row, *rest)

    with LoopbackServer() as server:
        server.batches.polls = 0
        submit(store, server.url, catalogue, max_requests=20)
        with monkeypatch.context() as patch:
            patch.setattr(BatchCollector, "_collect", fail)
            with pytest.raises(ServiceError, match="not today"):
                collect(store, server.url)
        assert len(stored_values(store, catalogue)) > 0
        assert [entry.row.remote for entry in status(store, server.url)] == ["batch_0"]
        collect(store, server.url)
    assert stored_values(store, catalogue) == expected_values(30)


def test_the_budget_bounds_batches(tmp_path: Path) -> None:
    store, catalogue = tmp_path / "s", make_catalogue(50)
    with LoopbackServer() as server:
        server.batches.polls = 0
        rows = submit(store, server.url, catalogue, max_cost=0.01)
        assert 0 < sum(row.requests for row in rows) < 50
        assert sum(row.reserved for row in rows) <= 0.01
        assert submit(store, server.url, catalogue, max_cost=0.01) == []
        # What it reserved counts for runs, too.
        options = client_options(server.url)
        summary = assign(store, catalogue, options, max_cost=rows[0].reserved)
        assert summary.requests == 0
        assert collect(store, server.url).cost <= 0.01
        assert assign(store, catalogue, options).complete
    assert stored_values(store, catalogue) == expected_values(50)


def test_an_upload_that_takes_long_is_not_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("batch", "store"):
        monkeypatch.setattr(f"mars_pyg.factors.{module}.LEASE", 0.6)
    store, catalogue = tmp_path / "s", make_catalogue(6)
    server = LoopbackServer()
    upload, begun = server.batches.upload, threading.Event()

    async def slowly(request: Any) -> Any:
        begun.set()
        await asyncio.sleep(2)
        return await upload(request)

    monkeypatch.setattr(server.batches, "upload", slowly)
    with server, ThreadPoolExecutor(1) as pool:
        first = pool.submit(submit, store, server.url, catalogue)
        assert begun.wait(30)
        time.sleep(1)
        assert submit(store, server.url, catalogue) == []
        assert [row.remote for row in first.result()] == ["batch_0"]
        assert len(server.batches.batches) == 1


def test_two_that_collect_at_once_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, catalogue = tmp_path / "s", make_catalogue(30)
    monkeypatch.setattr("mars_pyg.factors.batch_collect._CHUNK", 10)
    record, is_second = AnswerStore.record, []

    def slowly(self: AnswerStore, received: Any) -> None:
        record(self, received)
        if not is_second:
            # Between two chunks of the first, another one collects.
            is_second.append(True)
            with ThreadPoolExecutor(1) as pool:
                fault = pool.submit(collect, store, server.url).exception()
            assert "gave 10 of 30" in str(fault)

    with LoopbackServer() as server:
        server.batches.polls = 0
        submit(store, server.url, catalogue)
        download, number = server.batches.files, []
        monkeypatch.setattr(AnswerStore, "record", slowly)
        monkeypatch.setattr(server.batches, "files", Shortened(download, number))
        collected = collect(store, server.url)
    assert collected.batches == 1
    assert stored_values(store, catalogue) == expected_values(30)


class Shortened(dict):
    """Files of which the second download has ten lines."""

    def __init__(self, files: dict[str, bytes], number: list[int]) -> None:
        super().__init__(files)
        self.number = number

    def __getitem__(self, name: str) -> bytes:
        content: bytes = super().__getitem__(name)
        if b"status_code" in content:
            self.number.append(1)
            if len(self.number) == 2:
                return b"\n".join(content.splitlines()[:10])
        return content


def test_a_server_without_batches_blocks_nothing(tmp_path: Path) -> None:
    store, catalogue = tmp_path / "s", make_catalogue(6)
    server = LoopbackServer()

    async def nowhere(request: web.Request) -> web.Response:
        return web.json_response({"error": {"message": "Not Found"}}, status=404)

    server.batches.upload = nowhere  # type: ignore[method-assign, assignment]
    with server:
        with pytest.raises(ServiceError, match=r"takes no batches.*'assign'"):
            submit(store, server.url, catalogue)
        summary = assign(store, catalogue, client_options(server.url))
    assert (summary.elsewhere, summary.complete) == (0, True)


def test_a_batch_that_never_arrived_can_be_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, catalogue = tmp_path / "s", make_catalogue(6)

    async def stop(self: BatchSubmitter, row: BatchRow) -> None:
        raise ServiceError("no server today")

    with LoopbackServer() as server:
        with monkeypatch.context() as patch:
            patch.setattr(BatchSubmitter, "_send", stop)
            with pytest.raises(ServiceError, match="today"):
                submit(store, server.url, catalogue)
        # Its items are neither asked for nor counted.
        answers = AnswerStore(store)
        plan = AssignmentPlan(SCHEMA, "m", answers, 1)
        entry = estimate(plan, answers, ContentReader().read(catalogue), PRICE, 4)
        answers.close()
        assert (entry.requests, entry.answered) == (0, 6)
        assert collect(store, server.url).waiting == 1
        collected = collect(store, server.url, drop_lost=True)
        assert (collected.waiting, status(store, server.url)) == (0, [])
        assert assign(store, catalogue, client_options(server.url)).complete


def test_runs_batches_and_models_share_one_budget(tmp_path: Path) -> None:
    store, catalogue = tmp_path / "s", make_catalogue(10)
    with LoopbackServer() as server:
        other = AnswerStore(store)
        assert other.reserve("another model", 1.0, 1.0) == (True, False)
        assert submit(store, server.url, catalogue, max_cost=1.0) == []
        other.close()
        rows = submit(store, server.url, catalogue, max_cost=1.0)
        assert [row.requests for row in rows] == [10]
        answers = AnswerStore(store)
        # What was set aside is the batch's, and no longer the process's.
        assert answers.cost() == pytest.approx(rows[0].reserved)
        assert answers.reserve("m", 1.0 - rows[0].reserved - 1e-9, 1.0)[0]
        answers.close()


def test_an_answer_that_is_cut_short_gets_more_room(tmp_path: Path) -> None:
    store, catalogue = tmp_path / "s", make_catalogue(4)
    limits = []
    with LoopbackServer() as server:
        server.batches.polls = 0
        complete = server.completion

        def cut(body: dict[str, Any], fault: str | None) -> dict[str, Any]:
            answer = complete(body, fault)
            limit = body.get("max_completion_tokens") or body["max_tokens"]
            limits.append(limit)
            if limit < 2 * min(limits):
                answer["choices"][0]["finish_reason"] = "length"
                answer["choices"][0]["message"]["content"] = '{"items": ['
            return answer

        server.completion = cut  # type: ignore[method-assign]
        submit(store, server.url, catalogue)
        first = collect(store, server.url)
        assert (first.again > 0, first.missing) == (True, 0)
        submit(store, server.url, catalogue)
        assert collect(store, server.url).again == 0
    assert max(limits) == 2 * min(limits)
    assert stored_values(store, catalogue) == expected_values(4)


def test_items_that_lack_different_answers_keep_to_the_limit(tmp_path: Path) -> None:
    """They are not asked together, so that more requests are needed than usual."""
    store, catalogue = tmp_path / "s", make_catalogue(7)
    answers = AnswerStore(store)
    plan = AssignmentPlan(SCHEMA, "m", answers, 3)
    received = Received(None)
    for number, content in enumerate(ContentReader().read(catalogue), start=1):
        assert content is not None
        received.answers += [
            (content.key, question, [], None)
            for bit, question in enumerate(plan.questions)
            if not number >> bit & 1
        ]
    answers.record([received])
    answers.close()
    with LoopbackServer() as server:
        rows = submit(store, server.url, catalogue, 3, max_requests=4)
    assert [row.requests for row in rows] == [4, 3]


def test_a_server_that_does_not_count_is_not_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "s"
    with LoopbackServer() as server:
        complete = server.completion
        monkeypatch.setattr(
            server, "completion", lambda *asked: complete(*asked) | {"usage": None}
        )
        server.batches.polls = 0
        submit(store, server.url, make_catalogue(2))
        assert collect(store, server.url).cost > 0


def test_an_answer_that_is_none_is_asked_again(tmp_path: Path) -> None:
    store, catalogue = tmp_path / "s", make_catalogue(3)
    with LoopbackServer() as server:
        server.batches.polls = 0
        submit(store, server.url, catalogue)
        status(store, server.url)
        name = server.batches.batches["batch_0"]["output_file_id"]
        lines = server.batches.files[name].splitlines()
        entry = json.loads(lines[1]) | {"response": "overloaded"}
        lines[1] = json.dumps(entry).encode()
        server.batches.files[name] = b"\r\n".join(lines)
        done = collect(store, server.url)
        assert (done.batches, done.requests, done.failed) == (1, 2, 1)
        assert [row.requests for row in submit(store, server.url, catalogue)] == [1]


def test_a_store_that_was_moved_without_its_files_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, catalogue = tmp_path / "s", make_catalogue(5)
    with LoopbackServer() as server:
        server.batches.polls = 0
        with monkeypatch.context() as patch:
            patch.setattr(BatchSubmitter, "_upload", Mock(side_effect=ServiceError))
            with pytest.raises(ServiceError):
                submit(store, server.url, catalogue)
        store = store.rename(tmp_path / "t")
        (row,) = submit(store, server.url, catalogue)
        assert row.requests == 5
        store = store.rename(tmp_path / "u")
        assert collect(store, server.url).requests == 5
    assert stored_values(store, catalogue) == expected_values(5)


def test_pages_of_another_server_are_told(tmp_path: Path) -> None:
    store, catalogue = tmp_path / "s", make_catalogue(3)
    with LoopbackServer() as server:
        pages = server.url.replace("/v1", "/page")
        with pytest.raises(ServiceError, match="most end in /v1"):
            submit(store, pages, catalogue)
        submit(store, server.url, catalogue)
        for method in (status, collect):
            with pytest.raises(ServiceError, match="most end in /v1"):
                method(store, pages)
        server.batches.batches["batch_0"]["polls"] = 0
        assert collect(store, server.url).requests == 3


@pytest.mark.parametrize("call", [("POST", "/v1/files"), ("POST", "/v1/batches")])
def test_half_a_body_creates_no_second_batch(
    tmp_path: Path, call: tuple[str, str]
) -> None:
    store, catalogue = tmp_path / "s", make_catalogue(3)
    with LoopbackServer() as server:
        server.batches.halved = call
        if call[1] == "/v1/files":
            with pytest.raises(ServiceError, match="is not json"):
                submit(store, server.url, catalogue)
            server.batches.halved = None
        assert [row.remote for row in submit(store, server.url, catalogue)] == [
            "batch_0"
        ]
        server.batches.halved = ("GET", "/v1/batches")
        for method in (status, collect):
            with pytest.raises(ServiceError, match="is not json"):
                method(store, server.url)
        server.batches.halved = None
        server.batches.batches["batch_0"]["polls"] = 0
        assert collect(store, server.url).requests == 3
        assert len(server.batches.batches) == 1


def test_a_batch_may_be_dropped_by_two_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = AnswerStore(tmp_path / "s")
    batches = BatchStore(answers)
    name = batches.begin("m", "plain", "1", "v")
    monkeypatch.setattr(Path, "glob", lambda self, _: [self / "gone"])
    batches.drop(name)
    assert batches.rows() == []
    answers.close()


def test_a_download_that_breaks_off_is_begun_anew(tmp_path: Path) -> None:
    store, catalogue = tmp_path / "s", make_catalogue(3)
    with LoopbackServer() as server:
        server.batches.polls = 0
        submit(store, server.url, catalogue)
        server.batches.cut_download = True
        with pytest.raises(ServiceError, match="broke off"):
            collect(store, server.url)
        server.batches.cut_download = False
        assert collect(store, server.url).requests == 3


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ({"response": {"body": {"error": {"message": "too long"}}}}, "too long"),
        ({"response": None, "error": {"message": "expired"}}, "expired"),
        ({"response": {"body": "<html>"}, "error": None}, None),
        ({"error": "no"}, None),
    ],
)
def test_what_a_server_says_of_a_request(entry: Any, fault: str | None) -> None:
    """OpenAI says it in the answer where the model refuses, else beside it."""
    assert _fault(entry) == fault
