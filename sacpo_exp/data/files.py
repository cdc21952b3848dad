"""Raw rows from local files; their fields are checked later."""

import csv
import gzip
import hashlib
import io
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
        rows: (number, value); the number is the line if the file has lines, else the position, both from 1.
        is_text: every value is a text (csv).
    """

    where: str
    rows: list[tuple[int, Any]]
    is_text: bool = False


def find_files(path: str) -> list[Path]:
    """Return the file itself, or those of a folder that `read_raw` can read, by name; DataError if there are none."""
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

    The content decides between json and jsonl. `where` names the file in messages.

    Raises:
        DataError: the file can't be opened, is cut off, is not UTF-8, or has bad syntax (with the line).
    """
    kind = path.name.removesuffix(".gz").rsplit(".", 1)[-1]
    with _explained(where):
        if kind == "parquet":
            return RawRows(where, _read_parquet(path, where))
        text = _read_text(path)
        if kind == "csv":
            return RawRows(where, _read_csv(text, where), is_text=True)
        if not text.lstrip().startswith("["):
            return RawRows(where, list(_read_lines(text, where)))
        try:
            return RawRows(where, list(enumerate(json.loads(text), 1)))
        except json.JSONDecodeError as error:
            raise DataError(f"{where} is not valid JSON: line {error.lineno}: {error.msg}.") from error


def read_object(path: Path, where: str) -> dict[str, Any] | None:
    """Return the object that a json file, gzipped or not, consists of, or None; DataError if it can't be read."""
    if not path.name.endswith((".json", ".json.gz")):
        return None
    with _explained(where):
        text = _read_text(path)
        try:
            value = json.loads(text) if text.lstrip().startswith("{") else None
        except json.JSONDecodeError:  # lines of objects, or bad syntax, which `read_raw` reports
            return None
    return value if isinstance(value, dict) else None


def hash_files(path: str) -> str:
    """Return the hex SHA-256 of the files that `find_files` gives.

    Names inside a folder count; the name of a single file and the place of a folder do not.
    """
    place = Path(path).expanduser()
    total = hashlib.sha256()
    with _explained(path):
        for file in find_files(path):
            name = file.relative_to(place).as_posix() if file != place else ""
            _require_end(file)
            with file.open("rb") as content:
                total.update(f"{name}\0{hashlib.file_digest(content, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


@contextmanager
def _explained(where: str) -> Iterator[None]:
    """Turn an error of reading a file into one sentence."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{where} can't be unzipped to its end; it is cut off or damaged ({error}).") from error
    except OSError as error:
        raise DataError(f"{where} can't be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is not UTF-8 text: byte {error.start} can't be decoded.") from error
    except RecursionError as error:
        raise DataError(f"{where} can't be read: its values are nested too deeply.") from error
    except ValueError as error:  # a number with thousands of digits, a date beyond the calendar
        raise DataError(f"{where} can't be read: {error}.") from error


def _read_text(path: Path) -> str:
    _require_end(path)
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        return file.read().decode("utf-8-sig")


def _require_end(path: Path) -> None:
    """Raise OSError for a pipe, which blocks until somebody writes, and for a device, which may have no end."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError("it is a pipe or a device; write its content into a file")


def _read_lines(text: str, where: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), 1):  # other characters that end lines may stand in a text
        try:
            if line.strip():
                yield number, json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{where} is not valid JSON lines: line {number}: {error.msg}.") from error
        except (RecursionError, ValueError) as error:
            raise DataError(f"{where} can't be read: line {number}: {error}.") from error


def _read_csv(text: str, where: str) -> list[tuple[int, Any]]:
    limit = csv.field_size_limit(len(text) + 1)  # the default is 128 KiB
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line, rows = 1, []  # the line in which a record begins; a cell may span several
    try:
        header = next(reader, [])
        line = reader.line_num + 1
        for cells in reader:
            if cells and len(cells) != len(header):
                raise csv.Error(f"it has {len(cells)} cells, but the header has {len(header)}")
            if cells:
                rows.append((line, dict(zip(header, cells, strict=True))))
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{where} is not valid CSV: line {line}: {error}.") from error
    finally:
        csv.field_size_limit(limit)
    return rows


def _read_parquet(path: Path, where: str) -> list[tuple[int, Any]]:
    import pyarrow
    from pyarrow import parquet

    try:
        _require_end(path)
        with path.open("rb") as file:
            return list(enumerate(parquet.ParquetFile(file).read().to_pylist(), 1))
    except pyarrow.ArrowException as error:
        raise DataError(f"{where} is not a whole parquet file: {error}.") from error
