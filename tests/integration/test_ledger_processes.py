"""Several processes on one ledger, some of them killed: nothing is asked twice at once, nothing recorded is lost."""

import multiprocessing
import os
import random
import signal
import sqlite3
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from threading import Barrier

import pytest

from sacpo_exp.evaluation.ledger import Answer, Ledger, Question, State

SPAWN = multiprocessing.get_context("spawn")
OK = Answer(State.ok, "8 9", "stop")


def make_question(number: int) -> Question:
    texts = f"prompt {number}", f"first {number}", f"second {number}"
    messages = (("user", " | ".join(texts)),)
    return Question(
        "safety", f"id-{number}", *texts, 0, "judge", "http://localhost/v1", {}, "default@0", messages, (1.0, 10.0)
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def run_all(processes: list[SpawnProcess]) -> None:
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * len(processes)


def start(target: Callable[..., None], path: Path) -> tuple[SpawnProcess, Connection]:
    """A process that has sent its first message."""
    here, there = SPAWN.Pipe()
    process = SPAWN.Process(target=target, args=(path, there))
    process.start()
    assert here.poll(60)
    return process, here


def kill(process: SpawnProcess) -> None:
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


def record_range(path: Path, numbers: range, barrier: Barrier) -> None:
    barrier.wait(60)  # so that all of them open the new ledger at once
    with Ledger(path) as ledger:
        for number in numbers:
            ledger.record(make_question(number), OK)


def test_processes_open_a_new_ledger_and_record_hundreds_at_once(path: Path) -> None:
    barrier = SPAWN.Barrier(4)
    ranges = (range(1000), range(800, 1800), range(1800, 1801), range(1801, 1802))
    run_all([SPAWN.Process(target=record_range, args=(path, numbers, barrier)) for numbers in ranges])
    with Ledger(path) as ledger:
        found = {question.prompt_id: answer.attempts for question, answer in ledger.judgments()}
    assert found == {f"id-{number}": 2 if 800 <= number < 1000 else 1 for number in range(1802)}


def claim_and_wait(path: Path, there: Connection) -> None:
    ledger = Ledger(path)
    there.send(ledger.claim(["a", "b"]))
    there.recv()
    ledger.close()


def test_claims_of_a_living_process_hold_and_those_of_a_killed_one_do_not(path: Path) -> None:
    process, here = start(claim_and_wait, path)
    assert here.recv() == {"a", "b"}
    with Ledger(path) as ledger:
        assert ledger.claim(["a", "b", "c"]) == {"c"}
        kill(process)
        assert ledger.claim(["a"]) == {"a"}
        assert ledger.claim(["b"]) == {"b"}


def test_a_process_that_ends_well_leaves_no_claims(path: Path) -> None:
    process, here = start(claim_and_wait, path)
    here.send(True)
    process.join(60)
    assert process.exitcode == 0
    with Ledger(path) as ledger:
        assert ledger.claim(["a", "b"]) == {"a", "b"}


def record_until_killed(path: Path, there: Connection) -> None:
    with Ledger(path) as ledger:
        for number in range(1_000_000):
            question = make_question(number)
            ledger.claim([question.key])
            ledger.record(question, OK)
            there.send(number)


def test_a_kill_at_any_moment_loses_nothing_that_was_recorded(path: Path) -> None:
    moments = random.Random(0)
    for _ in range(4):
        process, here = start(record_until_killed, path)
        for _ in range(moments.randrange(1, 200)):
            last = here.recv()
        kill(process)
        try:
            while here.poll():
                last = here.recv()
        except EOFError:
            pass
        with Ledger(path) as ledger:
            assert set(ledger.claim([make_question(last + 1).key]))
            found = {question.prompt_id for question, _ in ledger.judgments()}
        assert {f"id-{number}" for number in range(last + 1)} <= found
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    database.close()
