"""A judge behind a real server that misbehaves: every question ends in the right state, none is asked twice.

And what goes to it, and what comes back from one with bad intentions.
"""

import logging
import os
from pathlib import Path

import pytest
from asking import STATES, content_of, make_judge, make_questions, questioned, served, start_asking
from judge_server import LASTING, UNREADABLE, Plan, score
from processes import wait_until

from sacpo_exp.config.judges import OpenAIJudgeConfig
from sacpo_exp.errors import ConfigError, JudgeError
from sacpo_exp.evaluation.judges.openai_judge import ask
from sacpo_exp.evaluation.judges.questions import read_scores
from sacpo_exp.evaluation.ledger import Ledger
from sacpo_exp.evaluation.records import Answer, Question, State

SECRET = "my-own-secret-0123456789"
NAMED = "judge.api_key_env=OPENAI_API_KEY"
PLAN = {"seed": 2, "share": 0.3, "lasting": 0.2, "hang": 3.0, "retry_after": "0.2"}


def expected_state(plan: Plan, question: Question, judge: OpenAIJudgeConfig) -> State:
    """The first attempt without a fault that the client repeats decides."""
    content = content_of(question)
    faults = [plan.fault(content, attempt) for attempt in range(1, judge.max_attempts + 1)]
    decisive = next((fault for fault in faults if fault is None or fault in UNREADABLE), "500")
    if decisive is not None:
        return State.failed
    outcome = plan.outcome(content)
    return STATES[outcome] if outcome in LASTING else State.ok


def check_answers(questions: list[Question], answers: dict[str, Answer], plan: Plan, judge: OpenAIJudgeConfig) -> None:
    for question in questions:
        answer = answers[question.key]
        assert answer.state == expected_state(plan, question, judge), (content_of(question), answer)
        if answer.state == State.ok:
            _, scores = read_scores(answer.raw, answer.finish_reason, question.scale)
            assert scores == (score(question.first), score(question.second))
            assert (answer.prompt_tokens, answer.cached_tokens, answer.completion_tokens) == (100, 40, 10)


@pytest.mark.parametrize("count", [160, pytest.param(2000, marks=pytest.mark.slow)])
def test_every_judgment_ends_in_the_right_state_and_none_is_asked_again(tmp_path: Path, count: int) -> None:
    fast = ("judge.concurrency=64", "judge.timeout=1")
    with questioned(tmp_path, count, *fast, **PLAN) as (server, ledger, judge, questions):
        assert {Plan(**PLAN).outcome(content_of(question)) for question in questions} == {"scores", *LASTING}
        ask(questions, judge, ledger)
        answers = ledger.find(question.key for question in questions)
        check_answers(questions, answers, Plan(**PLAN), judge)
        before = server.counts()
        ask(questions, make_judge(server.url, "judge.ask_again=[]"), ledger)
        assert server.counts() == before
        assert {answer.state for answer in answers.values()} == {*STATES.values(), State.ok}


@pytest.mark.parametrize(("count", "kills"), [(80, 1), pytest.param(2000, 10, marks=pytest.mark.slow)])
def test_a_kill_costs_at_most_the_calls_in_flight(tmp_path: Path, count: int, kills: int) -> None:
    plan, concurrency = Plan(seed=3, latency=0.05, lasting=0.1), 4
    with served(tmp_path, seed=plan.seed, latency=plan.latency, lasting=plan.lasting) as server:
        for kill in range(kills):
            process = start_asking(tmp_path / "ledger.sqlite", server.url, count, f"judge.concurrency={concurrency}")
            calls = (kill + 1) * count // (kills + 2)
            wait_until(lambda calls=calls: server.journal.exists() and len(server.calls()) >= calls)
            process.kill()
            process.join()
        judge = make_judge(server.url)
        questions = make_questions(judge, count)
        with Ledger(tmp_path / "ledger.sqlite") as ledger:
            ask(questions, judge, ledger)
            answers = ledger.find(question.key for question in questions)
        check_answers(questions, answers, plan, judge)
        counts = server.counts()
        # Rejected requests have failed, and are asked again every time.
        repeated = sum(calls - 1 for content, calls in counts.items() if plan.outcome(content) != "400")
        assert repeated <= kills * concurrency
        assert len(counts) == count


def test_two_processes_on_one_ledger_ask_nothing_twice(tmp_path: Path) -> None:
    with served(tmp_path, latency=0.05) as server:
        paths = (tmp_path / "ledger.sqlite", server.url)
        processes = [start_asking(*paths, 160, "judge.concurrency=4") for _ in range(2)]
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0, 0]
        assert set(server.counts().values()) == {1}
        assert len(server.counts()) == 160


def test_failed_judgments_are_asked_again_last_and_answered_ones_are_not(tmp_path: Path) -> None:
    settings = ("judge.max_failures=100", "judge.concurrency=1")
    with questioned(tmp_path, 80, *settings, lasting=0.5) as (server, ledger, judge, questions):
        ask(questions[:60], judge, ledger)
        ask(questions, judge, ledger)
        failed = [content_of(q) for q in questions[:60] if Plan(lasting=0.5).outcome(content_of(q)) == "400"]
        assert failed
        contents = [call["content"] for call in server.calls()][60:]
        assert contents == [*map(content_of, questions[60:]), *failed]


def test_what_no_other_question_would_survive_stops_the_run_at_once(tmp_path: Path) -> None:
    refusing = {"status": 422, "echo": "response_format"}
    with questioned(tmp_path, 40, "judge.concurrency=2", **refusing) as (server, ledger, judge, questions):
        with pytest.raises(ConfigError, match=r"takes no JSON schema \(HTTP 422: status response_format\)\. Try: "):
            ask(questions, judge, ledger)
        assert len(server.calls()) <= 2
        assert list(ledger.judgments()) == []


