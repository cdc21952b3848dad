"""Raw rows out of local files, before anything is known of their fields."""

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
_BOM = b"\xef\xbb\xbf"
_CHUNK = 1 << 16


@dataclass(frozen=True)
class RawRows:
    """Rows of one file as they stand in it.

    Attributes:
        where: the file's name as the user gave it, for messages.
        rows: (number, value): the line where the file has lines, else the position, both from 1.
        is_text: every value is a text, whatever it means (csv).
    """

    where: str
    rows: list[tuple[int, Any]]
    is_text: bool = False


def find_files(path: str) -> list[Path]:
    """The file itself, or the files in a folder that `read_raw` can read, by name.

    Raises:
        DataError: there is nothing of that name, or nothing in it.
    """
    place = Path(path).expanduser()
    with _explained(path):
        if not place.is_dir():
            place.stat()
            return [place]
        entries = sorted(place.iterdir())
    files = [file for file in entries if file.name.endswith(SUFFIXES) and not file.name.startswith(".")]
    if not files:
        raise DataError(f"{path} is a folder without files that could be read ({', '.join(SUFFIXES)}).")
    return files


def read_raw(path: Path, where: str) -> RawRows:
    """All rows of a json (list of objects), jsonl, csv or parquet file; the first three may be gzipped.

    json and jsonl are told apart by their content. Nothing is checked but that the file can be read.

    Args:
        path: the file.
        where: its name for messages.

    Raises:
        DataError: the file can't be opened, is cut off, is not UTF-8, or has bad syntax, and in which line.
    """
    kind = path.name.removesuffix(".gz").rsplit(".", 1)[-1]
    with _explained(where):
        if kind == "csv":
            return RawRows(where, _read_csv(path, where), is_text=True)
        if kind == "parquet":
            return RawRows(where, _read_parquet(path, where))
        return RawRows(where, _read_list(path, where) if _begins_list(path) else list(_read_lines(path, where)))


def read_object(path: Path, where: str) -> dict[str, Any] | None:
    """The one object that a json file, gzipped or not, holds as a whole; None if it holds anything else.

    Raises:
        DataError: the file can't be opened, is cut off, or is not UTF-8.
    """
    if not path.name.endswith((".json", ".json.gz")):
        return None
    with _explained(where):
        with _open(path) as file:
            text = file.read().decode("utf-8-sig")
        try:
            value = json.loads(text) if text.lstrip().startswith("{") else None
        except json.JSONDecodeError:  # lines of objects, or none at all, of which `read_raw` has more to say
            return None
    return value if isinstance(value, dict) else None


def hash_files(path: str) -> str:
    """Hex SHA-256 over the content of what `find_files` gives, or of the files of a saved dataset.

    In a folder the names inside it count too; where it lies does not, nor does a single file's name.

    Raises:
        DataError: a file can't be read.
    """
    place = Path(path).expanduser()
    total = hashlib.sha256()
    with _explained(path):
        for file in _files_of_saved(place) if is_saved_dataset(path) else find_files(path):
            name = file.relative_to(place).as_posix() if file != place else ""
            _require_end(file)
            with file.open("rb") as content:
                total.update(f"{name}\0{hashlib.file_digest(content, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def is_saved_dataset(path: str) -> bool:
    """Whether this is a folder that `save_to_disk` of the datasets library wrote."""
    place = Path(path).expanduser()
    is_single = (place / "dataset_info.json").is_file() and (place / "state.json").is_file()
    return is_single or (place / "dataset_dict.json").is_file()


def _files_of_saved(folder: Path) -> list[Path]:
    # datasets puts its caches beside the data: they come and go without changing it
    return sorted(
        file
        for file in folder.rglob("*")
        if file.suffix in (".arrow", ".json") and not file.name.startswith(("cache-", "tmp"))
    )


@contextmanager
def _explained(where: str) -> Iterator[None]:
    """Turn whatever reading a file can raise into one sentence."""
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


def _open(path: Path) -> gzip.GzipFile | io.BufferedReader:
    _require_end(path)
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def _require_end(path: Path) -> None:
    """Raises OSError for a pipe, at which who opens it waits for a writer, and for a device, which may have no end."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError("it is a pipe or a device; copy what it gives into a file")


def _begins_list(path: Path) -> bool:
    with _open(path) as file:
        while chunk := file.read(_CHUNK):
            if start := chunk.removeprefix(_BOM).lstrip():
                return start.startswith(b"[")
    return False


def _read_list(path: Path, where: str) -> list[tuple[int, Any]]:
    with _open(path) as file:
        text = file.read().decode("utf-8-sig")
    try:
        return list(enumerate(json.loads(text), 1))
    except json.JSONDecodeError as error:
        raise DataError(f"{where} is not valid JSON: line {error.lineno}: {error.msg}.") from error


def _read_lines(path: Path, where: str) -> Iterator[tuple[int, Any]]:
    with _open(path) as file:
        for number, line in enumerate(file, 1):  # of bytes: ends at "\n" only
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                if text.strip():
                    yield number, json.loads(text)
            except UnicodeDecodeError as error:
                place = f"line {number}: byte {error.start} of it"
                raise DataError(f"{where} is not UTF-8 text: {place} can't be decoded.") from error
            except json.JSONDecodeError as error:
                raise DataError(f"{where} is not valid JSON lines: line {number}: {error.msg}.") from error
            except (RecursionError, ValueError) as error:
                raise DataError(f"{where} can't be read: line {number}: {error}.") from error


def _read_csv(path: Path, where: str) -> list[tuple[int, Any]]:
    with _open(path) as file:
        text = file.read().decode("utf-8-sig")
    limit = csv.field_size_limit(len(text) + 1)  # the library's own is 128 KiB
    try:
        return list(_read_records(text, where))
    finally:
        csv.field_size_limit(limit)


def _read_records(text: str, where: str) -> Iterator[tuple[int, Any]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1  # in which a record begins; a cell may go over several
    try:
        header = next(reader, [])
        line = reader.line_num + 1
        for cells in reader:
            if cells:
                yield line, _name_cells(header, cells, f"{where} is not valid CSV: line {line}")
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{where} is not valid CSV: line {line}: {error}.") from error


def _name_cells(header: list[str], cells: list[str], place: str) -> dict[str, str]:
    if len(cells) != len(header):
        raise DataError(f"{place} has {len(cells)} cells, but the header has {len(header)}.")
    return dict(zip(header, cells, strict=True))


def _read_parquet(path: Path, where: str) -> list[tuple[int, Any]]:
    import pyarrow
    from pyarrow import parquet

    try:
        _require_end(path)
        with path.open("rb") as file:
            return list(enumerate(parquet.ParquetFile(file).read().to_pylist(), 1))
    except pyarrow.ArrowException as error:
        raise DataError(f"{where} is not a whole parquet file: {error}.") from error
