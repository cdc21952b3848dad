"""The Batch API against a real server: submit, leave, come back, collect, complete what is missing."""

import logging
from pathlib import Path

import pytest
from asking import STATES, content_of, make_judge, make_questions, served, start_asking
from judge_server import Plan, score

from sacpo_exp.errors import JudgeError
from sacpo_exp.evaluation.judges import openai_batch
from sacpo_exp.evaluation.judges.openai_judge import ask
from sacpo_exp.evaluation.ledger import Ledger
from sacpo_exp.evaluation.records import State

BATCH = "judge.via=batch"


def release(folder: Path) -> None:
    """Let the server work its batches off."""
    (folder / "release").touch()


def test_submit_leave_come_back_and_collect(tmp_path: Path) -> None:
    with served(tmp_path) as server, Ledger(tmp_path / "l.sqlite") as ledger:
        judge = make_judge(server.url, BATCH)
        questions = make_questions(judge, 20)
        ledger.add_batch("batch-gone", server.url, questions)  # the server does not know it
        assert ask(questions, judge, ledger) == 20
        assert list(ledger.open_batches(server.url)) == ["batch-0"]
        assert ask(questions, judge, ledger) == 20  # nothing is submitted twice
        assert ledger.find(q.key for q in questions) == {}
        release(tmp_path)
        assert ask(questions[:4], judge, ledger) == 0  # all answers are recorded, whoever asked
        answers = ledger.find(q.key for q in questions)
        for question in questions:
            answer = answers[question.key]
            assert (answer.state, answer.via, answer.prompt_tokens, answer.attempts) == (State.ok, "batch", 100, 1)
            assert (answer.raw or "").split("\n")[0] == f"{score(question.first)} {score(question.second)}"
        assert ledger.open_batches(server.url) == {}
        assert ask(questions, make_judge(server.url), ledger) == 0
        assert not server.journal.exists() or server.calls() == []


def test_what_an_expired_batch_has_not_answered_is_submitted_again(tmp_path: Path) -> None:
    with served(tmp_path, batch_status="expired", batch_share=0.4) as server, Ledger(tmp_path / "l.sqlite") as ledger:
        judge = make_judge(server.url, BATCH)
        questions = make_questions(judge, 20)
        ask(questions, judge, ledger)
        release(tmp_path)
        assert ask(questions, judge, ledger) == 12
        assert len(ledger.find(q.key for q in questions)) == 8
        assert ask(questions, judge, ledger) == 0
        assert {a.state for a in ledger.find(q.key for q in questions).values()} == {State.ok}


def test_a_batch_that_is_not_accepted_is_reported_and_can_be_submitted_anew(tmp_path: Path) -> None:
    with served(tmp_path, batch_status="failed") as server, Ledger(tmp_path / "l.sqlite") as ledger:
        judge = make_judge(server.url, BATCH)
        questions = make_questions(judge, 4)
        ask(questions, judge, ledger)
        release(tmp_path)
        with pytest.raises(JudgeError, match=r"did not accept batch-0: line 1 is not valid\."):
            ask(questions, judge, ledger)
        assert ask(questions, judge, ledger) == 4
        assert ask(questions, judge, ledger) == 0


def test_a_batch_whose_id_was_lost_by_a_kill_is_found_again_at_work_or_done(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        judge = make_judge(server.url, BATCH)
        questions = make_questions(judge, 4)
        for name in ("lost", "at_work", "done"):  # in each as if the id had never been written
            with Ledger(tmp_path / f"{name}.sqlite") as ledger:
                assert ask(questions, judge, ledger) == 4
                assert list(ledger.open_batches(server.url)) == ["batch-0"]
                if name == "at_work":
                    release(tmp_path)
                if name != "lost":
                    assert ask(questions, judge, ledger) == 0


def test_what_waits_in_a_batch_counts_against_the_limits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with served(tmp_path) as server, Ledger(tmp_path / "l.sqlite") as ledger:
        price = "judge.price={input: 0, output: 1000000}"
        judge = make_judge(server.url, BATCH, "judge.max_calls=6", "judge.max_tokens=300", price)
        questions = make_questions(judge, 10)
        with caplog.at_level(logging.INFO):
            for _ in range(2):
                assert ask(questions, judge, ledger) == 10
                assert [len(asked) for asked in ledger.open_batches(server.url).values()] == [6]
        assert "at most $1,500.00" in caplog.text  # 10 calls, 300 tokens, a dollar each, half the price
        release(tmp_path)
        assert ask(questions, judge, ledger) == 4
        assert ask(questions, judge, ledger) == 0
        tight = make_judge(server.url, BATCH, "judge.budget_usd=0.1", price)
        with pytest.raises(JudgeError, match="not one of 10 judgments fits"):
            ask(make_questions(judge, 20), tight, ledger)


def test_two_processes_submit_each_question_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(tmp_path) as server:
        processes = [start_asking(tmp_path / "l.sqlite", server.url, 400, BATCH) for _ in range(2)]
        assert [process.wait() for process in processes] == [0, 0]
        with Ledger(tmp_path / "l.sqlite") as ledger:
            keys = [q.key for questions in ledger.open_batches(server.url).values() for q in questions]
        assert len(keys) == len(set(keys)) == 400
        monkeypatch.setattr(openai_batch, "MOST_REQUESTS", 4)
        judge = make_judge(server.url, BATCH)
        with Ledger(tmp_path / "other.sqlite") as ledger:
            ask(make_questions(judge, 10), judge, ledger)
            assert [len(asked) for asked in ledger.open_batches(server.url).values()] == [4, 4, 2]


def test_what_failed_in_a_batch_is_submitted_by_the_next_command(tmp_path: Path) -> None:
    with served(tmp_path, lasting=1.0) as server, Ledger(tmp_path / "l.sqlite") as ledger:
        judge = make_judge(server.url, BATCH)
        questions = make_questions(judge, 40)
        ask(questions, judge, ledger)
        release(tmp_path)
        assert ask(questions, judge, ledger) == 0
        answers = ledger.find(question.key for question in questions)
        plan = Plan(lasting=1.0)
        assert all(answers[question.key].state == STATES[plan.outcome(content_of(question))] for question in questions)
        failed = [key for key, answer in answers.items() if answer.state == State.failed]
        assert answers[failed[0]].error == "HTTP 400: this can't be judged"
        assert ask(questions, judge, ledger) == len(failed)
        assert ask(questions, judge, ledger) == 0
        assert {answer.attempts for answer in ledger.find(failed).values()} == {2}
