"""The Batch API against a real server: submit, leave, come back, collect, complete what is missing."""

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from asking import HERE, STATES, content_of, make_judge, make_questions, served
from judge_server import Plan, score

from sacpo_exp.errors import JudgeError
from sacpo_exp.evaluation.judges import batch_files
from sacpo_exp.evaluation.judges.openai_judge import ask
from sacpo_exp.evaluation.ledger import Ledger, State

BATCH = "judge.via=batch"


def release(folder: Path) -> None:
    """Let the server work its batches off."""
    (folder / "release").touch()


def test_submit_leave_come_back_and_collect(tmp_path: Path) -> None:
    with served(tmp_path) as server, Ledger(tmp_path / "l.sqlite") as ledger:
        judge = make_judge(server.url, BATCH)
        questions = make_questions(judge, 20)
        assert ask(questions, judge, ledger) == 20
        assert ask(questions, judge, ledger) == 20  # nothing is submitted twice
        assert ledger.find(q.key for q in questions) == {}
        release(tmp_path)
        assert ask(questions, judge, ledger) == 0
        answers = ledger.find(q.key for q in questions)
        for question in questions:
            answer = answers[question.key]
            assert (answer.state, answer.via, answer.prompt_tokens) == (State.ok, "batch", 100)
            assert (answer.raw or "").split("\n")[0] == f"{score(question.first)} {score(question.second)}"
        assert ledger.open_batches(server.url) == {}


def test_a_batch_serves_the_usual_way_of_asking_too(tmp_path: Path) -> None:
    with served(tmp_path) as server, Ledger(tmp_path / "l.sqlite") as ledger:
        judge = make_judge(server.url, BATCH)
        questions = make_questions(judge, 6)
        ask(questions, judge, ledger)
        release(tmp_path)
        ask(questions, judge, ledger)
        assert ask(questions, make_judge(server.url), ledger) == 0
        assert not server.journal.exists() or server.calls() == []


def test_what_an_expired_batch_has_not_answered_is_submitted_again(tmp_path: Path) -> None:
    with (
        served(tmp_path, batch_status="expired", batch_share=0.4) as server,
        Ledger(tmp_path / "l.sqlite") as ledger,
    ):
        judge = make_judge(server.url, BATCH)
        questions = make_questions(judge, 20)
        ask(questions, judge, ledger)
        release(tmp_path)
        assert ask(questions, judge, ledger) == 12
        assert len(ledger.find(q.key for q in questions)) == 8
        assert ask(questions, judge, ledger) == 0
        assert {a.state for a in ledger.find(q.key for q in questions).values()} == {State.ok}


def test_a_batch_that_is_not_accepted_is_told_and_can_be_submitted_anew(tmp_path: Path) -> None:
    with served(tmp_path, batch_status="failed") as server, Ledger(tmp_path / "l.sqlite") as ledger:
        judge = make_judge(server.url, BATCH)
        questions = make_questions(judge, 4)
        ask(questions, judge, ledger)
        release(tmp_path)
        with pytest.raises(JudgeError, match=r"did not accept batch batch-0: line 1 is not valid\."):
            ask(questions, judge, ledger)
        assert ask(questions, judge, ledger) == 4
        assert ask(questions, judge, ledger) == 0


