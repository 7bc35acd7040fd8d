"""Batches in the store of answers."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mars_pyg.factors.store import BATCH, AnswerStore

#: The states of a batch: being written, whole but on this machine only, there as a
#: file, there as a batch.
STATES = ("writing", "written", "uploaded", "submitted")


@dataclass(frozen=True)
class BatchRow:
    """A batch that is not collected yet.

    Args:
        id: Its name, which owns the claims and stands in the server's metadata.
        process: The process that is at it.
        state: One of :data:`STATES`.
        model: The model that is asked.
        mode: How json is asked for.
        prompt: The version of the prompts.
        schema: The version of the schema.
        date: When it was begun.
        requests: The number of its requests.
        reserved: What it may cost.
        input_file: The server's name of the uploaded file, or :obj:`None`.
        remote: The server's name of the batch, or :obj:`None`.
    """

    id: str
    process: str
    state: str
    model: str
    mode: str
    prompt: str
    schema: str
    date: str
    requests: int
    reserved: float
    input_file: str | None
    remote: str | None


@dataclass(frozen=True)
class BatchRequest:
    """A request of a batch: whom and what it asks."""

    custom_id: str
    inputs: tuple[bytes, ...]
    questions: tuple[int, ...]
    expected_input: int


class BatchStore:
    """Keeps account of batches, so that none is sent, paid or collected twice.

    Args:
        store: The store of the answers.
    """

    def __init__(self, store: AnswerStore) -> None:
        self.store = store
        #: Where the files of batches are, until they are collected.
        self.folder = Path(f"{store.path}.batches")

    def file(self, name: str) -> Path:
        """The file of the requests of a batch."""
        return self.folder / f"{name}.jsonl"

    def begin(self, model: str, mode: str, prompt: str, schema: str) -> str:
        """Begin a batch; returns its name."""
        name = BATCH + uuid.uuid4().hex
        date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.folder.mkdir(parents=True, exist_ok=True)
        self.store.sign_of_life(model)
        row = (name, self.store.owner, "writing", model, mode, prompt, schema, date)
        with self.store.transaction() as connection:
            connection.execute(
                "INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, 0, NULL, NULL)",
                row,
            )
        return name

    def add(
        self,
        name: str,
        requests: Sequence[BatchRequest],
        reserved: float,
        held: float = 0.0,
    ) -> None:
        """Add requests that are written to the file of a batch.

        Args:
            name: The batch.
            requests: The requests.
            reserved: What they may cost.
            held: What this process has set aside for them, which is now the batch's.
                (default: :obj:`0.0`)
        """
        with self.store.transaction() as connection:
            connection.executemany(
                "INSERT INTO batch_requests VALUES (?, ?, ?, ?, ?)",
                [
                    (
                        entry.custom_id,
                        name,
                        json.dumps([key.hex() for key in entry.inputs]),
                        json.dumps(entry.questions),
                        entry.expected_input,
                    )
                    for entry in requests
                ],
            )
            connection.execute(
                "UPDATE batches SET requests = requests + ?, reserved = reserved + ? "
                "WHERE id = ?",
                (len(requests), reserved, name),
            )
            connection.execute(
                "UPDATE owners SET reserved = max(0, reserved - ?) WHERE id = ?",
                (held, self.store.owner),
            )

    def is_own(self, name: str) -> bool:
        """Whether a batch is there, and no other process has taken it over."""
        with self.store.transaction() as connection:
            found = connection.execute(
                "SELECT 1 FROM batches WHERE id = ? AND process = ?",
                (name, self.store.owner),
            )
            return found.fetchone() is not None

    def is_left(self, row: BatchRow) -> bool:
        """Whether a batch has not reached the server, and nobody is at it."""
        if row.remote is not None:
            return False
        self.store.drop_dead_owners()
        with self.store.transaction() as connection:
            found = connection.execute(
                "SELECT 1 FROM owners WHERE id = ?", (row.process,)
            )
            return found.fetchone() is None

    def set(self, name: str, **columns: object) -> None:
        """Change columns of a batch."""
        changes = ", ".join(f"{column} = ?" for column in columns)
        with self.store.transaction() as connection:
            connection.execute(
                f"UPDATE batches SET {changes} WHERE id = ?", (*columns.values(), name)
            )

    def drop(self, name: str) -> None:
        """Forget a batch; what it has not answered may be asked for again."""
        with self.store.transaction() as connection:
            connection.execute("DELETE FROM claims WHERE owner = ?", (name,))
            connection.execute("DELETE FROM batch_requests WHERE batch = ?", (name,))
            connection.execute("DELETE FROM batches WHERE id = ?", (name,))
        for file in self.folder.glob(f"{name}.*"):
            file.unlink(missing_ok=True)  # Another process may drop it, too.

    def adopt(self, model: str) -> list[BatchRow]:
        """Take over what processes that have ended left before it was submitted.

        Returns:
            Batches whose files are whole. Those that are not are dropped.
        """
        self.store.drop_dead_owners()
        self.store.sign_of_life(model)
        with self.store.transaction() as connection:
            connection.execute(
                "UPDATE batches SET process = ? WHERE model = ? AND state != ? AND "
                "process NOT IN (SELECT id FROM owners)",
                (self.store.owner, model, "submitted"),
            )
        whole = []
        for row in self.rows():
            if row.process != self.store.owner or row.state == "submitted":
                continue
            # A store that was moved may have left its files behind.
            has_file = row.state == "written" and self.file(row.id).is_file()
            if has_file or row.state == "uploaded":
                whole.append(row)
            else:
                self.drop(row.id)
        return whole

    def rows(self) -> list[BatchRow]:
        """All batches that are not collected, the oldest first."""
        with self.store.transaction() as connection:
            found = connection.execute("SELECT * FROM batches ORDER BY rowid")
            return [BatchRow(*row) for row in found]

    def request(self, custom_id: str) -> BatchRequest | None:
        """Look up a request by its name."""
        with self.store.transaction() as connection:
            row = connection.execute(
                "SELECT custom_id, inputs, questions, expected_input "
                "FROM batch_requests WHERE custom_id = ?",
                (custom_id,),
            ).fetchone()
        if row is None:
            return None
        keys = tuple(bytes.fromhex(key) for key in json.loads(row[1]))
        return BatchRequest(row[0], keys, tuple(json.loads(row[2])), row[3])
