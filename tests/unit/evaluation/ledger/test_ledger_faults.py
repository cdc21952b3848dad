"""Damage, full disks and foreign files end in one sentence that names the file and what to do."""

import os
import sqlite3
from pathlib import Path

import pytest
from judgments import OK, make_question

from sacpo_exp.errors import LedgerError
from sacpo_exp.evaluation.ledger import Ledger
from sacpo_exp.evaluation.ledger.file import VERSION


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger of 300 judgments, closed."""
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as ledger:
        ledger.merge((make_question(str(n)), OK) for n in range(300))
    return path


def overwrite(path: Path, start: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(content)


def change(path: Path, statement: str) -> None:
    database = sqlite3.connect(path)
    database.executescript(statement)
    database.close()


DAMAGE = {
    "no database": lambda path: overwrite(path, 0, b"not a database at all"),
    "cut in half": lambda path: os.truncate(path, path.stat().st_size // 2 // 4096 * 4096),
    "pages of rubbish": lambda path: overwrite(path, 4096, os.urandom(path.stat().st_size - 4096)),
    "another state": lambda path: change(path, """UPDATE judgments SET answer = '{"state": "great"}'"""),
    "half an answer": lambda path: change(path, "UPDATE judgments SET answer = substr(answer, 1, 9)"),
    "a question that is none": lambda path: change(path, "UPDATE judgments SET question = x'789c00'"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_called_so(path: Path, damage: str) -> None:
    DAMAGE[damage](path)
    with pytest.raises(LedgerError) as caught, Ledger(path) as ledger:
        list(ledger.judgments())
    assert str(caught.value).startswith(f"{path} is damaged (")
    assert f"sacpo ledger import FILE --outputs {path.parent}" in str(caught.value)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (f"PRAGMA user_version = {VERSION - 1}", rf"another version of sacpo_exp \(tables {VERSION - 1}, here"),
        ("PRAGMA user_version = 0", "was written by something else"),
    ],
)
def test_a_file_of_another_program_or_version_is_not_touched(path: Path, statement: str, message: str) -> None:
    change(path, f"PRAGMA journal_mode = delete; {statement};")
    content = path.read_bytes()
    with pytest.raises(LedgerError, match=f"{message}.*sacpo ledger export FILE"):
        Ledger(path)
    assert path.read_bytes() == content


def test_an_empty_file_becomes_a_ledger(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").touch()
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.record(make_question(), OK)
        assert len(list(ledger.judgments())) == 1


def test_a_path_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "outputs").write_text("a file")
    (tmp_path / "ledger.sqlite").mkdir()
    for path in (tmp_path / "outputs" / "ledger.sqlite", tmp_path / "ledger.sqlite"):
        with pytest.raises(LedgerError, match=rf"{path} can't be read or written .*Try: paths\.outputs=DIR"):
            Ledger(path)


def fill(ledger: Ledger) -> None:
    for n in range(2000):
        ledger.record(make_question(str(n), first=os.urandom(2000).hex()), OK)


def test_a_full_disk_keeps_what_was_recorded(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger._database.execute("PRAGMA max_page_count = 60")
        with pytest.raises(LedgerError, match=r"its disk is full\. What was judged before is kept; free some space"):
            fill(ledger)
        n = len(list(ledger.judgments()))
        assert 5 < n < 1000
        ledger._database.execute("PRAGMA max_page_count = 1000")  # space was freed
        ledger.record(make_question("later"), OK)
        assert len(list(ledger.judgments())) == n + 1
