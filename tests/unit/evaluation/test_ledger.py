"""What was recorded is found again and replaced by nothing worse; claims; damaged and foreign files."""

import os
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import psutil
import pytest
from asked import FAILED, OK, make_question

from sacpo_exp.errors import LedgerError
from sacpo_exp.evaluation import ledger as ledger_module
from sacpo_exp.evaluation.ledger import VERSION, Ledger
from sacpo_exp.evaluation.records import Answer, State


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outputs" / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with Ledger(path) as opened:
        yield opened


def test_everything_comes_back_as_it_was_recorded_in_order_of_key(path: Path) -> None:
    question = make_question("größer \ud800", first="b", second="a")
    answer = Answer(
        State.refused, "No.", "content_filter", "late", "judge-2", 100, 60, 7, 3, "batch", 0.25, "2026-01-01"
    )
    with Ledger(path) as ledger:
        ledger.record(question, answer)
        threads = [Thread(target=lambda n=n: ledger.record(make_question(str(n)), OK)) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with Ledger(path) as ledger:
        keys = [f"{n:064x}" for n in range(100_000)]
        assert ledger.find([*keys, question.key]) == {question.key: answer}
        found = {asked.key: (asked, given) for asked, given in ledger.judgments()}
        assert (list(found), len(found)) == (sorted(found), 17)
        assert found[question.key] == (question, answer)


def test_attempts_and_tokens_add_up_and_no_answer_is_replaced_by_a_failure(ledger: Ledger) -> None:
    question = make_question()
    ledger.record(question, FAILED)
    ledger.record(question, replace(OK, state=State.unparsed, prompt_tokens=100, completion_tokens=10))
    ledger.record(question, replace(OK, prompt_tokens=100, completion_tokens=7))
    expected = replace(OK, attempts=10, prompt_tokens=200, cached_tokens=None, completion_tokens=17)
    assert ledger.find([question.key]) == {question.key: expected}
    for state in (State.ok, State.unparsed, State.refused):
        question = make_question(state.value)
        ledger.record(question, replace(OK, state=state))
        ledger.record(question, FAILED)
        assert ledger.find([question.key])[question.key] == replace(OK, state=state, attempts=9)


def test_a_claim_keeps_others_away_until_it_is_given_up_or_recorded(path: Path, ledger: Ledger) -> None:
    question = make_question()
    with Ledger(path) as other:
        assert ledger.claim(["a", "b", question.key]) == {"a", "b", question.key}
        assert ledger.claim(["a", "c"]) == {"a", "c"}  # its own ones stay
        assert other.claim(["a", "b", "d"]) == {"d"}
        ledger.release(["a"])
        ledger.record(question, OK)
        assert other.claim(["a", "b", question.key]) == {"a", question.key}
        ledger.release()
        assert other.claim(["b"]) == {"b"}
    assert ledger.claim(["a", "b", "d"]) == {"a", "b", "d"}  # it was closed


def test_a_claim_holds_while_it_is_renewed(path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "STALE", 0.5)
    monkeypatch.setattr(ledger_module, "HEARTBEAT", 0.1)
    with Ledger(path) as far:
        far._owner = "elsewhere/1/x"
        far.claim(["a"])
        far._closed.wait(0.8)
        assert ledger.claim(["a"]) == set()
        far._closed.set()  # it stops renewing, as a machine without power
        assert far._heartbeat is not None
        far._heartbeat.join()
        ledger._closed.wait(0.8)
        assert ledger.claim(["a"]) == {"a"}
        far._closed.clear()


def change(path: Path, statement: str) -> list[str]:
    """Run a statement on the file, and return the first column of its rows."""
    database = sqlite3.connect(path, isolation_level=None)
    values = [str(row[0]) for row in database.execute(statement)]
    database.close()
    return values


@pytest.mark.parametrize(("kind", "expected"), [("nfs4", "delete"), ("fuse.sshfs", "delete"), ("ext4", "wal")])
def test_a_shared_file_system_has_no_wal(path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, expected: str) -> None:
    mounts = [SimpleNamespace(mountpoint="/", fstype="ext4"), SimpleNamespace(mountpoint=str(path.parent), fstype=kind)]
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: mounts)
    Ledger(path).close()
    assert change(path, "PRAGMA journal_mode") == [expected]
    change(path, "PRAGMA journal_mode = delete")  # which somebody has chosen, and which is kept
    Ledger(path).close()
    assert change(path, "PRAGMA journal_mode") == ["delete"]


@pytest.fixture
def filled(path: Path) -> Path:
    """A ledger of 300 judgments, closed."""
    with Ledger(path) as ledger:
        ledger.merge((make_question(str(n)), OK) for n in range(300))
    return path


def overwrite(path: Path, start: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(content)


DAMAGE = {
    "no database": lambda path: overwrite(path, 0, b"not a database at all"),
    "cut in half": lambda path: os.truncate(path, path.stat().st_size // 2 // 4096 * 4096),
    "pages of rubbish": lambda path: overwrite(path, 4096, os.urandom(path.stat().st_size - 4096)),
    "half an answer": lambda path: change(path, "UPDATE judgments SET answer = substr(answer, 1, 9)"),
    "a question that is none": lambda path: change(path, "UPDATE judgments SET question = x'789c00'"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_called_so(filled: Path, damage: str) -> None:
    DAMAGE[damage](filled)
    with pytest.raises(LedgerError) as caught, Ledger(filled) as ledger:
        list(ledger.judgments())
    assert str(caught.value).startswith(f"{filled} is damaged (")
    assert f"sacpo ledger import FILE --outputs {filled.parent}" in str(caught.value)


@pytest.mark.parametrize(
    ("version", "message"), [(VERSION - 1, rf"another version .* \(tables {VERSION - 1}, here"), (0, "something else")]
)
def test_a_file_of_another_program_or_version_is_not_touched(filled: Path, version: int, message: str) -> None:
    change(filled, "PRAGMA journal_mode = delete")
    change(filled, f"PRAGMA user_version = {version}")
    content = filled.read_bytes()
    with pytest.raises(LedgerError, match=f"{message}.*sacpo ledger export FILE"):
        Ledger(filled)
    assert filled.read_bytes() == content


def test_a_path_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "outputs").write_text("a file")
    (tmp_path / "ledger.sqlite").mkdir()
    for path in (tmp_path / "outputs" / "ledger.sqlite", tmp_path / "ledger.sqlite"):
        with pytest.raises(LedgerError, match=rf"{path} can't be read or written .*Try: paths\.outputs=DIR"):
            Ledger(path)


def fill(ledger: Ledger) -> None:
    for n in range(2000):
        ledger.record(make_question(str(n), first=os.urandom(2000).hex()), OK)


def test_a_full_disk_keeps_what_was_recorded(path: Path) -> None:
    path.parent.mkdir()
    path.touch()  # an empty file becomes a ledger
    with Ledger(path) as ledger:
        ledger._database.execute("PRAGMA max_page_count = 60")
        with pytest.raises(LedgerError, match=r"its disk is full\. What was judged before is kept; free some space"):
            fill(ledger)
        n = len(list(ledger.judgments()))
        assert 5 < n < 1000
        ledger._database.execute("PRAGMA max_page_count = 1000")  # space was freed
        ledger.record(make_question("later"), OK)
        assert len(list(ledger.judgments())) == n + 1
