"""The answers of language models, kept so that nothing is asked for twice."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

from mars_pyg.errors import DataError
from mars_pyg.factors.records import (
    LAYOUT,
    TABLES,
    Claimed,
    Received,
    RequestRecord,
    Totals,
)
from mars_pyg.factors.schema import Factor, FactorSchema

#: Seconds after which a process that gives no sign of life has lost its claims.
LEASE = 60.0
#: Seconds that another process may keep the file to itself.
_TIMEOUT = 60.0
#: What the names of owners that are batches begin with.
BATCH = "batch-"


class AnswerStore:
    r"""A SQLite file of answers, requests and claims.

    An answer is found by the content that was shown and the question: the model, the
    modality, the version of the prompt and the factor with its values. Several
    processes may use one store at once: each claims what it is about to ask, and a
    claim ends with its process, or a minute after its last sign of life.

    A store is used by one thread at a time.

    Args:
        path: The file; made if it is not there.

    Raises:
        DataError: If the file is not a store of this version.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.owner = uuid.uuid4().hex
        try:
            self._connection = sqlite3.connect(
                self.path, _TIMEOUT, isolation_level=None, check_same_thread=False
            )
            self._set_up()
        except sqlite3.DatabaseError as error:
            raise DataError(
                f"the store cannot be opened: {error}",
                mend="check the file, or name another",
                file=self.path,
            ) from error

    def _set_up(self) -> None:
        execute = self._connection.execute
        # Readers and one writer at once; a commit is on the disk when it returns.
        deadline = time.monotonic() + _TIMEOUT
        while True:
            try:
                execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as error:
                # Beside another process that makes the file SQLite does not wait.
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        execute("PRAGMA synchronous = FULL")
        with self.transaction():
            version = execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, LAYOUT):
                raise DataError(
                    f"the store has layout {version}, this version reads {LAYOUT}",
                    mend="name another file, or use the version that wrote it",
                    file=self.path,
                )
            for statement in TABLES.split(";"):
                execute(statement)
            execute(f"PRAGMA user_version = {LAYOUT}")

    def close(self) -> None:
        """Give claims back, and close the file."""
        self.release()
        self._connection.close()

    @contextmanager
    def transaction(self, kind: str = "IMMEDIATE") -> Iterator[sqlite3.Connection]:
        """Write all or nothing, alone; ``"DEFERRED"`` reads one state of the file."""
        try:
            self._connection.execute(f"BEGIN {kind}")
            yield self._connection
            self._connection.execute("COMMIT")
        except BaseException as error:
            # Some faults, such as a full disk, end the transaction by themselves.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError):
                raise DataError(
                    f"the store cannot be used: {error}",
                    mend="make room on its disk, or whatever it lacks, and run again",
                    file=self.path,
                ) from error
            raise

    # Questions and answers

    def question_ids(self, schema: FactorSchema, model: str, prompt: str) -> list[int]:
        """Number the questions of a schema, one for each factor."""
        ids = []
        with self.transaction() as connection:
            versions = schema.factor_versions()
            for version, factor in zip(versions, schema.factors, strict=True):
                key = (model, schema.modality, prompt, version)
                connection.execute(
                    "INSERT OR IGNORE INTO questions (model, modality, prompt, "
                    "version, factor) VALUES (?, ?, ?, ?, ?)",
                    (*key, factor.model_dump_json()),
                )
                row = connection.execute(
                    "SELECT id FROM questions WHERE model = ? AND modality = ? AND "
                    "prompt = ? AND version = ?",
                    key,
                ).fetchone()
                ids.append(int(row[0]))
        return ids

    def factors(self, questions: Sequence[int]) -> list[Factor]:
        """The factors of questions."""
        return [
            Factor.model_validate_json(
                self._connection.execute(
                    "SELECT factor FROM questions WHERE id = ?", (number,)
                ).fetchone()[0]
            )
            for number in questions
        ]

    def answers(
        self, inputs: Sequence[bytes], questions: Sequence[int]
    ) -> dict[tuple[bytes, int], tuple[list[str], str | None, int | None]]:
        """Look up values, reasons and requests, by content and question."""
        rows = self._select("value, reason, request", "answers", inputs, questions)
        return {
            (key, question): (json.loads(value), reason, request)
            for key, question, value, reason, request in rows
        }

    def value_counts(self, question: int) -> list[tuple[str, int]]:
        """Count the values under a question."""
        return self._connection.execute(
            "SELECT entry.value, count(*) FROM answers, json_each(answers.value) entry "
            "WHERE question = ? GROUP BY entry.value",
            (question,),
        ).fetchall()

    def open_questions(
        self, inputs: Sequence[bytes], questions: Sequence[int], batched: bool = True
    ) -> dict[bytes, list[int]]:
        """List what has no answer yet, by content; what batches ask for or not."""
        rows = self._select("1", "answers", inputs, questions)
        if not batched:
            claims = self._select("owner", "claims", inputs, questions)
            rows += [row for row in claims if row[2].startswith(BATCH)]
        answered = {(key, question) for key, question, _ in rows}
        left = {
            key: [number for number in questions if (key, number) not in answered]
            for key in inputs
        }
        return {key: numbers for key, numbers in left.items() if numbers}

    def _select(
        self, columns: str, table: str, inputs: Sequence[bytes], numbers: Sequence[int]
    ) -> list[tuple]:
        rows: list[tuple] = []
        for start in range(0, len(inputs), 500):
            part = inputs[start : start + 500]
            rows += self._connection.execute(
                f"SELECT input, question, {columns} FROM {table} WHERE "
                f"input IN ({','.join('?' * len(part))}) AND "
                f"question IN ({','.join('?' * len(numbers))})",
                (*part, *numbers),
            )
        return rows

    def record(self, received: Sequence[Received]) -> None:
        """Store answers and what they cost, all or nothing; claims on them end.

        An answer that is there stays, and a request of a batch counts once.
        """
        with self.transaction() as connection:
            for entry in received:
                number, known = self._record_request(connection, entry.request)
                if known:
                    continue
                connection.executemany(
                    "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?)",
                    [
                        (key, question, json.dumps(values), reason, number)
                        for key, question, values, reason in entry.answers
                    ],
                )
                for table in ("claims", "faults"):
                    connection.executemany(
                        f"DELETE FROM {table} WHERE input = ? AND question = ?",
                        [(key, question) for key, question, *_ in entry.answers],
                    )
                connection.executemany(
                    "INSERT INTO faults VALUES (?, ?, 1, ?) ON CONFLICT DO UPDATE SET "
                    "times = times + 1, fault = excluded.fault",
                    entry.faults,
                )
            reserved = sum(entry.reserved for entry in received)
            if reserved:
                connection.execute(
                    "UPDATE owners SET reserved = max(0, reserved - ?) WHERE id = ?",
                    (reserved, self.owner),
                )

    def _record_request(
        self, connection: sqlite3.Connection, request: RequestRecord | None
    ) -> tuple[int | None, bool]:
        """Store a request; returns its number, and whether it was there already."""
        if request is None:
            return None, False
        row = vars(request) | {
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        }
        cursor = connection.execute(
            f"INSERT OR IGNORE INTO requests ({', '.join(row)}) VALUES "
            f"({', '.join('?' * len(row))})",
            tuple(row.values()),
        )
        if not cursor.rowcount:
            return None, True
        connection.execute(
            "INSERT INTO totals VALUES (?, 1, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
            "requests = requests + 1, input_tokens = input_tokens + "
            "excluded.input_tokens, cached_tokens = cached_tokens + "
            "excluded.cached_tokens, output_tokens = output_tokens + "
            "excluded.output_tokens, cost = cost + excluded.cost",
            (
                request.model,
                request.input_tokens,
                request.cached_tokens,
                request.output_tokens,
                request.cost,
            ),
        )
        return cursor.lastrowid, False

    def faults(
        self, inputs: Sequence[bytes], questions: Sequence[int]
    ) -> dict[tuple[bytes, int], tuple[int, str]]:
        """Look up how often answers could not be used, and what was wrong last."""
        rows = self._select("times, fault", "faults", inputs, questions)
        return {(key, question): (times, fault) for key, question, times, fault in rows}

    def totals(self, model: str) -> Totals:
        """What was asked of a model so far, over all runs."""
        row = self._connection.execute(
            "SELECT requests, input_tokens, cached_tokens, output_tokens, cost "
            "FROM totals WHERE model = ?",
            (model,),
        ).fetchone()
        return Totals(*row) if row else Totals()

    def cost(self) -> float:
        """What all models have cost, and what batches under way may cost."""
        rows = self._connection.execute(
            "SELECT (SELECT coalesce(sum(cost), 0) FROM totals) + "
            "(SELECT coalesce(sum(reserved), 0) FROM batches)"
        )
        return float(rows.fetchone()[0])

    def reserve(self, model: str, amount: float, budget: float) -> tuple[bool, bool]:
        r"""Set aside what a request may cost, if the budget has it.

        All costs so far count, of other models too, and what the requests under way may
        cost, those of other processes too.

        Args:
            model: The model that will be asked.
            amount: What the request may cost.
            budget: What all requests together may cost.

        Returns:
            Whether it is set aside, and whether other requests are under way, which may
            turn out cheaper.
        """
        self.drop_dead_owners()
        with self.transaction() as connection:
            reserved = connection.execute(
                "SELECT coalesce(sum(reserved), 0) FROM owners"
            ).fetchone()[0]
            # Sums of floats: what is left of released amounts is no request.
            granted = self.cost() + reserved + amount <= budget
            if granted:
                self._sign_of_life(connection, model, amount)
        return granted, reserved > 1e-12

    def request(self, number: int) -> dict[str, object]:
        """Look up a request by its number."""
        statement = "SELECT * FROM requests WHERE id = ?"
        cursor = self._connection.execute(statement, (number,))
        row = cursor.fetchone()
        return dict(zip([c[0] for c in cursor.description], row, strict=True))

    def experience(self, model: str, prompt: str) -> tuple[int, float, float, float]:
        """The last thousand single requests.

        Returns: Their number, true over expected input tokens, output tokens per value,
            seconds per request.
        """
        row = self._connection.execute(
            "SELECT count(*), sum(input_tokens), sum(expected_input), "
            "sum(output_tokens), sum(items * factors), avg(seconds) FROM (SELECT * "
            "FROM requests WHERE model = ? AND prompt = ? AND batch IS NULL AND "
            "input_tokens > 0 AND expected_input > 0 ORDER BY id DESC LIMIT 1000)",
            (model, prompt),
        ).fetchone()
        if not row[0]:
            return 0, 1.0, 0.0, 0.0
        return row[0], row[1] / row[2], row[3] / max(row[4], 1), row[5] or 0.0

    def last_mode(self, model: str, prompt: str) -> str | None:
        """How json was asked for in the last single request, if there is one."""
        row = self._connection.execute(
            "SELECT mode FROM requests WHERE model = ? AND prompt = ? AND "
            "batch IS NULL ORDER BY id DESC LIMIT 1",
            (model, prompt),
        ).fetchone()
        return None if row is None else str(row[0])

    # Claims

    def claim(
        self,
        wanted: dict[bytes, list[int]],
        owner: str | None = None,
        model: str = "",
    ) -> Claimed:
        r"""Claim what has neither an answer nor a claim.

        Args:
            wanted: The questions by content.
            owner: Who claims; :obj:`None` for this process. A batch claims in its own
                name, for as long as it takes. (default: :obj:`None`)
            model: The model that will be asked. (default: :obj:`""`)
        """
        result = Claimed()
        if not wanted:
            return result
        keys = list(wanted)
        numbers = sorted({number for entry in wanted.values() for number in entry})
        self.drop_dead_owners()
        with self.transaction() as connection:
            if owner is None:
                self._sign_of_life(connection, model)
            taken = {
                (key, number): holder
                for key, number, holder in self._select(
                    "owner", "claims", keys, numbers
                )
            }
            rows = self._select("1", "answers", keys, numbers)
            answered = {(key, number) for key, number, _ in rows}
            for key, entry in wanted.items():
                left = [number for number in entry if (key, number) not in answered]
                holders = {taken[key, n] for n in left if (key, n) in taken}
                if any(holder.startswith(BATCH) for holder in holders):
                    result.batched.add(key)
                elif holders - {self.owner}:
                    result.busy.add(key)
                free = [number for number in left if (key, number) not in taken]
                if free:
                    result.questions[key] = free
            connection.executemany(
                "INSERT INTO claims VALUES (?, ?, ?)",
                [
                    (key, number, owner or self.owner)
                    for key, entry in result.questions.items()
                    for number in entry
                ],
            )
        return result

    def sign_of_life(self, model: str) -> None:
        """Keep the claims of this process for another while."""
        with self.transaction() as connection:
            self._sign_of_life(connection, model)

    def _sign_of_life(
        self, connection: sqlite3.Connection, model: str, reserved: float = 0.0
    ) -> None:
        process = (self.owner, socket.gethostname(), os.getpid(), time.time())
        connection.execute(
            "INSERT INTO owners VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
            "seen = excluded.seen, reserved = reserved + excluded.reserved",
            (*process, model, reserved),
        )

    def release(self, owner: str | None = None) -> None:
        """Give back all claims of an owner, by default of this process."""
        owner = owner or self.owner
        with self.transaction() as connection:
            connection.execute("DELETE FROM claims WHERE owner = ?", (owner,))
            connection.execute("DELETE FROM owners WHERE id = ?", (owner,))

    def unclaim(
        self, pairs: Sequence[tuple[bytes, int]], owner: str | None = None
    ) -> None:
        """Give back single claims of an owner, by default of this process."""
        with self.transaction() as connection:
            connection.executemany(
                "DELETE FROM claims WHERE input = ? AND question = ? AND owner = ?",
                [(*pair, owner or self.owner) for pair in pairs],
            )

    def drop_dead_owners(self) -> None:
        """Take the claims of processes that have ended."""
        rows = self._connection.execute(
            "SELECT id, host, process, seen FROM owners WHERE id != ?", (self.owner,)
        ).fetchall()
        for owner, host, process, seen in rows:
            silent = time.time() - seen > LEASE
            if silent or (host == socket.gethostname() and not _is_alive(process)):
                self.release(owner)

    # Documents: the answers of Stage 1

    def document(self, key: bytes) -> str | None:
        """Look up a document."""
        row = self._connection.execute(
            "SELECT text FROM documents WHERE key = ?", (key,)
        ).fetchone()
        return None if row is None else str(row[0])

    def record_document(
        self, key: bytes, kind: str, text: str | None, request: RequestRecord
    ) -> None:
        """Store a document, if there is one, and what it cost."""
        with self.transaction() as connection:
            self._record_request(connection, request)
            if text is not None:
                connection.execute(
                    "INSERT OR IGNORE INTO documents VALUES (?, ?, ?)",
                    (key, kind, text),
                )


def _is_alive(process: int) -> bool:
    if os.name == "nt":  # There, asking means ending it; its silence will tell.
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # It is there, but not ours.
        return True
    return True
