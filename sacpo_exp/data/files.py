"""Raw rows from local files; their fields are checked later."""

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sacpo_exp.errors import DataError

SUFFIXES = (".json", ".jsonl", ".json.gz", ".jsonl.gz", ".csv", ".csv.gz", ".parquet")


@dataclass(frozen=True)
class RawRows:
    """Rows of one file, unchanged.

    Attributes:
        where: the name of the file as the user gave it, for messages.
        rows: (number, value); the number is the line of jsonl, else the position, both from 1.
    """

    where: str
    rows: list[tuple[int, Any]]


def find_files(path: str) -> list[Path]:
    """Return the file itself, or the files of a folder that `read_raw` can read, sorted by name.

    Raises:
        DataError: it does not exist or contains no such file.
    """
    place = Path(path).expanduser()
    with _explained(path):
        if not place.is_dir():
            place.stat()
            return [place]
        entries = sorted(place.iterdir())
    if any(file.name in ("dataset_dict.json", "state.json") for file in entries):
        raise DataError(f"{path} was written by `save_to_disk`, which is not read. Try: Dataset.to_parquet(FILE)")
    files = [file for file in entries if file.name.endswith(SUFFIXES) and not file.name.startswith(".")]
    if not files:
        raise DataError(f"{path} is a folder without files to read ({', '.join(SUFFIXES)}).")
    return files


def read_raw(path: Path, where: str) -> RawRows:
    """Return all rows of a json (list of objects), jsonl, csv or parquet file; the first three may be gzipped.

    The values of a csv file are texts. The content decides between json and jsonl. `where` names the file in messages.

    Raises:
        DataError: the file can't be opened, is cut off, is not UTF-8, or has bad syntax (with the line).
    """
    kind = path.name.removesuffix(".gz").rsplit(".", 1)[-1]
    with _explained(where):
        if kind == "parquet":
            return RawRows(where, _read_parquet(path, where))
        if kind == "csv":
            return RawRows(where, _read_csv(path))
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            text = file.read().decode("utf-8-sig")
        if not text.lstrip().startswith("["):
            return RawRows(where, list(_read_lines(text, where)))
        try:
            return RawRows(where, list(enumerate(json.loads(text), 1)))
        except json.JSONDecodeError as error:
            raise DataError(f"{where} is not valid JSON: line {error.lineno}: {error.msg}.") from error


def hash_files(path: str) -> str:
    """Return the hex SHA-256 of the files that `find_files` gives.

    Names inside a folder count; the name of a single file and the place of a folder do not.
    """
    place = Path(path).expanduser()
    total = hashlib.sha256()
    with _explained(path):
        for file in find_files(path):
            name = file.relative_to(place).as_posix() if file != place else ""
            with file.open("rb") as content:
                total.update(f"{name}\0{hashlib.file_digest(content, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


@contextmanager
def _explained(where: str) -> Iterator[None]:
    """Turn an error of reading a file into one sentence."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is not UTF-8 text: byte {error.start} can't be decoded.") from error
    except (OSError, EOFError, zlib.error, RecursionError, ValueError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise DataError(f"{where} can't be read: {reason}.") from error


def _read_lines(text: str, where: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), 1):  # other characters that end lines may stand in a text
        try:
            if line.strip():
                yield number, json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{where} is not valid JSON lines: line {number}: {error.msg}.") from error


def _read_csv(path: Path) -> list[tuple[int, Any]]:
    import pandas as pd

    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    return list(enumerate(frame.to_dict("records"), 1))


def _read_parquet(path: Path, where: str) -> list[tuple[int, Any]]:
    import pyarrow
    from pyarrow import parquet

    try:
        with path.open("rb") as file:
            return list(enumerate(parquet.ParquetFile(file).read().to_pylist(), 1))
    except pyarrow.ArrowException as error:
        raise DataError(f"{where} is not a whole parquet file: {error}.") from error
