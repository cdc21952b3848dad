"""Questions and answers as rows of the ledger's tables, and back."""

import json
import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from sacpo_exp.evaluation.ledger.records import Answer, Question, State
from sacpo_exp.evaluation.ledger.texts import from_cell, get_texts, put_messages, put_text, to_cell

ANSWER_COLUMNS = tuple(field.name for field in fields(Answer))
_PLAIN = ("criterion", "prompt_id", "repeat", "model", "base_url", "template")
_TEXTS = ("prompt", "first", "second")


def put_judgment(database: sqlite3.Connection, question: Question, answer: Answer) -> None:
    """Insert the judgment, or replace the one of the same key, inside the caller's transaction."""
    known = [getattr(question, name) for name in _TEXTS]
    row = {name: getattr(question, name) for name in _PLAIN} | {
        "key": question.key,
        "answer_order": question.order,
        "sampling": json.dumps(question.sampling),
        "messages": json.dumps(put_messages(database, question.messages, known), separators=(",", ":")),
        "min_score": question.scale[0],
        "max_score": question.scale[1],
    }
    row |= {name: put_text(database, text) for name, text in zip(_TEXTS, known, strict=True)}
    row |= {name: getattr(answer, name) for name in ANSWER_COLUMNS}
    cells = {name: to_cell(value) if isinstance(value, str) else value for name, value in row.items()}
    names, marks = ",".join(cells), ",".join(f":{name}" for name in cells)
    database.execute(f"INSERT OR REPLACE INTO judgments ({names}) VALUES ({marks})", cells)


def read_answer(row: Mapping[str, Any]) -> Answer:
    """The answer that a row holds.

    Raises:
        sqlite3.DatabaseError: it does not hold what was written.
    """
    values = {name: from_cell(row[name]) for name in ANSWER_COLUMNS}
    return Answer(**(values | {"state": read_state_cell(row["state"])}))


def read_state_cell(cell: Any) -> State:
    """A state from its column; raises sqlite3.DatabaseError if there is none of that name."""
    try:
        return State(cell)
    except ValueError as error:
        raise sqlite3.DatabaseError(f"a judgment has the state {cell!r}") from error


def read_judgments(database: sqlite3.Connection, after: str, limit: int) -> list[tuple[Question, Answer]]:
    """Up to `limit` judgments whose keys come after `after`, in order of key.

    Raises:
        sqlite3.DatabaseError: a row does not hold what was written.
    """
    rows = database.execute("SELECT * FROM judgments WHERE key > ? ORDER BY key LIMIT ?", (after, limit)).fetchall()
    try:
        texts = get_texts(database, (number for row in rows for number in _text_ids(row)))
        return [(_read_question(row, texts), read_answer(row)) for row in rows]
    except (ValueError, TypeError, KeyError, zlib.error) as error:
        raise sqlite3.DatabaseError(f"a judgment can't be read: {error!r}") from error


def _text_ids(row: Mapping[str, Any]) -> Iterator[int]:
    yield from (row[name] for name in _TEXTS)
    for _, parts in json.loads(row["messages"]):
        yield from parts


def _read_question(row: Mapping[str, Any], texts: Mapping[int, str]) -> Question:
    values = {name: from_cell(row[name]) for name in _PLAIN} | {name: texts[row[name]] for name in _TEXTS}
    messages = tuple((role, "".join(texts[part] for part in parts)) for role, parts in json.loads(row["messages"]))
    sampling = json.loads(row["sampling"])
    return Question(**values, sampling=sampling, messages=messages, scale=(row["min_score"], row["max_score"]))
