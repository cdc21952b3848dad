"""What was recorded is found again as it was, and is replaced by nothing worse; claims; batches."""

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import psutil
import pytest
from judgments import FAILED, OK, make_question

from sacpo_exp.config.schema import Journal
from sacpo_exp.evaluation.ledger import Answer, Ledger, State
from sacpo_exp.evaluation.ledger import ledger as ledger_module


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outputs" / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with Ledger(path) as opened:
        yield opened


def test_everything_comes_back_as_it_was_recorded(path: Path) -> None:
    question = make_question("größer \ud800", first="b", second="a")
    answer = Answer(
        State.refused, "I won't.", "content_filter", "late", "judge-2", 100, 60, 7, 3, "batch", 0.25, "2026-01-01"
    )
    with Ledger(path) as ledger:
        ledger.record(question, answer)
    with Ledger(path) as ledger:
        assert ledger.find(["unknown", question.key]) == {question.key: answer}
        assert list(ledger.judgments()) == [(question, answer)]
        assert next(ledger.judgments())[0].key == question.key
        assert ledger.find([]) == {}


def test_judgments_come_in_order_of_key_and_can_be_recorded_meanwhile(ledger: Ledger) -> None:
    questions = {question.key: question for question in (make_question(str(n)) for n in range(20))}
    for question in questions.values():
        ledger.record(question, OK)
    keys = []
    for question, _ in ledger.judgments():
        keys.append(question.key)
        ledger.record(replace(question, repeat=1), OK)
    assert keys == sorted(questions)
    assert len(list(ledger.judgments())) == 40


def test_a_hundred_thousand_keys_can_be_looked_up(ledger: Ledger) -> None:
    question = make_question()
    ledger.record(question, OK)
    assert ledger.find([*(f"{n:064x}" for n in range(100_000)), question.key]) == {question.key: OK}


def test_attempts_and_tokens_add_up(ledger: Ledger) -> None:
    question = make_question()
    ledger.record(question, FAILED)
    ledger.record(question, replace(OK, state=State.unparsed, prompt_tokens=100, completion_tokens=10))
    ledger.record(question, replace(OK, prompt_tokens=100, completion_tokens=7))
    expected = replace(OK, attempts=10, prompt_tokens=200, cached_tokens=None, completion_tokens=17)
    assert ledger.find([question.key]) == {question.key: expected}


@pytest.mark.parametrize("state", [State.ok, State.unparsed, State.refused])
def test_an_answer_is_not_replaced_by_a_failure(ledger: Ledger, state: State) -> None:
    question = make_question()
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


def test_a_claim_of_another_machine_holds_while_it_is_renewed(
    path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
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
        assert ledger.claim(["a"]) == set()
        ledger._closed.wait(0.8)
        assert ledger.claim(["a"]) == {"a"}
        far._closed.clear()


def test_batches_are_remembered_until_they_are_closed(ledger: Ledger) -> None:
    questions = [make_question("a"), make_question("b")]
    ledger.add_batch("one", "http://here", questions)
    ledger.add_batch("two", "http://here", questions[:1])
    ledger.add_batch("three", "http://there", questions)
    assert ledger.open_batches("http://here") == {"one": questions, "two": questions[:1]}
    ledger.close_batch("one")
    assert list(ledger.open_batches("http://here")) == ["two"]
    assert ledger.knows_batch("one")
    assert not ledger.knows_batch("four")


def journal_of(path: Path) -> str:
    database = sqlite3.connect(path)
    (mode,) = database.execute("PRAGMA journal_mode").fetchone()
    database.close()
    return str(mode)


def test_the_journal_is_kept_until_another_is_asked_for(path: Path) -> None:
    for journal, expected in ((None, "wal"), (Journal.delete, "delete"), (None, "delete"), (Journal.wal, "wal")):
        Ledger(path, journal).close()
        assert journal_of(path) == expected


@pytest.mark.parametrize(("kind", "expected"), [("nfs4", "delete"), ("fuse.sshfs", "delete"), ("ext4", "wal")])
def test_a_shared_file_system_gets_a_journal_that_it_bears(
    path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, expected: str
) -> None:
    mounts = [SimpleNamespace(mountpoint="/", fstype="ext4"), SimpleNamespace(mountpoint=str(path.parent), fstype=kind)]
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: mounts)
    Ledger(path).close()
    assert journal_of(path) == expected


def test_threads_may_share_a_ledger(ledger: Ledger) -> None:
    threads = [Thread(target=lambda n=n: ledger.record(make_question(str(n)), OK)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(ledger.judgments())) == 16
