"""A judge behind a real server that misbehaves: every question ends in the right state, none is asked twice."""

import itertools
import logging
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from asking import HERE, STATES, Server, content_of, make_judge, make_questions, served
from judge_server import LASTING, SEPARATOR, Plan, score

from sacpo_exp.config.judges import OpenAIJudgeConfig
from sacpo_exp.errors import ConfigError, JudgeError
from sacpo_exp.evaluation.judges import faults
from sacpo_exp.evaluation.judges.openai_judge import ask
from sacpo_exp.evaluation.judges.parsing import read_scores
from sacpo_exp.evaluation.ledger import Answer, Ledger, Question, State

NAMED = "judge.api_key_env=OPENAI_API_KEY"
PLAN = {"seed": 2, "share": 0.3, "lasting": 0.2, "hang": 3.0}


def expected_state(plan: Plan, question: Question, judge: OpenAIJudgeConfig) -> State:
    """What has to come out: the first attempt without a fault tells, if there is one."""
    content = content_of(question)
    attempts = range(1, judge.max_attempts + 1)
    if all(plan.fault(content, attempt) for attempt in attempts):
        return State.failed
    outcome = plan.outcome(content)
    return STATES[outcome] if outcome in LASTING else State.ok


def check_answers(questions: list[Question], answers: dict[str, Answer], plan: Plan, judge: OpenAIJudgeConfig) -> None:
    for question in questions:
        answer = answers[question.key]
        assert answer.state == expected_state(plan, question, judge), (content_of(question), answer)
        if answer.state == State.ok:
            reading = read_scores(answer.raw, answer.finish_reason, question.scale)
            assert reading.scores == (score(question.first), score(question.second))
            assert (answer.prompt_tokens, answer.cached_tokens, answer.completion_tokens) == (100, 40, 10)


