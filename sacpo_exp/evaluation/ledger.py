"""Paid judgments: every question to a judge with its answer, each asked once, in one SQLite file."""

import errno
import json
import logging
import re
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psutil
from filelock import FileLock, Timeout

from sacpo_exp.errors import ConfigError, LedgerError
from sacpo_exp.evaluation.records import Answer, Question, State
from sacpo_exp.store import content_hash
from sacpo_exp.store.manifest import write_whole

log = logging.getLogger(__name__)

#: Version of the tables, stored in the file as `PRAGMA user_version`. Files of earlier days have further tables.
VERSION: Final = 2
TABLES: Final = f"""
BEGIN IMMEDIATE;
CREATE TABLE judgments (key TEXT PRIMARY KEY, question BLOB NOT NULL, answer TEXT NOT NULL);
PRAGMA user_version = {VERSION};
COMMIT;
"""
#: Seconds that one process waits for another to finish writing.
PATIENCE: Final = 60
#: File systems of several machines, where SQLite's write-ahead log, which is shared memory, damages the file.
SHARED: Final = re.compile(r"nfs\d?|lustre|gpfs|beegfs\w*|ceph|cifs|smb\w*|afs|9p|fuse\..+")


class Ledger:
    """Judgments by key, in one file that any number of processes may use at once.

    What a method changes is committed when it returns.

    Args:
        path: of the file; made if it is missing.

    Raises:
        LedgerError: here and by every method: the file is damaged or can't be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with _explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # SQLite does not wait for its turn when two processes change a file's journal.
            with FileLock(f"{path}.lock"):
                # Without an isolation level every statement outside of a transaction is committed at once.
                self._database = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
                try:
                    _prepare(self._database, path)
                except BaseException:
                    self._database.close()
                    raise

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    @contextmanager
    def asking(self, server: str) -> Iterator[None]:
        """Hold the right to ask a judge, so that no other process asks the same questions meanwhile.

        The operating system frees it when the process dies.
        """
        lock = FileLock(f"{self.path}.{content_hash(server)[:8]}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("waits    for another process that asks the same judge")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def find(self, keys: Iterable[str]) -> dict[str, Answer]:
        """Return the answers to those questions that have one, by key."""
        query = "SELECT key, answer FROM judgments WHERE key IN (SELECT value FROM json_each(?))"
        with _explained(self.path):
            rows = self._database.execute(query, (json.dumps(list(keys)),))
            return {key: _load_answer(answer) for key, answer in rows}

    def judgments(self) -> Iterator[tuple[Question, Answer]]:
        """Iterate over all judgments of this moment in order of key."""
        with _explained(self.path):
            rows = self._database.execute("SELECT question, answer FROM judgments ORDER BY key").fetchall()
        for question, answer in rows:
            with _explained(self.path):
                judgment = _load_question(json.loads(zlib.decompress(question))), _load_answer(answer)
            yield judgment

    def record(self, question: Question, answer: Answer) -> None:
        """Store the answer with the time, if it has none.

        Attempts and tokens of an earlier record are added, since they were paid for. A failure never replaces an
        answer.
        """
        with _explained(self.path), self._database:
            self._database.execute("BEGIN IMMEDIATE")
            if earlier := self.find([question.key]).get(question.key):
                is_worse = answer.state == State.failed and earlier.state != State.failed
                answer = _add_usage(earlier, answer) if is_worse else _add_usage(answer, earlier)
            created = answer.created or datetime.now(UTC).isoformat(timespec="milliseconds")
            # ASCII: half of a surrogate pair, which a response may hold, has no UTF-8
            content = zlib.compress(json.dumps(asdict(question)).encode())
            row = (question.key, content, json.dumps(asdict(replace(answer, created=created))))
            self._database.execute("INSERT OR REPLACE INTO judgments VALUES (?, ?, ?)", row)


def _prepare(database: sqlite3.Connection, path: Path) -> None:
    """Make the tables of a new file, check those of another, and set the journal."""
    (version,) = database.execute("PRAGMA user_version").fetchone()
    (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and version != VERSION:
        what = f"by another version of sacpo_exp (tables {version}, here {VERSION})" if version else "by something else"
        raise LedgerError(f"{path} was written {what}. Try: paths.outputs=DIR with another folder")
    mounts = sorted(psutil.disk_partitions(all=True), key=lambda mount: len(mount.mountpoint))
    kinds = ["", *(mount.fstype for mount in mounts if path.resolve().is_relative_to(mount.mountpoint))]
    is_shared = SHARED.fullmatch(kinds[-1])
    if is_shared or not tables:  # a file elsewhere keeps what it has
        database.execute(f"PRAGMA journal_mode = {'delete' if is_shared else 'wal'}")
    if not tables:
        database.executescript(TABLES)
    # Not synced at each commit: a killed process loses nothing by it, and after a power cut the file is whole and at
    # most the last judgments are asked again.
    database.execute("PRAGMA synchronous = NORMAL")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what SQLite or the file system can raise about the ledger into one LedgerError for the user."""
    try:
        yield
    except (sqlite3.Error, OSError, zlib.error, ValueError, TypeError, KeyError) as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest of an extended code tells where
        is_about_content = not isinstance(error, sqlite3.Error | OSError)
        message = f"{path} can't be read or written ({error}). Try: paths.outputs=DIR with a folder that can."
        if code == sqlite3.SQLITE_FULL or getattr(error, "errno", None) == errno.ENOSPC:
            message = (
                f"{path} can't grow: its disk is full. What was judged before is kept; "
                "free some space and run the same command again."
            )
        elif is_about_content or code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            message = (
                f"{path} is damaged ({error}). Stored verdicts are not affected. Move {path}* away, put a copy there "
                "if there is one, and run the same command again: what it does not hold is asked again."
            )
        raise LedgerError(message) from error


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


def export_judgments(ledger: Ledger, path: Path) -> int:
    """Write every judgment to `path`, one object per line with all fields and the key, and return how many."""
    judgments = list(ledger.judgments())
    lines = [json.dumps({"key": question.key} | asdict(question) | asdict(answer)) for question, answer in judgments]
    try:
        write_whole(path, "".join(f"{line}\n" for line in lines))
    except OSError as error:
        raise ConfigError(f"{path} can't be written: {error.strerror or error}.") from error
    return len(lines)
