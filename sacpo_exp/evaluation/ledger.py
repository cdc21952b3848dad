"""Paid judgments: every question to a judge with its answer, each asked once, in one SQLite file.

To ask a question once: `claim` it, look with `find` whether another process has recorded it meanwhile, ask, `record`.
"""

import errno
import gzip
import json
import os
import re
import socket
import sqlite3
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import psutil
from filelock import FileLock

from sacpo_exp.data.files import read_raw
from sacpo_exp.errors import ConfigError, DataError, LedgerError
from sacpo_exp.evaluation.records import Answer, Question, State

#: Version of the tables, stored in the file as `PRAGMA user_version`. Files of earlier days have a table more.
VERSION: Final = 2
TABLES: Final = f"""
BEGIN IMMEDIATE;
CREATE TABLE judgments (key TEXT PRIMARY KEY, question BLOB NOT NULL, answer TEXT NOT NULL);
CREATE TABLE claims (key TEXT PRIMARY KEY, owner TEXT NOT NULL, renewed REAL NOT NULL);
CREATE INDEX claims_by_owner ON claims (owner);
PRAGMA user_version = {VERSION};
COMMIT;
"""
#: Seconds that one process waits for another to finish writing.
PATIENCE: Final = 60
#: File systems of several machines, where SQLite's write-ahead log, which is shared memory, damages the file.
SHARED: Final = re.compile(r"nfs\d?|lustre|gpfs|beegfs\w*|ceph|cifs|smb\w*|afs|9p|fuse\..+")
#: Seconds between two renewals of a claim, and seconds after the last one when it ends.
HEARTBEAT, STALE = 10.0, 60.0
HOST: Final = socket.gethostname()


class Ledger(AbstractContextManager["Ledger"]):
    """Judgments by key, in one file that any number of processes and threads may use at once; made if it is missing.

    What a method changes is committed when it returns. Every method raises LedgerError if the file is damaged or can't
    be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._guard = threading.RLock()
        self._owner = f"{HOST}/{os.getpid()}/{uuid4().hex}"
        self._closed = threading.Event()
        self._heartbeat: threading.Thread | None = None
        with _explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # SQLite does not wait for its turn when two processes change a file's journal.
            with FileLock(f"{path}.lock"):
                # Without an isolation level every statement outside of a transaction is committed at once.
                self._database = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
                try:
                    _prepare(self._database, path)
                except BaseException:
                    self._database.close()
                    raise

    def __exit__(self, *_: object) -> None:
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
        """Iterate over all judgments of this moment in order of key."""
        with self._reading() as database:
            rows = database.execute("SELECT question, answer FROM judgments ORDER BY key").fetchall()
        for question, answer in rows:
            with _explained(self.path):
                judgment = _load_question(json.loads(zlib.decompress(question))), _load_answer(answer)
            yield judgment

    def record(self, question: Question, answer: Answer) -> None:
        """Store the answer with the time, if it has none, and release the claim on its question.

        Attempts and tokens of an earlier record are added, since they were paid for. A failure never replaces an
        answer.
        """
        with self._writing() as database:
            if earlier := self.find([question.key]).get(question.key):
                is_worse = answer.state == State.failed and earlier.state != State.failed
                answer = _add_usage(earlier, answer) if is_worse else _add_usage(answer, earlier)
            created = answer.created or datetime.now(UTC).isoformat(timespec="milliseconds")
            _put(database, question, replace(answer, created=created))
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

    def claim(self, keys: Iterable[str]) -> set[str]:
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
        with self._reading() as database:
            database.execute(f"DELETE FROM claims WHERE owner = ?{chosen}", values)

    def _renew_claims(self) -> None:
        while not self._closed.wait(HEARTBEAT):
            with suppress(LedgerError), self._reading() as database:
                database.execute("UPDATE claims SET renewed = ? WHERE owner = ?", (time.time(), self._owner))

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Give the connection, on which a single statement is read or committed as a whole."""
        with self._guard, _explained(self.path):
            yield self._database

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Give a transaction in which nobody else writes; it is undone if the body raises."""
        with self._reading() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
                database.execute("COMMIT")
            except BaseException:
                if database.in_transaction:  # SQLite itself may have undone it
                    database.execute("ROLLBACK")
                raise


def _prepare(database: sqlite3.Connection, path: Path) -> None:
    """Make the tables of a new file, check those of another, and set the journal."""
    (version,) = database.execute("PRAGMA user_version").fetchone()
    (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and version != VERSION:
        what = f"by another version of sacpo_exp (tables {version}, here {VERSION})" if version else "by something else"
        raise LedgerError(
            f"{path} was written {what}. Try: paths.outputs=DIR with another folder; judgments move from one version "
            "to another by `sacpo ledger export FILE` there and `sacpo ledger import FILE` here."
        )
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
        code = getattr(error, "sqlite_errorcode", None)
        primary = None if code is None else code & 0xFF  # the rest of an extended code tells where
        is_about_content = code is None and not isinstance(error, OSError)
        message = f"{path} can't be read or written ({error}). Try: paths.outputs=DIR with a folder that can."
        if primary == sqlite3.SQLITE_FULL or getattr(error, "errno", None) == errno.ENOSPC:
            message = (
                f"{path} can't grow: its disk is full. What was judged before is kept; "
                "free some space and run the same command again."
            )
        elif primary == sqlite3.SQLITE_BUSY:
            message = f"{path} is held by another process for more than {PATIENCE} s. Run the same command again."
        elif is_about_content or primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            message = (
                f"{path} is damaged ({error}). Stored verdicts are not affected. Move {path}* away, import an export "
                f"(`sacpo ledger import FILE --outputs {path.parent}`) and run the same command again: "
                "what no export holds is asked again."
            )
        raise LedgerError(message) from error


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


def export_judgments(ledger: Ledger, path: Path) -> int:
    """Write every judgment to `path`, one object per line with all fields and the key, and return how many.

    The file is written whole or not at all.
    """
    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        raise ConfigError(f"An export must be a .jsonl or .jsonl.gz file, but is {path}.")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    count = 0
    try:
        opener: Any = gzip.open if path.suffix == ".gz" else open
        with opener(partial, "wt", encoding="utf-8") as file:
            for question, answer in ledger.judgments():
                file.write(json.dumps({"key": question.key} | asdict(question) | asdict(answer)) + "\n")
                count += 1
        partial.replace(path)
    except OSError as error:
        raise ConfigError(f"{path} can't be written: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    return count


def import_judgments(ledger: Ledger, path: Path) -> Counter[str]:
    """Add the judgments of an export, all or none; answers that the ledger has stay. Return the counts of `merge`."""
    from pydantic import TypeAdapter, ValidationError

    questions, answers = TypeAdapter(Question), TypeAdapter(Answer)
    judgments = []
    for number, row in read_raw(path, str(path)).rows:
        try:
            question, answer = questions.validate_python(row), answers.validate_python(row)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or "the line"
            raise DataError(f"{path}, row {number}: `{field}`: {first['msg']}.") from error
        if row.get("key") != question.key:
            message = f"must be the hash of the row's fields, {question.key}, but is {row.get('key')}"
            raise DataError(f"{path}, row {number}: `key` {message}.")
        judgments.append((question, answer))
    return ledger.merge(judgments)
