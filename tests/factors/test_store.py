from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from loopback_runs import SCHEMA

from mars_pyg.errors import DataError
from mars_pyg.factors import Factor, FactorSchema
from mars_pyg.factors.records import Received, RequestRecord, Totals
from mars_pyg.factors.store import AnswerStore

A, B = b"a" * 16, b"b" * 16


def make_request(**columns: object) -> RequestRecord:
    values = {
        "model": "m",
        "answered_by": "m-1",
        "prompt": "1",
        "schema": "s",
        "mode": "plain",
        "items": 1,
        "factors": 2,
        "expected_input": 100,
        "input_tokens": 120,
        "cached_tokens": 20,
        "output_tokens": 10,
        "cost": 0.5,
        "seconds": 2.0,
    }
    return RequestRecord(**(values | columns))  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> AnswerStore:
    return AnswerStore(tmp_path / "s")


def test_questions_are_told_apart_by_what_they_say(store: AnswerStore) -> None:
    first = store.question_ids(SCHEMA, "m", "1")
    assert store.question_ids(SCHEMA, "m", "1") == first
    changed = SCHEMA.model_copy(deep=True)
    changed.factors[1].description = "other"
    second = store.question_ids(changed, "m", "1")
    assert [a == b for a, b in zip(first, second, strict=True)] == [True, False, True]
    renamed = SCHEMA.model_copy(update={"domain": "other things"})
    for schema, model, prompt in [
        (SCHEMA, "n", "1"),
        (SCHEMA, "m", "2"),
        (renamed, "m", "1"),
    ]:
        assert not set(store.question_ids(schema, model, prompt)) & {*first, *second}
    # Where a factor stands, and how often it was named, is no part of the question.
    counted = FactorSchema(
        domain="things",
        factors=[f.model_copy(update={"count": 3}) for f in SCHEMA.factors[::-1]],
    )
    assert store.question_ids(counted, "m", "1") == first[::-1]
    assert store.factors(first) == SCHEMA.factors


def test_an_answer_stays_and_costs_add_up(store: AnswerStore) -> None:
    store.claim({A: [1, 2], B: [1]})
    store.record([Received(make_request(), [(A, 1, ["x"], None), (A, 2, [], "why")])])
    store.record([Received(make_request(), [(A, 1, ["y"], None)])])
    assert store.answers([A, B], [1, 2]) == {
        (A, 1): (["x"], None, 1),
        (A, 2): ([], "why", 1),
    }
    assert store.open_questions([A, B], [1, 2]) == {B: [1, 2]}
    assert store.totals("m") == Totals(2, 240, 40, 20, 1.0)
    assert store.totals("n") == Totals()
    assert store.request(1)["answered_by"] == "m-1"
    assert store.experience("m", "1") == (2, 1.2, 5.0, 2.0)


def test_a_request_of_a_batch_counts_once(store: AnswerStore) -> None:
    request = make_request(batch="b", custom_id="b-1")
    for _ in range(2):
        store.record([Received(request, [(A, 1, ["x"], None)], [(A, 2, "bad")])])
    assert store.totals("m").requests == 1
    assert store.faults([A], [1, 2]) == {(A, 2): (1, "bad")}
    store.record([Received(None, [(A, 2, [], "bad")])])
    assert not store.faults([A], [1, 2])


def test_claims_are_exclusive_until_they_end(tmp_path: Path) -> None:
    first, second = AnswerStore(tmp_path / "s"), AnswerStore(tmp_path / "s")
    assert first.claim({A: [1, 2]}, model="m").questions == {A: [1, 2]}
    # Claims of one's own are no one else's, and not given twice.
    own = first.claim({A: [1, 2]}, model="m")
    assert (own.questions, own.busy) == ({}, set())
    claimed = second.claim({A: [1, 3], B: [1]}, model="m")
    assert claimed.questions == {A: [3], B: [1]}
    assert claimed.busy == {A}
    first.unclaim([(A, 1)])
    assert second.claim({A: [1, 2]}, model="m").questions == {A: [1]}
    first.close()
    assert second.claim({A: [1, 2]}, model="m").questions == {A: [2]}
    second.claim({B: [2]}, owner="batch-1")
    claimed = second.claim({B: [2]}, model="m")
    assert (claimed.questions, claimed.batched) == ({}, {B})


def test_dead_processes_hold_nothing(tmp_path: Path) -> None:
    first, second = AnswerStore(tmp_path / "s"), AnswerStore(tmp_path / "s")
    first.claim({A: [1]}, model="m")
    with first.transaction() as connection:
        # No process has this number.
        connection.execute("UPDATE owners SET process = 4194305")
    assert second.claim({A: [1]}, model="m").questions == {A: [1]}
    third = AnswerStore(tmp_path / "s")
    with third.transaction() as connection:
        connection.execute("UPDATE owners SET seen = seen - 61")
    assert third.claim({A: [1]}, model="m").questions == {A: [1]}


def test_reservations_of_all_processes_count(tmp_path: Path) -> None:
    first, second = AnswerStore(tmp_path / "s"), AnswerStore(tmp_path / "s")
    assert first.reserve("m", 0.6, 1.0) == (True, False)
    assert second.reserve("m", 0.6, 1.0) == (False, True)
    first.record([Received(make_request(cost=0.3), reserved=0.6)])
    assert second.reserve("m", 0.6, 1.0) == (True, False)
    assert first.reserve("m", 0.2, 1.0) == (False, True)
    second.release()
    assert first.reserve("m", 0.8, 1.0) == (False, False)


def test_a_file_that_another_process_makes_just_now(tmp_path: Path) -> None:
    other = sqlite3.connect(
        tmp_path / "s", isolation_level=None, check_same_thread=False
    )
    other.execute("BEGIN IMMEDIATE")
    other.execute("CREATE TABLE t (c)")
    commit = threading.Timer(0.2, lambda: other.execute("COMMIT"))
    commit.start()
    AnswerStore(tmp_path / "s").close()
    commit.join()
    other.close()


def test_a_full_disk_is_told(store: AnswerStore) -> None:
    received = Received(make_request(), [(A, 1, ["x" * 100_000], None)])
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(DataError, match="disk is full"):
        store.record([received])
    store._connection.execute("PRAGMA max_page_count = 1000")
    store.record([received])
    assert store.answers([A], [1])[A, 1] == (["x" * 100_000], None, 1)


@pytest.mark.parametrize("content", [b"no database, but long enough for one" * 9, None])
def test_a_file_that_is_no_store(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "s"
    if content is None:
        connection = sqlite3.connect(file)
        connection.execute("PRAGMA user_version = 99")
        connection.close()
    else:
        file.write_bytes(content)
    with pytest.raises(DataError) as caught:
        AnswerStore(file)
    assert caught.value.file == str(file)


def test_the_version_of_a_schema_follows_its_content() -> None:
    def version(**factor: object) -> str:
        entry = {"name": "a", "values": ["x", "y"]} | factor
        return FactorSchema(factors=[Factor(**entry)]).version  # type: ignore[arg-type]

    assert version() == version() == version(count=4)
    versions = [version(), version(name="b"), version(values=["x"])]
    versions += [version(multiple=True), version(description="d"), version(values=None)]
    assert len(set(versions)) == len(versions)
