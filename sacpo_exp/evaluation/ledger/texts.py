"""Texts of the ledger, each kept once: a pair of responses is in many judgments, and in the messages of each."""

import hashlib
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

CHUNK = 500  # values in one IN list; older SQLite takes 999

Messages = tuple[tuple[str, str], ...]
Parts = list[tuple[str, list[int]]]


def to_bytes(text: str) -> bytes:
    """UTF-8 that also has a place for halves of surrogate pairs: JSON from a server can hold them."""
    return text.encode("utf-8", "surrogatepass")


def to_cell(text: str) -> str | bytes:
    """`text` as SQLite takes it: as bytes only where it is no valid Unicode."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return to_bytes(text)
    return text


def from_cell(cell: Any) -> Any:
    """What `to_cell` was given; numbers as they are."""
    return cell.decode("utf-8", "surrogatepass") if isinstance(cell, bytes) else cell


def put_text(database: sqlite3.Connection, text: str) -> int:
    """Id of the text, which is stored if it is new."""
    content = to_bytes(text)
    digest = hashlib.sha256(content).digest()
    if found := database.execute("SELECT id FROM texts WHERE hash = ?", (digest,)).fetchone():
        return int(found[0])
    insert = "INSERT INTO texts (hash, content) VALUES (?, ?)"
    return int(database.execute(insert, (digest, zlib.compress(content))).lastrowid or 0)


def get_texts(database: sqlite3.Connection, ids: Iterable[int]) -> dict[int, str]:
    """Texts by id; zlib's checksum tells of damage."""
    found: dict[int, str] = {}
    for part in chunks(sorted(set(ids))):
        rows = database.execute(f"SELECT id, content FROM texts WHERE id IN ({marks(part)})", part)
        found.update((number, zlib.decompress(content).decode("utf-8", "surrogatepass")) for number, content in rows)
    return found


def put_messages(database: sqlite3.Connection, messages: Messages, known: Sequence[str]) -> Parts:
    """(role, ids of the texts that its content is made of) of each message; `known` texts are not stored again."""
    return [(role, [put_text(database, piece) for piece in cut_out(content, known)]) for role, content in messages]


def cut_out(content: str, known: Sequence[str]) -> list[str]:
    """`content` in pieces, with the last place of each known text a piece of its own, the longest text first.

    Joined they are `content` again, whatever a template did with the texts.
    """
    pieces = [(content, False)]
    for text in sorted({text for text in known if text}, key=len, reverse=True):
        for place, (piece, is_known) in enumerate(pieces):
            if not is_known and text in piece:
                before, _, after = piece.rpartition(text)
                pieces[place : place + 1] = [(before, False), (text, True), (after, False)]
                break
    return [piece for piece, _ in pieces if piece]


def chunks(values: Sequence[int] | Sequence[str]) -> Iterator[tuple[int | str, ...]]:
    """Parts that fit into one IN list."""
    return (tuple(values[start : start + CHUNK]) for start in range(0, len(values), CHUNK))


def marks(values: Sequence[int | str]) -> str:
    """As many placeholders as there are values."""
    return ",".join("?" * len(values))
