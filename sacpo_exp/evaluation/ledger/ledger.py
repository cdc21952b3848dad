"""The ledger: every judgment that was asked for, once, with its answer, in one SQLite file."""

import json
import os
import socket
import sqlite3
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final
from uuid import uuid4

import psutil

from sacpo_exp.config.schema import Journal
from sacpo_exp.errors import LedgerError
from sacpo_exp.evaluation.ledger.file import explained, open_database
from sacpo_exp.evaluation.ledger.records import Answer, Question, State

#: Seconds between two renewals of a claim, and after how many without one it is anybody's.
HEARTBEAT, STALE = 10.0, 60.0
HOST: Final = socket.gethostname()


class Ledger:
    """Judgments by key, in one file that any number of processes and threads may use at once.

    What a method changes is committed when it returns. To ask a question exactly once: `claim` it, look with `find`
    whether another process has recorded it meanwhile, ask, `record`.

    Args:
        path: of the file; made if it is missing.
        journal: as `ledger.journal`.

    Raises:
        LedgerError: here and by every method: the file is damaged or can't be written.
    """

    def __init__(self, path: Path, journal: Journal | None = None) -> None:
        self.path = path
        self._database = open_database(path, journal)
        self._guard = threading.RLock()
        self._owner = f"{HOST}/{os.getpid()}/{uuid4().hex}"
        self._closed = threading.Event()
        self._heartbeat: threading.Thread | None = None

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release all claims and close the file; a second call does nothing."""
        with self._guard:
            if self._closed.is_set():
                return
            self._closed.set()
            if self._heartbeat is not None:
                with suppress(LedgerError):  # a claim that can't be released becomes stale
                    self.release()
            self._database.close()

    def find(self, keys: Iterable[str]) -> dict[str, Answer]:
        """Return the answers to those questions that have one, by key."""
        query = "SELECT key, answer FROM judgments WHERE key IN (SELECT value FROM json_each(?))"
        with self._reading() as database:
            return {key: _load_answer(answer) for key, answer in database.execute(query, (json.dumps(list(keys)),))}

    def judgments(self) -> Iterator[tuple[Question, Answer]]:
        """Iterate over all judgments in order of key."""
        with self._reading() as database:
            keys = [key for (key,) in database.execute("SELECT key FROM judgments ORDER BY key")]
        for key in keys:
            with self._reading() as database:
                row = database.execute("SELECT question, answer FROM judgments WHERE key = ?", (key,)).fetchone()
                judgment = _load_question(json.loads(zlib.decompress(row[0]))), _load_answer(row[1])
            yield judgment

    def record(self, question: Question, answer: Answer) -> None:
        """Store the answer and release the claim on its question.

        Attempts and tokens of an earlier record are added, since they were paid for. A failure never replaces an
        answer.
        """
        with self._writing() as database:
            if earlier := self.find([question.key]).get(question.key):
                is_worse = answer.state == State.failed and earlier.state != State.failed
                answer = _add_usage(earlier if is_worse else answer, answer if is_worse else earlier)
            _put(database, question, answer)
            database.execute("DELETE FROM claims WHERE key = ?", (question.key,))

    def merge(self, judgments: Iterable[tuple[Question, Answer]]) -> Counter[str]:
        """Add judgments of another ledger, all of them or none if reading them raises.

        Returns the numbers of those `added`, `completed` (here they had failed) and `kept` as they are here.
        """
        counts: Counter[str] = Counter()
        with self._writing() as database:
            for question, answer in judgments:
                earlier = self.find([question.key]).get(question.key)
                is_completed = earlier and earlier.state == State.failed and answer.state != State.failed
                change = "added" if earlier is None else "completed" if is_completed else "kept"
                counts[change] += 1
                if change != "kept":
                    _put(database, question, answer)
        return counts

    def claim(self, keys: Sequence[str]) -> set[str]:
        """Return those of `keys` that this process may ask now: no other living one has claimed them.

        A claim ends with `record`, `release`, `close`, or the death of the process: at once where that can be seen on
        this machine, else `STALE` seconds after its last renewal.
        """
        if self._heartbeat is None:
            self._heartbeat = threading.Thread(target=self._renew_claims, daemon=True)
            self._heartbeat.start()
        chosen = json.dumps(list(keys))
        with self._writing() as database:
            owners = database.execute("SELECT owner, max(renewed) FROM claims GROUP BY owner").fetchall()
            dead = [(owner,) for owner, renewed in owners if owner != self._owner and _is_dead(owner, renewed)]
            database.executemany("DELETE FROM claims WHERE owner = ?", dead)
            insert = "INSERT OR IGNORE INTO claims SELECT value, ?, ? FROM json_each(?)"
            database.execute(insert, (self._owner, time.time(), chosen))
            query = "SELECT key FROM claims WHERE owner = ? AND key IN (SELECT value FROM json_each(?))"
            return {key for (key,) in database.execute(query, (self._owner, chosen))}

    def release(self, keys: Iterable[str] | None = None) -> None:
        """Give up the claims on `keys`, or all claims of this ledger."""
        chosen = "" if keys is None else " AND key IN (SELECT value FROM json_each(?))"
        values = (self._owner,) if keys is None else (self._owner, json.dumps(list(keys)))
        with self._writing() as database:
            database.execute(f"DELETE FROM claims WHERE owner = ?{chosen}", values)

    def _renew_claims(self) -> None:
        while not self._closed.wait(HEARTBEAT):
            with suppress(LedgerError), self._writing() as database:
                database.execute("UPDATE claims SET renewed = ? WHERE owner = ?", (time.time(), self._owner))

    def add_batch(self, batch_id: str, base_url: str, questions: Sequence[Question]) -> None:
        """Remember a batch that was submitted, with its questions."""
        content = zlib.compress(json.dumps([asdict(question) for question in questions]).encode())
        with self._writing() as database:
            database.execute("INSERT OR REPLACE INTO batches VALUES (?, ?, ?)", (batch_id, base_url, content))

    def open_batches(self, base_url: str) -> dict[str, list[Question]]:
        """Return the questions of a server's batches that are not collected yet, by id, the oldest batch first."""
        query = "SELECT id, questions FROM batches WHERE base_url = ? AND questions IS NOT NULL ORDER BY rowid"
        with self._reading() as database:
            return {
                batch_id: [_load_question(row) for row in json.loads(zlib.decompress(content))]
                for batch_id, content in database.execute(query, (base_url,))
            }

    def knows_batch(self, batch_id: str) -> bool:
        """Return whether a batch was added here, collected or not."""
        with self._reading() as database:
            return database.execute("SELECT 1 FROM batches WHERE id = ?", (batch_id,)).fetchone() is not None

    def close_batch(self, batch_id: str) -> None:
        """Drop the questions of a batch: its answers are recorded, or will not come."""
        with self._writing() as database:
            database.execute("UPDATE batches SET questions = NULL WHERE id = ?", (batch_id,))

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._guard, explained(self.path):
            yield self._database

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction in which nobody else writes; undone if the body raises."""
        with self._reading() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
                database.execute("COMMIT")
            except BaseException:
                if database.in_transaction:  # SQLite itself may have undone it
                    database.execute("ROLLBACK")
                raise


def _is_dead(owner: str, renewed: float) -> bool:
    host, pid, _ = owner.rsplit("/", 2)
    return (host == HOST and not psutil.pid_exists(int(pid))) or time.time() - renewed > STALE


def _put(database: sqlite3.Connection, question: Question, answer: Answer) -> None:
    # ASCII: half of a surrogate pair, which a response may hold, has no UTF-8
    content = zlib.compress(json.dumps(asdict(question)).encode())
    row = (question.key, content, json.dumps(asdict(answer)))
    database.execute("INSERT OR REPLACE INTO judgments VALUES (?, ?, ?)", row)


def _load_question(row: dict[str, Any]) -> Question:
    return Question(**row | {"messages": tuple(map(tuple, row["messages"])), "scale": tuple(row["scale"])})


def _load_answer(text: str) -> Answer:
    row = json.loads(text)
    return Answer(**row | {"state": State(row["state"])})


def _add_usage(answer: Answer, other: Answer) -> Answer:
    """Return `answer` with what both have used; tokens that no server counted stay unknown."""
    names = ("prompt_tokens", "cached_tokens", "completion_tokens")
    counted = {name: (getattr(answer, name), getattr(other, name)) for name in names}
    totals: dict[str, Any] = {name: sum(n or 0 for n in pair) for name, pair in counted.items() if pair != (None, None)}
    return replace(answer, attempts=answer.attempts + other.attempts, **totals)
