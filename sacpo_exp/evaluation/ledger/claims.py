"""Who asks what at this moment, so that no two processes ask the same question."""

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from sacpo_exp.evaluation.ledger.texts import chunks, marks


class Claims:
    """The claims of one open ledger, its owner, among those of all.

    An owner lives as long as the lock on its file is held, which the operating system frees when the process dies,
    however it dies. All methods belong inside a transaction of the ledger that writes: it is what keeps two processes
    from looking at the lock files at the same time.

    Args:
        folder: of the lock files; made when something is claimed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._owner = uuid4().hex
        self._lock: FileLock | None = None

    def take(self, database: sqlite3.Connection, keys: Sequence[str]) -> set[str]:
        """Those of `keys` that no other living owner has; they are this owner's from now on."""
        self._sign_in()
        owners: dict[str, list[str]] = {}
        for part in chunks(keys):
            found = database.execute(f"SELECT key, owner FROM claims WHERE key IN ({marks(part)})", part)
            for key, owner in found:
                owners.setdefault(owner, []).append(key)
        owners.pop(self._owner, None)
        living = [owner for owner in owners if not self._bury_if_dead(database, owner)]
        free = set(keys).difference(*(owners[owner] for owner in living))
        rows = ((key, self._owner) for key in free)
        database.executemany("INSERT OR REPLACE INTO claims (key, owner) VALUES (?, ?)", rows)
        return free

    def give_back(self, database: sqlite3.Connection, keys: Iterable[str]) -> None:
        """Release those of `keys` that are this owner's."""
        rows = ((key, self._owner) for key in keys)
        database.executemany("DELETE FROM claims WHERE key = ? AND owner = ?", rows)

    def sign_out(self, database: sqlite3.Connection) -> None:
        """Release everything, and clear away the dead; nothing is to be claimed after it."""
        database.execute("DELETE FROM claims WHERE owner = ?", (self._owner,))
        self._path(self._owner).unlink(missing_ok=True)
        for owner in self._owners():
            self._bury_if_dead(database, owner)

    @property
    def has_to_sign_out(self) -> bool:
        """Whether anything was ever claimed: here, or by somebody who may have died since."""
        return self._lock is not None or bool(self._owners())

    def die(self) -> None:
        """Free the lock, so that whatever is still claimed here is anybody's."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _sign_in(self) -> None:
        """Lock this owner's file, at the first claim."""
        if self._lock is not None:
            return
        self._folder.mkdir(exist_ok=True)
        # Not of the thread that opened it: a ledger may be closed by another one.
        self._lock = FileLock(self._path(self._owner), thread_local=False)
        self._lock.acquire()

    def _bury_if_dead(self, database: sqlite3.Connection, owner: str) -> bool:
        if self._is_alive(owner):
            return False
        database.execute("DELETE FROM claims WHERE owner = ?", (owner,))
        self._path(owner).unlink(missing_ok=True)
        return True

    def _is_alive(self, owner: str) -> bool:
        if not self._path(owner).exists():
            return False
        try:
            with FileLock(self._path(owner)).acquire(timeout=0):
                return False
        except Timeout:
            return True

    def _owners(self) -> list[str]:
        return [path.stem.removeprefix("owner-") for path in self._folder.glob("owner-*.lock")]

    def _path(self, owner: str) -> Path:
        return self._folder / f"owner-{owner}.lock"
