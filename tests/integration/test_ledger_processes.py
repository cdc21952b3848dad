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

from sacpo_exp.evaluation.ledger import Ledger
from sacpo_exp.evaluation.records import Answer, Question, State

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


def ask_all(path: Path, numbers: range, is_claiming: bool, barrier: Barrier) -> None:
    """Record all, or what is neither claimed nor recorded; recording is asking here, so attempts count the calls."""
    barrier.wait(60)  # so that all of them open the new ledger at once
    with Ledger(path) as ledger:
        for question in map(make_question, numbers):
            if not is_claiming:
                ledger.record(question, OK)
            elif ledger.claim([question.key]):
                if question.key in ledger.find([question.key]):
                    ledger.release([question.key])
                else:
                    ledger.record(question, OK)


@pytest.mark.parametrize("is_claiming", [False, True])
def test_processes_lose_no_record_and_ask_nothing_twice_that_they_claim(path: Path, is_claiming: bool) -> None:
    barrier = SPAWN.Barrier(3)
    ranges = (range(500), range(300, 800), range(800, 801))
    processes = [SPAWN.Process(target=ask_all, args=(path, each, is_claiming, barrier)) for each in ranges]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * 3
    with Ledger(path) as ledger:
        found = {question.prompt_id: answer.attempts for question, answer in ledger.judgments()}
    is_shared = [not is_claiming and 300 <= number < 500 for number in range(801)]
    assert found == {f"id-{number}": 1 + is_shared[number] for number in range(801)}


def claim_and_wait(path: Path, there: Connection) -> None:
    with Ledger(path) as ledger:
        there.send(ledger.claim(["a", "b"]))
        there.recv()


def test_claims_of_a_living_process_hold_and_those_of_an_ended_or_killed_one_do_not(path: Path) -> None:
    process, here = start(claim_and_wait, path)
    assert here.recv() == {"a", "b"}
    with Ledger(path) as ledger:
        assert ledger.claim(["a", "b", "c"]) == {"c"}
        kill(process)
        assert ledger.claim(["a", "b"]) == {"a", "b"}
    process, here = start(claim_and_wait, path)
    assert here.recv() == {"a", "b"}
    here.send(True)
    process.join(60)
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
    for _ in range(3):
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
            assert ledger.claim([make_question(last + 1).key])
            found = {question.prompt_id for question, _ in ledger.judgments()}
        assert {f"id-{number}" for number in range(last + 1)} <= found
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    database.close()