def test_a_server_that_always_fails_is_left_after_some_failures_in_a_row(tmp_path: Path) -> None:
    settings = ("judge.max_attempts=2", "judge.max_failures=5", "judge.concurrency=4")
    with questioned(tmp_path, 60, *settings, status=500) as (server, ledger, judge, questions):
        with pytest.raises(JudgeError, match=r"failed on 5 questions in a row \(last: HTTP 500: status\)"):
            ask(questions, judge, ledger)
        found = [(answer.state, answer.attempts) for _, answer in ledger.judgments()]
        assert set(found) == {(State.failed, 2)}
        assert 5 <= len(found) < 10
        assert max(server.counts().values()) == 2
        judge = make_judge("http://127.0.0.1:9/v1")  # where there is none it is told at once
        with pytest.raises(ConfigError, match=r"at http://127\.0\.0\.1:9/v1"):
            ask(make_questions(judge, 4), judge, ledger)


def test_a_limit_on_calls_stops_cleanly_and_the_same_command_goes_on(tmp_path: Path) -> None:
    settings = ("judge.max_calls=30", "judge.concurrency=4")
    with questioned(tmp_path, 80, *settings) as (server, ledger, judge, questions):
        for left in (50, 20):
            with pytest.raises(JudgeError, match=rf"^stopped at `judge\.max_calls` = 30: 30 calls made, {left} of"):
                ask(questions, judge, ledger)
        ask(questions, judge, ledger)
        assert set(server.counts().values()) == {1}


def test_a_budget_is_not_overspent_and_wants_a_price(tmp_path: Path) -> None:
    # 100 tokens in, 40 of them cached, 10 out: an answer costs 100 millionths of a dollar, and at most 816.
    tight = ("judge.price={input: 1, cached_input: 0, output: 4}", "judge.budget_usd=0.002", "judge.max_tokens=200")
    with questioned(tmp_path, 80, *tight, "judge.concurrency=1") as (server, ledger, judge, questions):
        message = r"^stopped at `judge\.budget_usd` = 0\.002: 12 calls made, \$0\.0012 spent, 68 of 80 judgments still"
        with pytest.raises(JudgeError, match=message):
            ask(questions, judge, ledger)
        no_price = "judge.price={input: null, output: null, cached_input: null}"
        judge = make_judge(server.url, no_price, "judge.budget_usd=1")
        with pytest.raises(ConfigError, match=r"`judge\.budget_usd` can't be kept: the price of local is not in"):
            ask(questions[:4], judge, ledger)


@pytest.fixture
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "SERVER_KEY"):
        monkeypatch.setenv(name, f"{SECRET}-{name}")


def written(folder: Path) -> bytes:
    """The ledger's file, and its judgments as text, which are compressed in it."""
    files = b"".join(path.read_bytes() for path in folder.glob("l.sqlite*") if path.is_file())
    with Ledger(folder / "l.sqlite") as ledger:
        return files + str(list(ledger.judgments())).encode()


@pytest.mark.usefixtures("_secrets")
@pytest.mark.parametrize(("name", "sent"), [(None, None), ("SERVER_KEY", f"Bearer {SECRET}-SERVER_KEY")])
def test_only_a_named_key_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | None, sent: str | None
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # what is for this machine must not pass there
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    named = [f"judge.api_key_env={name}"] if name else []
    with questioned(tmp_path, 2, *named) as (server, ledger, judge, questions):
        ask(questions, judge, ledger)
        calls = server.calls()
    assert len(calls) == 2
    for call in calls:
        assert ("secret" in str(call["headers"])) == (sent is not None)
        assert sent is None or call["headers"]["authorization"] == sent


@pytest.mark.usefixtures("_secrets")
def test_no_redirect_is_followed(tmp_path: Path) -> None:
    with served(tmp_path / "other") as other:
        redirect = f"{other.url}/chat/completions"
        asked = questioned(tmp_path, 4, NAMED, redirect=redirect)
        with asked as (_, ledger, judge, questions), pytest.raises(ConfigError, match="there is a redirect"):
            ask(questions, judge, ledger)
        assert other.calls() == []


@pytest.mark.usefixtures("_secrets")
def test_a_key_in_an_answer_is_not_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="sacpo_exp")
    with questioned(tmp_path, 2, NAMED, echoes_key=True) as (_, ledger, judge, questions):
        ask(questions, judge, ledger)
        answers = ledger.find(question.key for question in questions).values()
        assert all(answer.state == State.ok and "Your key is sk-…" in str(answer.raw) for answer in answers)
        assert SECRET.encode() not in written(tmp_path)
    assert SECRET not in caplog.text


@pytest.mark.usefixtures("_secrets")
def test_an_error_of_a_server_shows_no_key_and_controls_no_terminal(tmp_path: Path) -> None:
    echo = f"\x1b]0;owned\x07\x1b[2J {os.environ['OPENAI_API_KEY']} sk-proj-abcdefgh"
    angry = {"echo": echo, "status": 422}
    with questioned(tmp_path, 2, NAMED, "judge.max_failures=1", **angry) as (_, ledger, judge, questions):
        with pytest.raises(JudgeError, match="owned") as caught:
            ask(questions, judge, ledger)
        assert str(caught.value).isprintable()
        for text in (str(caught.value).encode(), written(tmp_path)):
            assert SECRET.encode() not in text
            assert b"sk-proj-abc" not in text
            assert b"x1b" not in text
