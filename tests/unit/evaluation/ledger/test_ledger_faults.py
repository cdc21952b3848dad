"""Damage, full disks and foreign files end in one sentence that says which file it is and what to do."""

import errno
import os
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from judgments import OK, make_question

from sacpo_exp.errors import LedgerError
from sacpo_exp.evaluation.ledger import Ledger
from sacpo_exp.evaluation.ledger.tables import VERSION

WHAT_TO_DO = "sacpo ledger import FILE --outputs "


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


def read_all(path: Path) -> int:
    with Ledger(path) as ledger:
        return len(list(ledger.judgments()))


def test_a_file_that_is_no_database_is_called_damaged(path: Path) -> None:
    overwrite(path, 0, b"not a database at all")
    with pytest.raises(LedgerError, match="file is not a database") as caught:
        Ledger(path)
    assert str(path) in str(caught.value)
    assert f"{WHAT_TO_DO}{path.parent}" in str(caught.value)


def test_a_file_cut_in_half_is_called_damaged(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)
    with pytest.raises(LedgerError, match=f"{path} is damaged .*{WHAT_TO_DO}"):
        read_all(path)


def test_pages_of_rubbish_are_called_damaged(path: Path) -> None:
    overwrite(path, 4096, os.urandom(path.stat().st_size - 4096))
    with pytest.raises(LedgerError, match=f"{path} is damaged .*{WHAT_TO_DO}"):
        read_all(path)
    with pytest.raises(LedgerError, match=f"{path} is damaged"), Ledger(path) as ledger:
        ledger.record(make_question("new"), OK)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE judgments SET state = 'great'",
        "UPDATE judgments SET messages = '[[\"user\", [7'",
        "UPDATE judgments SET prompt = 123456",
        "UPDATE texts SET content = x'789c00'",
        "UPDATE judgments SET raw = CAST(x'80' AS TEXT)",
    ],
)
def test_rows_that_nobody_wrote_are_called_damaged(path: Path, damage: str) -> None:
    database = sqlite3.connect(path)
    database.execute(damage)
    database.commit()
    database.close()
    with pytest.raises(LedgerError, match=f"{path} is damaged .*{WHAT_TO_DO}"):
        read_all(path)


def test_an_export_brings_a_damaged_ledger_back(path: Path) -> None:
    from sacpo_exp.evaluation.ledger.transfer import export_judgments, import_judgments

    export = path.with_name("all.jsonl.gz")
    with Ledger(path) as ledger:
        before = list(ledger.judgments())
        export_judgments(ledger, export)
    overwrite(path, 0, b"rubbish" * 100)
    for file in path.parent.glob("ledger.sqlite*"):  # as the message says
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    with Ledger(path) as ledger:
        assert import_judgments(ledger, export) == {"added": 300}
        assert list(ledger.judgments()) == before


def test_a_newer_ledger_is_not_touched(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute(f"PRAGMA user_version = {VERSION + 1}")
    database.close()
    content = path.read_bytes()
    with pytest.raises(LedgerError, match=rf"has version {VERSION + 1} of the tables.* knows {VERSION}: a newer"):
        Ledger(path)
    assert path.read_bytes() == content


def test_a_database_of_something_else_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE runs (id INTEGER)")
    database.close()
    with pytest.raises(LedgerError, match="is a database of something else"):
        Ledger(path)
    database = sqlite3.connect(path)
    assert database.execute("SELECT name FROM sqlite_master").fetchall() == [("runs",)]
    database.close()


def test_an_empty_file_becomes_a_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.touch()
    with Ledger(path) as ledger:
        ledger.record(make_question(), OK)
    assert read_all(path) == 1


def test_a_place_that_is_no_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "outputs").write_text("a file")
    with pytest.raises(LedgerError, match=r"can't be read or written .*Try: paths\.outputs=DIR"):
        Ledger(tmp_path / "outputs" / "ledger.sqlite")


def test_a_folder_in_its_place_is_said(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").mkdir()
    with pytest.raises(LedgerError, match=re.escape("unable to open database file")):
        Ledger(tmp_path / "ledger.sqlite")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_forbids_writing_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(LedgerError, match="can't be read or written"):
            Ledger(tmp_path / "ledger.sqlite")
    finally:
        tmp_path.chmod(0o700)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(ledger: Ledger) -> None:
    """Record what is too much."""
    for n in range(2000):
        ledger.record(make_question(str(n), first=os.urandom(2000).hex()), OK)


FULL = r"its disk is full\. What was judged before is kept; free some space"


def test_a_full_disk_is_said_and_keeps_what_was_recorded(small_disk: Path) -> None:
    path = small_disk / "ledger.sqlite"
    with Ledger(path) as ledger:
        ledger.claim(["a"])
        with pytest.raises(LedgerError, match=FULL):
            fill(ledger)
        n = len(list(ledger.judgments()))
    assert 10 < n < 1000
    assert read_all(path) == n


def test_a_disk_that_is_full_from_the_start_is_said(small_disk: Path) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        (small_disk / "filler").write_bytes(bytes(2**21))
    with pytest.raises(LedgerError, match=FULL):
        Ledger(small_disk / "ledger.sqlite")


def test_a_file_that_may_not_grow_keeps_what_was_recorded(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger._database.execute("PRAGMA max_page_count = 60")
        with pytest.raises(LedgerError, match=FULL):
            fill(ledger)
        n = len(list(ledger.judgments()))
        assert 5 < n < 1000
        ledger._database.execute("PRAGMA max_page_count = 1000")  # space was freed
        ledger.record(make_question("later"), OK)
        assert len(list(ledger.judgments())) == n + 1
