"""Reading files of every kind, the messages about damaged ones, and their hash."""

import csv
import gzip
import json
import os
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sacpo_exp.config.data import DatasetConfig
from sacpo_exp.data.checks import PKU_FIELDS
from sacpo_exp.data.demo import generate_rows
from sacpo_exp.data.files import find_files, hash_files, read_raw
from sacpo_exp.data.forms import normalise
from sacpo_exp.errors import DataError

ROWS = [{name: row[name] for name in PKU_FIELDS} for row in generate_rows("heldout", 0)[:8]]
ROWS[2]["response_0"] = 'Several lines,\nwith "quotes"; commas and ünïcode.'
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def write_csv(path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, PKU_FIELDS)
        writer.writeheader()
        writer.writerows(ROWS)


WRITERS = {
    "rows.json": lambda path: path.write_text(json.dumps(ROWS), "utf-8"),
    "rows.jsonl": lambda path: path.write_bytes(LINES),
    "rows.jsonl.gz": lambda path: path.write_bytes(gzip.compress(LINES)),
    "rows.json.gz": lambda path: path.write_bytes(gzip.compress(json.dumps(ROWS).encode("utf-8-sig"))),
    "json in name.jsonl": lambda path: path.write_text(json.dumps(ROWS, indent=1), "utf-8"),
    "rows.csv": write_csv,
    "with a mark.csv": lambda path: pd.DataFrame(ROWS).to_csv(path, index=False, encoding="utf-8-sig"),
    "rows.csv.gz": lambda path: pd.DataFrame(ROWS).to_csv(path, index=False),
    "rows.parquet": lambda path: pd.DataFrame(ROWS).to_parquet(path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    raw = read_raw(tmp_path / name, name)
    assert raw.where == name
    assert list(normalise([raw], DatasetConfig(name="local")).rows) == ROWS


def test_rows_have_the_number_of_their_line(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_text('\ufeff\n{"a": 1}\n\n \n{"a": 2}\r\n', "utf-8")
    assert read_raw(path, "rows").rows == [(2, {"a": 1}), (5, {"a": 2})]
    path.write_text('[{"a": 1},\n\n{"a": 2}]', "utf-8")
    assert read_raw(path, "rows").rows == [(1, {"a": 1}), (2, {"a": 2})]
    path = tmp_path / "rows.csv"  # of several lines the first
    path.write_text('a,b\n1,"two\nlines"\n\n3,\n', "utf-8")
    assert read_raw(path, "rows").rows == [(2, {"a": "1", "b": "two\nlines"}), (5, {"a": "3", "b": ""})]


DAMAGED: dict[str, tuple[str, bytes, str]] = {
    "cut gzip": ("f.jsonl.gz", gzip.compress(LINES)[:-100], "F can't be unzipped to its end; it is cut off or damaged"),
    "no gzip": ("f.json.gz", LINES, "F can't be unzipped to its end; it is cut off or damaged (Not a gzipped file"),
    "latin-1 line": ("f.jsonl", b'{}\n{"a": "caf\xe9"}\n', "F is not UTF-8 text: byte 13 can't be decoded."),
    "latin-1 csv": ("f.csv", b"a\ncaf\xe9\n", "F is not UTF-8 text: byte 5 can't be decoded."),
    "cut line": ("f.jsonl", b'{}\n{"a"', "F is not valid JSON lines: line 2: Expecting ':' delimiter."),
    "cut list": ("f.json", b'[\n{},\n{"a"', "F is not valid JSON: line 3: Expecting ':' delimiter."),
    "deep list": ("f.json", b"[" * 100_000, "F can't be read: its values are nested too deeply."),
    "deep line": ("f.jsonl", b'{"a":' * 100_000, "F can't be read: line 1: maximum recursion depth exceeded"),
    "long number": ("f.json", b"[" + b"9" * 5000 + b"]", "F can't be read: Exceeds the limit (4300 digits)"),
    "fewer cells": ("f.csv", b"a,b\n1\n", "F is not valid CSV: line 2: it has 1 cells, but the header has 2."),
    "open quote": ("f.csv", b'a,b\n1,2\n1,"2\n3,4\n', "F is not valid CSV: line 3: unexpected end of data."),
    "no parquet": ("f.parquet", b"PAR1 and no more", "F is not a whole parquet file: Parquet magic bytes not found"),
}


@pytest.mark.parametrize(("name", "content", "message"), DAMAGED.values(), ids=list(DAMAGED))
def test_a_damaged_file_is_told_in_one_sentence(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_raw(tmp_path / name, "F")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


KINDS = ["rows.json", "rows.jsonl", "rows.csv", "rows.parquet", "rows.jsonl.gz"]


@pytest.mark.parametrize("name", KINDS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_bytes_end_in_anything_but_a_data_error(tmp_path: Path, name: str, data: st.DataObject) -> None:
    path = tmp_path / name
    if not path.exists():
        WRITERS[name](path)
        path.rename(path.with_name(f"{name}.good"))
    good = path.with_name(f"{name}.good").read_bytes()
    at = data.draw(st.integers(0, len(good)))
    junk = data.draw(st.binary(max_size=8))
    kept = data.draw(st.sampled_from([good[at:], good[at + len(junk) :], b""]))
    path.write_bytes(good[:at] + junk + kept)
    with suppress(DataError):
        normalise([read_raw(path, path.name)], DatasetConfig(name="local"))
    path.unlink()


def test_a_folder_gives_its_files_by_name(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.parquet", "c.csv", "README.md", ".hidden.json", "d.json.gz"):
        (tmp_path / name).touch()
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "e.json").touch()
    assert [file.name for file in find_files(str(tmp_path))] == ["a.parquet", "b.jsonl", "c.csv", "d.json.gz"]
    assert find_files(str(tmp_path / "README.md")) == [tmp_path / "README.md"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"/nothing\.json can't be read: No such file or directory\.$"):
        find_files(f"{tmp_path}/nothing.json")
    with pytest.raises(DataError, match=r" is a folder without files to read \(\.json, "):
        find_files(f"{tmp_path}/empty")


def test_the_hash_is_of_contents_and_of_names_in_a_folder(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        (folder / "a.jsonl").write_bytes(LINES)
        (folder / "b.jsonl").write_bytes(b"{}")
    same = hash_files(str(one))
    assert same == hash_files(str(other))
    assert hash_files(f"{one}/a.jsonl") == hash_files(f"{other}/a.jsonl") != hash_files(f"{one}/b.jsonl")
    (other / "notes.txt").write_text("not data")
    assert hash_files(str(other)) == same
    (other / "b.jsonl").rename(other / "c.jsonl")
    assert hash_files(str(other)) != same
    (one / "b.jsonl").write_bytes(b"{} ")
    assert hash_files(str(one)) != same
    with pytest.raises(DataError, match="can't be read: No such file"):
        hash_files(f"{one}/z.jsonl")


def test_a_folder_of_save_to_disk_is_refused_with_what_would_work(tmp_path: Path) -> None:
    Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match=r"was written by `save_to_disk`.* Try: Dataset\.to_parquet"):
        hash_files(f"{tmp_path}/saved")


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_a_pipe_is_refused_before_it_is_opened(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    for read in (lambda: read_raw(tmp_path / name, name), lambda: hash_files(str(tmp_path))):
        with pytest.raises(DataError, match="pipe"):
            read()
