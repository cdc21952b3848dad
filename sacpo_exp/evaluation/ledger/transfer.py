"""Judgments as lines of JSON: exported from one ledger, imported into another."""

import gzip
import json
import os
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from sacpo_exp.errors import ConfigError, DataError
from sacpo_exp.evaluation.ledger.ledger import Ledger
from sacpo_exp.evaluation.ledger.records import Answer, Question

SUFFIXES: Final = (".jsonl", ".jsonl.gz")
OPENERS: Final[dict[str, Any]] = {".gz": gzip.open}


def export_judgments(ledger: Ledger, path: Path) -> int:
    """Write every judgment to `path`, one object per line with all fields and the key, and return how many.

    The file is written whole or not at all.
    """
    if not path.name.endswith(SUFFIXES):
        raise ConfigError(f"An export must be a {' or '.join(SUFFIXES)} file, but is {path}.")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    count = 0
    try:
        with OPENERS.get(path.suffix, open)(partial, "wb") as file:
            for question, answer in ledger.judgments():
                file.write(json.dumps({"key": question.key} | asdict(question) | asdict(answer)).encode() + b"\n")
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
    return ledger.merge(_read_judgments(path))


def _read_judgments(path: Path) -> Iterator[tuple[Question, Answer]]:
    from pydantic import TypeAdapter, ValidationError

    questions, answers = TypeAdapter(Question), TypeAdapter(Answer)
    try:
        with OPENERS.get(path.suffix, open)(path, "rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    question, answer = questions.validate_json(line), answers.validate_json(line)
                    key = json.loads(line).get("key")
                except ValidationError as error:
                    first = error.errors()[0]
                    field = ".".join(map(str, first["loc"])) or "the line"
                    raise DataError(f"{path}, row {number}: `{field}`: {first['msg']}.") from error
                if key != question.key:
                    message = f"must be the hash of the row's fields, {question.key}, but is {key}"
                    raise DataError(f"{path}, row {number}: `key` {message}.")
                yield question, answer
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} can't be unzipped to its end; it is cut off or damaged ({error}).") from error
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}.") from error
