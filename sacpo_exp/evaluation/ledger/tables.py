"""The ledger's file: its tables, how it is opened, and what a user is told when it fails."""

import errno
import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock

from sacpo_exp.config.schema import Journal
from sacpo_exp.errors import LedgerError

#: Raised with every change of the tables; stands in the file as `PRAGMA user_version`.
VERSION = 1
PATIENCE = 60  # seconds that one process waits for another to finish writing
#: File systems of several machines, where SQLite's write-ahead log, which is shared memory, damages the file.
SHARED = re.compile(r"nfs\d?|lustre|gpfs|beegfs\w*|ceph|cifs|smb\w*|afs|9p|fuse\..+")

_TABLES = """
CREATE TABLE texts (id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, content BLOB NOT NULL);
CREATE TABLE judgments (
    key TEXT PRIMARY KEY,
    criterion TEXT NOT NULL, prompt_id TEXT NOT NULL,
    prompt INTEGER NOT NULL REFERENCES texts, first INTEGER NOT NULL REFERENCES texts,
    second INTEGER NOT NULL REFERENCES texts, answer_order INTEGER NOT NULL, repeat INTEGER NOT NULL,
    model TEXT NOT NULL, base_url TEXT NOT NULL, sampling TEXT NOT NULL, template TEXT NOT NULL,
    messages TEXT NOT NULL,  -- [[role, [ids of the texts that make up its content]], …]
    min_score REAL NOT NULL, max_score REAL NOT NULL,
    state TEXT NOT NULL, raw TEXT, finish_reason TEXT, error TEXT, answered_by TEXT,
    prompt_tokens INTEGER, cached_tokens INTEGER, completion_tokens INTEGER,
    attempts INTEGER NOT NULL, via TEXT NOT NULL, seconds REAL NOT NULL, created TEXT NOT NULL
);
CREATE TABLE claims (key TEXT PRIMARY KEY, owner TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX claims_by_owner ON claims (owner);
CREATE TABLE batches (id TEXT PRIMARY KEY, base_url TEXT NOT NULL, created TEXT NOT NULL);
CREATE TABLE batch_keys (
    batch TEXT NOT NULL, place INTEGER NOT NULL, key TEXT NOT NULL, PRIMARY KEY (batch, place)
) WITHOUT ROWID;
"""


def lock_folder(path: Path) -> Path:
    """Where the locks of a ledger's users lie."""
    return path.with_name(f"{path.name}.locks")


def open_database(path: Path, journal: Journal | None = None) -> sqlite3.Connection:
    """A connection that commits every statement outside of a transaction; the tables are made where they are missing.

    Args:
        journal: of SQLite; None: `delete` on a file system that machines share, elsewhere what the file has, or `wal`.

    Raises:
        LedgerError: the file is damaged, is something else, was written by a newer version, or can't be written.
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        if journal is None and is_shared(path):
            journal = Journal.delete
        try:
            if _read_version(connection) == 0:
                _make_tables(connection, path, journal or Journal.wal)
            elif journal is not None and connection.execute("PRAGMA journal_mode").fetchone()[0] != journal.value:
                _set_journal(connection, path, journal)
            _check_version(connection, path)
            # Not synced at each commit: a killed process loses nothing by it, and after a power cut the file is whole
            # and at most the last judgments are asked again.
            connection.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            connection.close()
            raise
    return connection


def _make_tables(connection: sqlite3.Connection, path: Path, journal: Journal) -> None:
    with _opening(path):
        if _read_version(connection) > 0:
            return
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise LedgerError(f"{path} is a database of something else. Try: paths.outputs=DIR with another folder.")
        connection.execute(f"PRAGMA journal_mode = {journal.value}")
        connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {VERSION}; COMMIT;")


def _set_journal(connection: sqlite3.Connection, path: Path, journal: Journal) -> None:
    with _opening(path):
        connection.execute(f"PRAGMA journal_mode = {journal.value}")


def _opening(path: Path) -> BaseFileLock:
    """SQLite does not wait for its turn when two processes switch a file's journal."""
    lock_folder(path).mkdir(exist_ok=True)
    return FileLock(lock_folder(path) / "opening.lock")


def is_shared(path: Path) -> bool:
    """Whether a file lies on a file system that several machines may use at once."""
    import psutil

    mounts = [(mount.mountpoint, mount.fstype) for mount in psutil.disk_partitions(all=True)]
    return SHARED.fullmatch(find_file_system(path.resolve(), mounts)) is not None


def find_file_system(path: Path, mounts: Iterable[tuple[str, str]]) -> str:
    """Type of the file system that `path` lies on, out of (folder, type) in order of mounting."""
    found = [
        (len(Path(folder).parts), number, kind)
        for number, (folder, kind) in enumerate(mounts)
        if path.is_relative_to(folder)
    ]
    return max(found)[2] if found else ""


def _read_version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _check_version(connection: sqlite3.Connection, path: Path) -> None:
    if (version := _read_version(connection)) != VERSION:
        raise LedgerError(
            f"{path} has version {version} of the tables, and this program knows {VERSION}: a newer one wrote it. "
            "Update sacpo_exp, or try: paths.outputs=DIR with another folder."
        )


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what SQLite or the file system can raise about the ledger into one LedgerError for the user."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise LedgerError(_explain(path, error)) from error


def _explain(path: Path, error: Exception) -> str:
    code = getattr(error, "sqlite_errorcode", None)
    primary = code & 0xFF if code is not None else None  # the rest of an extended code tells where
    if primary == sqlite3.SQLITE_FULL or getattr(error, "errno", None) == errno.ENOSPC:
        return (
            f"{path} can't grow: its disk is full. What was judged before is kept; "
            "free some space and run the same command again."
        )
    if primary == sqlite3.SQLITE_BUSY:
        return f"{path} is held by another process for more than {PATIENCE} s. Run the same command again."
    is_about_content = isinstance(error, sqlite3.DatabaseError) and code is None
    if is_about_content or primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return (
            f"{path} is damaged ({error}). Stored verdicts are not touched. Move {path}* away, bring an export back "
            f"(`sacpo ledger import FILE --outputs {path.parent}`) and run the same command again: "
            "what no export holds is asked again."
        )
    return f"{path} can't be read or written ({error}). Try: paths.outputs=DIR with a folder that can."