def test_a_batch_whose_id_was_lost_by_a_kill_is_found_again(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        judge = make_judge(server.url, BATCH)
        questions = make_questions(judge, 4)
        with Ledger(tmp_path / "lost.sqlite") as ledger:
            ask(questions, judge, ledger)
        with Ledger(tmp_path / "l.sqlite") as ledger:  # as if the id had never been written
            assert ask(questions, judge, ledger) == 4
            assert list(ledger.open_batches(server.url)) == ["batch-0"]


def test_two_commands_share_a_batch_and_each_collects_its_own(tmp_path: Path) -> None:
    with served(tmp_path) as server, Ledger(tmp_path / "l.sqlite") as ledger:
        judge = make_judge(server.url, BATCH)
        questions = make_questions(judge, 8)
        ask(questions, judge, ledger)
        release(tmp_path)
        assert ask(questions[:4], judge, ledger) == 0
        assert list(ledger.open_batches(server.url)) == ["batch-0"]
        assert ask(questions, judge, ledger) == 0
        assert ledger.open_batches(server.url) == {}


def test_a_batch_takes_what_fits_into_the_budget_at_half_the_price(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with served(tmp_path) as server, Ledger(tmp_path / "l.sqlite") as ledger:
        judge = make_judge(server.url, BATCH, "judge.max_calls=6", "judge.price={input: 0, output: 1000000}")
        questions = make_questions(judge, 10)
        with caplog.at_level(logging.INFO):
            assert ask(questions, judge, ledger) == 10
        assert "at most $1,500.00" in caplog.text  # 10 calls, 300 tokens, a dollar each, half the price
        assert len(next(iter(ledger.open_batches(server.url).values()))) == 6
        tight = make_judge(server.url, BATCH, "judge.budget_usd=0.1", "judge.price={input: 0, output: 1000000}")
        with Ledger(tmp_path / "other.sqlite") as other, pytest.raises(JudgeError, match="not one of 4 judgments fits"):
            ask(make_questions(judge, 20)[16:], tight, other)


def test_what_waits_in_a_batch_counts_against_the_limits(tmp_path: Path) -> None:
    with served(tmp_path) as server, Ledger(tmp_path / "l.sqlite") as ledger:
        judge = make_judge(server.url, BATCH, "judge.max_calls=6")
        questions = make_questions(judge, 10)
        for _ in range(2):
            assert ask(questions, judge, ledger) == 10
            assert [len(keys) for keys in ledger.open_batches(server.url).values()] == [6]
        release(tmp_path)
        assert ask(questions, judge, ledger) == 4
        assert ask(questions, judge, ledger) == 0


def test_two_processes_at_the_same_moment_submit_each_question_once(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        asking = [sys.executable, str(HERE / "asking.py"), str(tmp_path / "l.sqlite"), server.url, "400", BATCH]
        processes = [subprocess.Popen(asking) for _ in range(3)]
        assert [process.wait() for process in processes] == [0, 0, 0]
        with Ledger(tmp_path / "l.sqlite") as ledger:
            keys = [key for keys in ledger.open_batches(server.url).values() for key in keys]
        assert len(keys) == len(set(keys)) == 400


def test_a_batch_that_was_done_before_its_loss_was_noticed_is_collected(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        judge = make_judge(server.url, BATCH)
        questions = make_questions(judge, 4)
        with Ledger(tmp_path / "lost.sqlite") as ledger:
            ask(questions, judge, ledger)
            release(tmp_path)
            ask(questions, judge, ledger)
        with Ledger(tmp_path / "l.sqlite") as ledger:
            assert ask(questions, judge, ledger) == 4
            assert list(ledger.open_batches(server.url)) == ["batch-0"]
            assert ask(questions, judge, ledger) == 0


def test_a_batch_that_the_server_does_not_know_is_submitted_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with served(tmp_path) as server, Ledger(tmp_path / "l.sqlite") as ledger:
        judge = make_judge(server.url, BATCH)
        questions = make_questions(judge, 4)
        ledger.add_batch("batch-gone", server.url, [question.key for question in questions])
        assert ask(questions, judge, ledger) == 4
        assert "batch-gone is not known" in caplog.text
        assert list(ledger.open_batches(server.url)) == ["batch-0"]


def test_what_failed_in_a_batch_is_submitted_by_the_next_command_not_by_the_one_that_collects(tmp_path: Path) -> None:
    with served(tmp_path, lasting=1.0) as server, Ledger(tmp_path / "l.sqlite") as ledger:
        judge = make_judge(server.url, BATCH)
        questions = make_questions(judge, 40)
        ask(questions, judge, ledger)
        release(tmp_path)
        ours = questions[:30]  # the batch stays open for the rest
        assert ask(ours, judge, ledger) == 0
        answers = ledger.find(question.key for question in ours)
        plan = Plan(lasting=1.0)
        assert {STATES[plan.outcome(content_of(q))] for q in ours} == {"unparsed", "refused", "failed"}
        assert all(answers[question.key].state == STATES[plan.outcome(content_of(question))] for question in ours)
        failed = [key for key, answer in answers.items() if answer.state == State.failed]
        assert answers[failed[0]].error == "HTTP 400: this can't be judged"
        assert ask(ours, judge, ledger) == len(failed)
        assert ask(ours, judge, ledger) == 0
        assert {answer.attempts for answer in ledger.find(failed).values()} == {2}


def test_files_keep_below_the_limits_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    questions: list[Any] = make_questions(make_judge("http://127.0.0.1:9/v1"), 10)
    monkeypatch.setattr(batch_files, "MOST_REQUESTS", 4)
    assert [len(portion) for portion in batch_files.split(questions)] == [4, 4, 2]
    monkeypatch.setattr(batch_files, "MOST_BYTES", 1)
    assert [len(portion) for portion in batch_files.split(questions)] == [1] * 10