def judge_all(folder: Path, count: int, concurrency: int) -> Counter[State]:
    """How often each state came out, all of them right; nothing that has a record is asked again."""
    with served(folder, **PLAN) as server, Ledger(folder / "ledger.sqlite") as ledger:
        judge = make_judge(server.url, f"judge.concurrency={concurrency}", "judge.timeout=1")
        questions = make_questions(judge, count)
        assert {Plan(**PLAN).outcome(content_of(question)) for question in questions} == {"scores", *LASTING}
        assert ask(questions, judge, ledger) == 0
        answers = ledger.find(question.key for question in questions)
        check_answers(questions, answers, Plan(**PLAN), judge)
        before = server.counts()
        again = make_judge(server.url, "judge.ask_again=[]")
        assert ask(questions, again, ledger) == 0
        assert server.counts() == before
        return Counter(answer.state for answer in answers.values())


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts that follow one another a good deal faster."""
    monkeypatch.setattr(faults, "FIRST_WAIT", 0.05)


@pytest.mark.usefixtures("impatient")
def test_every_judgment_ends_in_the_right_state_and_none_is_invented(tmp_path: Path) -> None:
    states = judge_all(tmp_path, 200, 32)
    assert states.total() == 200
    assert set(states) == {State.ok, State.unparsed, State.refused, State.failed}


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_two_thousand_judgments_of_a_server_that_fails_on_three_of_ten_calls(tmp_path: Path) -> None:
    assert judge_all(tmp_path, 2000, 64).total() == 2000


def kill_and_restart(folder: Path, count: int, kills: int, concurrency: int) -> None:
    """Kill a command that asks, at moments spread over its work, and let it go on until it is done."""
    plan = Plan(seed=3, latency=0.05, lasting=0.1)
    with served(folder, seed=plan.seed, latency=plan.latency, lasting=plan.lasting) as server:
        ledger_file = folder / "ledger.sqlite"
        asking = [sys.executable, str(HERE / "asking.py"), str(ledger_file), server.url, str(count)]
        command = [*asking, f"judge.concurrency={concurrency}"]
        for kill in range(kills):
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            wait_for_calls(server, (kill + 1) * count // (kills + 2), process)
            process.send_signal(signal.SIGKILL)
            process.wait()
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        judge = make_judge(server.url)
        questions = make_questions(judge, count)
        counts = server.counts()
        with Ledger(ledger_file) as ledger:
            answers = ledger.find(question.key for question in questions)
        check_answers(questions, answers, plan, judge)
        # Two calls are due where the content is empty; rejected requests have failed, and are asked again every time.
        usual = {"empty content": 2, "400": 2 * (kills + 1)}
        repeated = sum(max(0, calls - usual.get(plan.outcome(content), 1)) for content, calls in counts.items())
        assert repeated <= kills * concurrency
        assert len(counts) == count


def wait_for_calls(server: Server, calls: int, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None and (not server.journal.exists() or len(server.calls()) < calls):
        time.sleep(0.02)


def test_a_kill_costs_at_most_the_calls_in_flight(tmp_path: Path) -> None:
    kill_and_restart(tmp_path, count=120, kills=2, concurrency=4)


@pytest.mark.slow
def test_ten_kills_cost_at_most_the_calls_in_flight_each(tmp_path: Path) -> None:
    kill_and_restart(tmp_path, count=2000, kills=10, concurrency=16)


def test_two_processes_on_one_ledger_ask_nothing_twice(tmp_path: Path) -> None:
    with served(tmp_path, latency=0.05) as server:
        asking = [sys.executable, str(HERE / "asking.py"), str(tmp_path / "ledger.sqlite"), server.url, "160"]
        command = [*asking, "judge.concurrency=4"]
        processes = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(2)]
        assert [process.wait() for process in processes] == [0, 0]
        assert set(server.counts().values()) == {1}
        assert len(server.counts()) == 160


def test_failed_judgments_are_asked_again_and_answered_ones_are_not(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        with served(tmp_path / "one", share=1.0, kinds=["500"]) as server:
            judge = make_judge(server.url, "judge.max_attempts=1", "judge.max_failures=100")
            questions = make_questions(judge, 20)
            ask(questions, judge, ledger)
            port = server.url
        assert {answer.state for answer in ledger.find(q.key for q in questions).values()} == {State.failed}
        assert "500" in str(next(iter(ledger.find(q.key for q in questions).values())).error)
        with served(tmp_path / "two", lasting=0.3) as server:
            # Another port, and still the same questions: the address is part of what was asked.
            there = make_judge(server.url)
            ask(questions, there, ledger)
            first = server.counts()
            ask(questions, there, ledger)
            again = {content for content, calls in server.counts().items() if calls > first[content]}
        assert port != server.url
        assert again <= {content_of(q) for q in questions if Plan(lasting=0.3).outcome(content_of(q)) == "400"}


FATAL = [
    (
        401,
        None,
        ConfigError,
        r"does not accept the key \(HTTP 401.*Try: export OPENAI_API_KEY=\.\.\. judge\.api_key_env=",
    ),
    (403, None, ConfigError, r"does not accept the key \(HTTP 403"),
    (404, None, ConfigError, r"^`judge\.base_url` http://.* or `judge\.model` local is not there \(HTTP 404"),
    (499, None, JudgeError, r"stopped: HTTP 429.* What was judged is kept"),  # a quota that is used up
    (429, "3600", JudgeError, r"it asks to wait 3600 s"),
]


@pytest.mark.parametrize(("status", "retry_after", "error", "message"), FATAL)
def test_what_no_other_question_would_survive_stops_the_run_at_once(
    tmp_path: Path, status: int, retry_after: str | None, error: type[Exception], message: str
) -> None:
    with served(tmp_path, status=status, retry_after=retry_after) as server, Ledger(tmp_path / "l.sqlite") as ledger:
        judge = make_judge(server.url, "judge.concurrency=2")
        with pytest.raises(error, match=message):
            ask(make_questions(judge, 40), judge, ledger)
        assert len(server.calls()) <= 2
        assert list(ledger.judgments()) == []


def test_nobody_there_is_told_with_the_address(tmp_path: Path) -> None:
    judge = make_judge("http://127.0.0.1:9/v1")
    with Ledger(tmp_path / "l.sqlite") as ledger, pytest.raises(ConfigError) as caught:
        ask(make_questions(judge, 4), judge, ledger)
    assert str(caught.value).startswith("`judge.base_url` must be where a server answers, but at http://127.0.0.1:9/v1")


def test_a_server_that_fails_for_ever_is_left_after_some_failures_in_a_row(tmp_path: Path) -> None:
    with served(tmp_path, status=500) as server, Ledger(tmp_path / "l.sqlite") as ledger:
        judge = make_judge(server.url, "judge.max_attempts=2", "judge.max_failures=5", "judge.concurrency=4")
        with pytest.raises(JudgeError, match=r"failed on 5 questions in a row \(last: HTTP 500: status\)"):
            ask(make_questions(judge, 60), judge, ledger)
        states = [answer.state for _, answer in ledger.judgments()]
        assert set(states) == {State.failed}
        assert 5 <= len(states) < 10


def test_a_rejected_request_is_given_up_after_the_stated_number(tmp_path: Path) -> None:
    with served(tmp_path, status=422) as server, Ledger(tmp_path / "l.sqlite") as ledger:
        judge = make_judge(server.url, "judge.max_rejections=2")
        ask(make_questions(judge, 2), judge, ledger)
        assert set(server.counts().values()) == {2}
        assert {answer.attempts for _, answer in ledger.judgments()} == {2}


def test_requests_that_were_rejected_before_do_not_keep_the_rest_from_being_asked(tmp_path: Path) -> None:
    with served(tmp_path / "one", status=422) as server, Ledger(tmp_path / "l.sqlite") as ledger:
        judge = make_judge(server.url, "judge.max_failures=100")
        ask(make_questions(judge, 20), judge, ledger)
        usual = make_judge(server.url, "judge.max_failures=5")
        assert ask(make_questions(usual, 20), usual, ledger) == 0  # all asked again, though none with success
        with pytest.raises(JudgeError, match="failed on 5 questions in a row"):
            ask(make_questions(usual, 40), usual, ledger)  # further ones that are rejected are a sign
        contents = [call["content"] for call in server.calls()][80:]
        assert not any(f"r{number}\n" in content for content in contents for number in range(10))  # new ones first


def test_retry_after_is_honoured(tmp_path: Path) -> None:
    with served(tmp_path, status=429, retry_after="1") as server, Ledger(tmp_path / "l.sqlite") as ledger:
        judge = make_judge(server.url, "judge.max_attempts=3")
        ask(make_questions(judge, 2)[:1], judge, ledger)
        times = [call["time"] for call in server.calls()]
        assert len(times) == 3
        assert all(later - earlier >= 1.0 for earlier, later in itertools.pairwise(times))


def test_a_limit_on_calls_stops_cleanly_and_the_same_command_goes_on(tmp_path: Path) -> None:
    with served(tmp_path) as server, Ledger(tmp_path / "l.sqlite") as ledger:
        judge = make_judge(server.url, "judge.max_calls=30", "judge.concurrency=4")
        questions = make_questions(judge, 80)
        left = []
        for _ in range(2):
            with pytest.raises(JudgeError, match=r"^stopped at `judge\.max_calls` = 30: 30 calls made, ") as caught:
                ask(questions, judge, ledger)
            left.append(str(caught.value).split("made, ")[1].split()[0])
        assert left == ["50", "20"]
        assert ask(questions, judge, ledger) == 0
        assert set(server.counts().values()) == {1}


#: 100 tokens in, 40 of them cached, 10 out: the server's answers cost 100 millionths of a dollar each.
PRICE = "judge.price={input: 1, cached_input: 0, output: 4}"
TIGHT = (PRICE, "judge.budget_usd=0.002", "judge.max_tokens=200")


def test_a_budget_is_spent_as_far_as_the_worst_case_of_the_next_call_allows(tmp_path: Path) -> None:
    with served(tmp_path) as server, Ledger(tmp_path / "l.sqlite") as ledger:
        judge = make_judge(server.url, *TIGHT)
        # A call may cost 816 millionths: two fit at once, and one more as long as no more than 1184 are spent.
        said = r"^stopped at `judge\.budget_usd` = 0\.002: 12 calls made, \$0\.0012 spent, 68 of 80 judgments still"
        with pytest.raises(JudgeError, match=said):
            ask(make_questions(judge, 80), judge, ledger)
        assert len(server.calls()) == 12


def test_calls_that_were_cut_off_count_as_if_they_had_cost_the_most(tmp_path: Path) -> None:
    with served(tmp_path, share=1.0, kinds=["cut"]) as server, Ledger(tmp_path / "l.sqlite") as ledger:
        judge = make_judge(server.url, *TIGHT)
        with pytest.raises(JudgeError, match=r"2 calls made, \$0\.0016 spent, 10 of 10 judgments still"):
            ask(make_questions(judge, 10), judge, ledger)
        assert len(server.calls()) == 2


def test_a_budget_below_a_single_call_is_told(tmp_path: Path) -> None:
    judge = make_judge("http://127.0.0.1:9/v1", PRICE, "judge.budget_usd=0.0001", "judge.max_tokens=200")
    with (
        Ledger(tmp_path / "l.sqlite") as ledger,
        pytest.raises(JudgeError, match=r"next call alone may cost \$0\.00082"),
    ):
        ask(make_questions(judge, 4), judge, ledger)


def test_a_stopped_run_does_not_sit_out_the_waits_that_the_server_asked_for(tmp_path: Path) -> None:
    plan = {"share": 0.3, "kinds": ["429 later"], "retry_after": "590"}
    with served(tmp_path, **plan) as server, Ledger(tmp_path / "l.sqlite") as ledger:
        judge = make_judge(server.url, "judge.max_calls=10", "judge.concurrency=8")
        questions = make_questions(judge, 40)
        assert any(Plan(**plan).fault(content_of(question), 1) for question in questions[:8])
        with pytest.raises(JudgeError, match=r"stopped at `judge\.max_calls` = 10"):
            ask(questions, judge, ledger)


def test_an_unknown_price_is_said_and_a_budget_without_a_price_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    no_price = "judge.price={input: null, output: null, cached_input: null}"
    with served(tmp_path) as server, Ledger(tmp_path / "l.sqlite") as ledger:
        judge = make_judge(server.url, no_price)
        with caplog.at_level(logging.INFO):
            ask(make_questions(judge, 2), judge, ledger)
        assert "the price of local is not known" in caplog.text
        judge = make_judge(server.url, no_price, "judge.budget_usd=1")
        with pytest.raises(ConfigError, match=r"`judge\.budget_usd` can't be kept: the price of local is not in"):
            ask(make_questions(judge, 4), judge, ledger)


def test_a_key_that_the_server_echoes_is_neither_kept_nor_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "my-own-secret-0123456789"
    monkeypatch.setenv("OPENAI_API_KEY", secret)
    echo = f"Incorrect API key provided: {secret} or sk-proj-abc***xyz"
    with caplog.at_level(logging.DEBUG, logger="sacpo_exp"):
        for status in (401, 422):
            with served(tmp_path / str(status), status=status, echo=echo, share=1.0) as server:
                judge = make_judge(server.url, NAMED)
                with Ledger(tmp_path / "l.sqlite") as ledger, suppress(ConfigError):
                    ask(make_questions(judge, 2), judge, ledger)
            assert server.calls()
    with served(tmp_path / "told", status=401, echo=echo) as server, Ledger(tmp_path / "l.sqlite") as ledger:
        judge = make_judge(server.url, NAMED)
        with pytest.raises(ConfigError, match=r"does not accept the key") as caught:
            ask(make_questions(judge, 2), judge, ledger)
        assert "sk-proj-abc" not in str(caught.value)
        assert secret not in str(caught.value)
    assert secret not in caplog.text
    for path in tmp_path.glob("l.sqlite*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes()
            assert b"sk-proj-abc" not in path.read_bytes()


def test_content_of_the_server_s_questions_is_what_the_tests_say() -> None:
    question = make_questions(make_judge("http://127.0.0.1:9/v1"), 2)[0]
    assert content_of(question).split(SEPARATOR)[1:] == ["r0", "s0"]
