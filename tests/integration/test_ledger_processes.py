"""Several processes on one ledger, one of them killed; those of test_openai_judge ask, and ask nothing twice."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from sacpo_exp.evaluation.ledger import Ledger
from sacpo_exp.evaluation.records import Answer, Question, State

FORK = multiprocessing.get_context("fork")
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


def start(target: Callable[..., None], path: Path) -> tuple[ForkProcess, Connection]:
    """A process that has sent its first message."""
    here, there = FORK.Pipe()
    process = FORK.Process(target=target, args=(path, there))
    process.start()
    assert here.poll(60)
    return process, here


def record_all(path: Path, numbers: range, barrier: Barrier) -> None:
    barrier.wait(60)  # so that all of them open the new ledger at once
    with Ledger(path) as ledger:
        for question in map(make_question, numbers):
            ledger.record(question, OK)


def test_processes_lose_no_record(path: Path) -> None:
    barrier = FORK.Barrier(3)
    ranges = (range(500), range(300, 800), range(800, 801))
    processes = [FORK.Process(target=record_all, args=(path, each, barrier)) for each in ranges]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * 3
    with Ledger(path) as ledger:
        found = {question.prompt_id: answer.attempts for question, answer in ledger.judgments()}
    assert found == {f"id-{number}": 1 + (300 <= number < 500) for number in range(801)}


def claim_and_wait(path: Path, there: Connection) -> None:
    with Ledger(path) as ledger:
        there.send(ledger.claim(["a", "b"]))
        there.recv()


def test_claims_of_a_living_process_hold_and_those_of_an_ended_or_killed_one_do_not(path: Path) -> None:
    process, here = start(claim_and_wait, path)
    assert here.recv() == {"a", "b"}
    with Ledger(path) as ledger:
        assert ledger.claim(["a", "b", "c"]) == {"c"}
        process.kill()
        process.join(60)
        assert ledger.claim(["a", "b"]) == {"a", "b"}
    process, here = start(claim_and_wait, path)
    assert here.recv() == {"a", "b"}
    here.send(True)
    process.join(60)
    with Ledger(path) as ledger:
        assert ledger.claim(["a", "b"]) == {"a", "b"}
