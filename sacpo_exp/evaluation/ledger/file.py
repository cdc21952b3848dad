"""The ledger's file: its tables, how it is opened, and the message when it fails."""

import errno
import re
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil
from filelock import FileLock

from sacpo_exp.config.schema import Journal
from sacpo_exp.errors import LedgerError

#: Raised with every change of the tables; stored in the file as `PRAGMA user_version`.
VERSION: Final = 2
PATIENCE = 60  # seconds that one process waits for another to finish writing
#: File systems of several machines, where SQLite's write-ahead log, which is shared memory, damages the file.
SHARED: Final = re.compile(r"nfs\d?|lustre|gpfs|beegfs\w*|ceph|cifs|smb\w*|afs|9p|fuse\..+")

TABLES: Final = f"""
BEGIN IMMEDIATE;
CREATE TABLE judgments (key TEXT PRIMARY KEY, question BLOB NOT NULL, answer TEXT NOT NULL);
CREATE TABLE claims (key TEXT PRIMARY KEY, owner TEXT NOT NULL, renewed REAL NOT NULL);
CREATE INDEX claims_by_owner ON claims (owner);
CREATE TABLE batches (id TEXT PRIMARY KEY, base_url TEXT NOT NULL, questions BLOB);
PRAGMA user_version = {VERSION};
COMMIT;
"""


def open_database(path: Path, journal: Journal | None) -> sqlite3.Connection:
    """Return a connection that commits every statement outside of a transaction; missing tables are made.

    Without a `journal`: `delete` on a file system that machines share, elsewhere what the file has, or `wal`.
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # SQLite does not wait for its turn when two processes change a file's journal.
        with FileLock(f"{path}.lock"):
            database = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
            try:
                _prepare(database, path, journal)
            except BaseException:
                database.close()
                raise
        return database


def _prepare(database: sqlite3.Connection, path: Path, journal: Journal | None) -> None:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if journal is None and _is_shared(path):
        journal = Journal.delete
    if not tables:
        database.execute(f"PRAGMA journal_mode = {(journal or Journal.wal).value}")
        database.executescript(TABLES)
    elif version != VERSION:
        what = f"by another version of sacpo_exp (tables {version}, here {VERSION})" if version else "by something else"
        raise LedgerError(
            f"{path} was written {what}. Try: paths.outputs=DIR with another folder; judgments move from one version "
            "to another by `sacpo ledger export FILE` there and `sacpo ledger import FILE` here."
        )
    elif journal is not None:
        database.execute(f"PRAGMA journal_mode = {journal.value}")
    # Not synced at each commit: a killed process loses nothing by it, and after a power cut the file is whole and at
    # most the last judgments are asked again.
    database.execute("PRAGMA synchronous = NORMAL")


def _is_shared(path: Path) -> bool:
    """Return whether a file is on a file system that several machines may use at once."""
    mounts = sorted(psutil.disk_partitions(all=True), key=lambda mount: len(mount.mountpoint))
    kinds = [mount.fstype for mount in mounts if path.resolve().is_relative_to(mount.mountpoint)]
    return bool(kinds) and SHARED.fullmatch(kinds[-1]) is not None


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what SQLite or the file system can raise about the ledger into one LedgerError for the user."""
    try:
        yield
    except (sqlite3.Error, OSError, zlib.error, ValueError, TypeError, KeyError) as error:
        raise LedgerError(_explain(path, error)) from error


def _explain(path: Path, error: Exception) -> str:
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF  # the rest of an extended code tells where
    if primary == sqlite3.SQLITE_FULL or getattr(error, "errno", None) == errno.ENOSPC:
        return (
            f"{path} can't grow: its disk is full. What was judged before is kept; "
            "free some space and run the same command again."
        )
    if primary == sqlite3.SQLITE_BUSY:
        return f"{path} is held by another process for more than {PATIENCE} s. Run the same command again."
    is_about_content = code is None and not isinstance(error, OSError)
    if is_about_content or primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return (
            f"{path} is damaged ({error}). Stored verdicts are not affected. Move {path}* away, import an export "
            f"(`sacpo ledger import FILE --outputs {path.parent}`) and run the same command again: "
            "what no export holds is asked again."
        )
    return f"{path} can't be read or written ({error}). Try: paths.outputs=DIR with a folder that can."
