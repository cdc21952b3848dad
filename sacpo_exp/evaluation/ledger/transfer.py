"""Judgments as lines of JSON: taken from one ledger, brought into another."""

import gzip
import io
import json
import os
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from sacpo_exp.data.checks import BadRowError, check_object, show
from sacpo_exp.errors import ConfigError, DataError
from sacpo_exp.evaluation.ledger.ledger import Ledger
from sacpo_exp.evaluation.ledger.records import Answer, Question, State

SUFFIXES = (".jsonl", ".jsonl.gz")

Kinds = tuple[type, ...]
_TEXT, _COUNT, _NUMBER, _LIST, _OBJECT = (str,), (int,), (int, float), (list,), (dict,)
_WORDS = {_TEXT: "a text", _COUNT: "a count", _NUMBER: "a number", _LIST: "a list", _OBJECT: "an object"}
_QUESTION_FIELDS: dict[str, Kinds] = {
    **dict.fromkeys(("criterion", "prompt_id", "prompt", "first", "second", "model", "base_url", "template"), _TEXT),
    "repeat": _COUNT,
    "sampling": _OBJECT,
}
_ANSWER_FIELDS: dict[str, Kinds] = {"attempts": _COUNT, "via": _TEXT, "seconds": _NUMBER, "created": _TEXT}
_ANSWER_OPTIONS: dict[str, Kinds] = {
    **dict.fromkeys(("raw", "finish_reason", "error", "answered_by"), _TEXT),
    **dict.fromkeys(("prompt_tokens", "cached_tokens", "completion_tokens"), _COUNT),
}


def export_judgments(ledger: Ledger, path: Path) -> int:
    """Write every judgment to `path`, one object per line with all fields and the key, in order of key.

    The file is there whole or not at all, and the same judgments give the same bytes.

    Returns:
        How many there are.

    Raises:
        ConfigError: the name ends in none of `SUFFIXES`, or nothing can be written there.
    """
    if not path.name.endswith(SUFFIXES):
        raise ConfigError(f"An export must be a {' or '.join(SUFFIXES)} file, but is {path}.")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    n = 0
    try:
        with _create(partial, is_zipped=path.suffix == ".gz") as file:
            for question, answer in ledger.judgments():
                line = {"key": question.key} | asdict(question) | asdict(answer)
                file.write(json.dumps(line).encode() + b"\n")  # escaped: so half a surrogate pair can be told, too
                n += 1
        partial.replace(path)
    except OSError as error:
        raise ConfigError(f"{path} can't be written: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    return n


def import_judgments(ledger: Ledger, path: Path) -> Counter[str]:
    """Add the judgments of an export, all or none; what the ledger has an answer for stays as it is.

    Returns:
        As `Ledger.merge`.

    Raises:
        DataError: the file can't be read, a row lacks a field or has a wrong one, or its key is not that of its fields.
    """
    return ledger.merge(_read_judgments(path))


def _read_judgments(path: Path) -> Iterator[tuple[Question, Answer]]:
    for number, line in enumerate(_read_lines(path), 1):
        try:
            yield _read_judgment(json.loads(line))
        except BadRowError as error:
            raise DataError(f"{path}, row {number}: {error}.") from error
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, row {number} is not an object of JSON: {error}.") from error


def _read_judgment(row: Any) -> tuple[Question, Answer]:
    check_object(row)
    question = Question(
        **{name: _take(row, name, kinds) for name, kinds in _QUESTION_FIELDS.items()},
        messages=tuple(_read_message(message) for message in _take(row, "messages", _LIST)),
        scale=_read_scale(_take(row, "scale", _LIST)),
    )
    if row.get("key") != question.key:
        raise BadRowError("key", f"must be the hash of the row's fields, {question.key}, but is {show(row.get('key'))}")
    values = {name: _take(row, name, kinds) for name, kinds in _ANSWER_FIELDS.items()}
    values |= {name: _take(row, name, kinds, is_optional=True) for name, kinds in _ANSWER_OPTIONS.items()}
    return question, Answer(state=_read_state(_take(row, "state", _TEXT)), **values)


def _take(row: dict[str, Any], name: str, kinds: Kinds, is_optional: bool = False) -> Any:
    if name not in row:
        raise BadRowError(name, "is missing")
    value = row[name]
    if not _is_of(value, kinds) and not (is_optional and value is None):
        raise BadRowError(name, f"must be {_WORDS[kinds]}{' or null' * is_optional}, but is {show(value)}")
    return value


def _is_of(value: Any, kinds: Kinds) -> bool:
    if isinstance(value, int) and not (0 <= value < 2**63):  # what SQLite can hold
        return False
    return isinstance(value, kinds) and not isinstance(value, bool)


def _read_message(message: Any) -> tuple[str, str]:
    if not (isinstance(message, list) and len(message) == 2 and all(isinstance(part, str) for part in message)):
        raise BadRowError("messages", f"must hold pairs of role and content, but has {show(message)}")
    return message[0], message[1]


def _read_scale(scale: list[Any]) -> tuple[float, float]:
    if len(scale) != 2 or any(type(end) not in _NUMBER for end in scale):
        raise BadRowError("scale", f"must be two numbers, but is {show(scale)}")
    return float(scale[0]), float(scale[1])


def _read_state(name: str) -> State:
    if name not in list(State):
        raise BadRowError("state", f"must be one of {', '.join(State)}, but is {show(name)}")
    return State(name)


def _read_lines(path: Path) -> Iterator[bytes]:
    """One by one: an export may be larger than memory."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            yield from file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} can't be unzipped to its end; it is cut off or damaged ({error}).") from error
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}.") from error


@contextmanager
def _create(path: Path, is_zipped: bool) -> Iterator[IO[bytes]]:
    with path.open("wb") as file:
        if not is_zipped:
            yield file
            return
        # Neither name nor time in its header; through a buffer, or each line would be passed on alone.
        with gzip.GzipFile("", "wb", 6, file, mtime=0) as zipped, io.BufferedWriter(zipped) as buffered:
            yield buffered
