"""What a store of answers holds: its tables, and what is written into them."""

from __future__ import annotations

from dataclasses import dataclass, field

#: The layout of the tables; raised when older files cannot be used any more.
LAYOUT = 1
TABLES = """
CREATE TABLE IF NOT EXISTS questions (
    id INTEGER PRIMARY KEY, model TEXT, modality TEXT, prompt TEXT, version TEXT,
    factor TEXT, UNIQUE (model, modality, prompt, version));
CREATE TABLE IF NOT EXISTS requests (
    id INTEGER PRIMARY KEY, date TEXT, model TEXT, answered_by TEXT, prompt TEXT,
    schema TEXT, mode TEXT, batch TEXT, custom_id TEXT UNIQUE, items INTEGER,
    factors INTEGER, expected_input INTEGER, input_tokens INTEGER,
    cached_tokens INTEGER, output_tokens INTEGER, cost REAL, seconds REAL);
CREATE TABLE IF NOT EXISTS answers (
    input BLOB, question INTEGER, value TEXT, reason TEXT, request INTEGER,
    PRIMARY KEY (input, question)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS claims (
    input BLOB, question INTEGER, owner TEXT, PRIMARY KEY (input, question))
    WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS claims_of_owner ON claims (owner);
CREATE TABLE IF NOT EXISTS owners (
    id TEXT PRIMARY KEY, host TEXT, process INTEGER, seen REAL, model TEXT,
    reserved REAL);
CREATE TABLE IF NOT EXISTS totals (
    model TEXT PRIMARY KEY, requests INTEGER, input_tokens INTEGER,
    cached_tokens INTEGER, output_tokens INTEGER, cost REAL);
CREATE TABLE IF NOT EXISTS documents (key BLOB PRIMARY KEY, kind TEXT, text TEXT);
CREATE TABLE IF NOT EXISTS faults (
    input BLOB, question INTEGER, times INTEGER, fault TEXT,
    PRIMARY KEY (input, question)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batches (
    id TEXT PRIMARY KEY, process TEXT, state TEXT, model TEXT, mode TEXT, prompt TEXT,
    schema TEXT, date TEXT, requests INTEGER, reserved REAL, input_file TEXT,
    remote TEXT);
CREATE TABLE IF NOT EXISTS batch_requests (
    custom_id TEXT PRIMARY KEY, batch TEXT, inputs TEXT, questions TEXT,
    expected_input INTEGER);
CREATE INDEX IF NOT EXISTS requests_of_batch ON batch_requests (batch);
"""


@dataclass(frozen=True)
class RequestRecord:
    """One request that was answered: what a value's provenance refers to."""

    model: str
    answered_by: str
    prompt: str
    schema: str
    mode: str
    items: int
    factors: int
    expected_input: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost: float
    seconds: float = 0.0
    batch: str | None = None
    custom_id: str | None = None


@dataclass
class Received:
    """A request with the answers that it brought.

    Args:
        request: The request.
        answers: Key of the content, number of the question, values (none if they
            cannot be told) and the reason why there are none.
        faults: Key of the content, number of the question, and what was wrong.
        reserved: What was set aside for the request, which is free again.
    """

    request: RequestRecord | None
    answers: list[tuple[bytes, int, list[str], str | None]] = field(
        default_factory=list
    )
    faults: list[tuple[bytes, int, str]] = field(default_factory=list)
    reserved: float = 0.0


@dataclass(frozen=True)
class Totals:
    """What was asked of a model so far, over all runs on a store."""

    requests: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0


@dataclass
class Claimed:
    """What could be claimed.

    Args:
        questions: The questions that are claimed now, by content.
        busy: Contents of which other processes have claimed something.
        batched: Contents of which batches have claimed something.
    """

    questions: dict[bytes, list[int]] = field(default_factory=dict)
    busy: set[bytes] = field(default_factory=set)
    batched: set[bytes] = field(default_factory=set)
