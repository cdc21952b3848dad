"""Batches that were handed in and are not collected yet. All functions belong inside the ledger's transactions."""

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime


def add(database: sqlite3.Connection, batch_id: str, base_url: str, keys: Sequence[str]) -> None:
    """Remember a batch with the keys of its questions."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    database.execute("INSERT INTO batches (id, base_url, created) VALUES (?, ?, ?)", (batch_id, base_url, now))
    rows = ((batch_id, place, key) for place, key in enumerate(keys))
    database.executemany("INSERT INTO batch_keys (batch, place, key) VALUES (?, ?, ?)", rows)


def find_open(database: sqlite3.Connection, base_url: str) -> dict[str, list[str]]:
    """Keys of a server's batches by id, the oldest batch first."""
    query = """
        SELECT id, key FROM batches LEFT JOIN batch_keys ON batch = id
        WHERE base_url = ? ORDER BY batches.rowid, place
    """
    found: dict[str, list[str]] = {}
    for batch_id, key in database.execute(query, (base_url,)):
        found.setdefault(batch_id, []).extend([] if key is None else [key])
    return found


def close(database: sqlite3.Connection, batch_id: str) -> None:
    """Forget a batch and its keys."""
    database.execute("DELETE FROM batch_keys WHERE batch = ?", (batch_id,))
    database.execute("DELETE FROM batches WHERE id = ?", (batch_id,))
