"""What goes to a judge's server, and what comes back from one that means ill, by both ways of asking."""

import logging
import os
import re
import time
from pathlib import Path

import pytest
from asking import make_judge, make_questions, served

from sacpo_exp.errors import ConfigError, JudgeError
from sacpo_exp.evaluation.judges import connecting
from sacpo_exp.evaluation.judges.connecting import MOST_OF_ANSWER
from sacpo_exp.evaluation.judges.openai_judge import ask
from sacpo_exp.evaluation.ledger import Ledger, State

SECRET = "my-own-secret-0123456789"
NAMED = "judge.api_key_env=OPENAI_API_KEY"
WAYS = ("judge.via=chat", "judge.via=batch")


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "SERVER_KEY"):
        monkeypatch.setenv(name, f"{SECRET}-{name}")


def written(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.glob("l.sqlite*") if path.is_file())


@pytest.mark.parametrize(("name", "sent"), [(None, None), ("SERVER_KEY", f"Bearer {SECRET}-SERVER_KEY")])
def test_a_server_of_one_s_own_gets_the_key_that_is_named_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | None, sent: str | None
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # what is for this machine must not pass there
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with served(tmp_path) as server, Ledger(tmp_path / "l.sqlite") as ledger:
        judge = make_judge(server.url, *([f"judge.api_key_env={name}"] if name else []))
        ask(make_questions(judge, 2), judge, ledger)
        calls = server.calls()
    assert len(calls) == 2
    for call in calls:
        assert ("secret" in str(call["headers"])) == (sent is not None)
        assert sent is None or call["headers"]["authorization"] == sent


@pytest.mark.parametrize("way", WAYS)
def test_no_redirect_is_followed(tmp_path: Path, way: str) -> None:
    with served(tmp_path / "other") as other, Ledger(tmp_path / "l.sqlite") as ledger:
        with served(tmp_path / "one", redirect=f"{other.url}/chat/completions") as server:
            judge = make_judge(server.url, NAMED, way)
            with pytest.raises(ConfigError, match=rf"there is a redirect \(HTTP 307 to {re.escape(other.url)}"):
                ask(make_questions(judge, 4), judge, ledger)
        assert other.calls() == []


def test_an_answer_is_read_up_to_a_size(tmp_path: Path) -> None:
    with served(tmp_path, size=20 * MOST_OF_ANSWER) as server, Ledger(tmp_path / "l.sqlite") as ledger:
        judge = make_judge(server.url, "judge.max_attempts=1")
        questions = make_questions(judge, 2)
        before = peak_memory()
        ask(questions, judge, ledger)
        assert peak_memory() - before < 8 * MOST_OF_ANSWER
        answers = ledger.find(question.key for question in questions)
        assert max(call.get("sent", 0) for call in server.calls()) < 5 * MOST_OF_ANSWER
    assert {answer.state for answer in answers.values()} == {State.failed}
    assert all(f"more than {MOST_OF_ANSWER:,} bytes" in str(answer.error) for answer in answers.values())


def peak_memory() -> int:
    """Bytes that this process has held at most."""
    status = Path("/proc/self/status").read_text("utf-8")
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


def test_the_answers_of_a_batch_are_read_up_to_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "MOST_OF_BATCH", 2**20)
    with Ledger(tmp_path / "l.sqlite") as ledger, served(tmp_path, size=2**28) as server:
        judge = make_judge(server.url, "judge.via=batch")
        questions = make_questions(judge, 2)
        assert ask(questions, judge, ledger) == 2
        (tmp_path / "release").touch()
        with pytest.raises(JudgeError, match=r"unreadable about its batches \(more than 1,048,576 bytes"):
            ask(questions, judge, ledger)
        end = time.monotonic() + 30
        while not server.calls() and time.monotonic() < end:  # it notes a call when it has stopped sending
            time.sleep(0.01)
        assert server.calls()[-1]["sent"] < 2**26


def test_a_compressed_answer_that_was_not_asked_for_is_not_unpacked(tmp_path: Path) -> None:
    with served(tmp_path, encoding="gzip") as server, Ledger(tmp_path / "l.sqlite") as ledger:
        judge = make_judge(server.url, "judge.max_attempts=1")
        questions = make_questions(judge, 2)
        ask(questions, judge, ledger)
        assert all(call["headers"]["accept-encoding"] == "identity" for call in server.calls())
        assert "was not asked for" in str(ledger.find([questions[0].key])[questions[0].key].error)


def test_a_key_in_an_answer_is_not_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="sacpo_exp")
    with served(tmp_path, echoes_key=True) as server, Ledger(tmp_path / "l.sqlite") as ledger:
        judge = make_judge(server.url, NAMED)
        questions = make_questions(judge, 2)
        ask(questions, judge, ledger)
        answers = ledger.find(question.key for question in questions).values()
        assert all(answer.state == State.ok and "Your key is sk-…" in str(answer.raw) for answer in answers)
        assert SECRET.encode() not in written(tmp_path)
    assert SECRET not in caplog.text


@pytest.mark.parametrize("way", WAYS)
def test_a_terminal_obeys_no_error_of_a_server(tmp_path: Path, way: str) -> None:
    echo = f"\x1b]0;owned\x07\x1b[2J {os.environ['OPENAI_API_KEY']}"
    plan = {"status": 422} if way == "judge.via=chat" else {"batch_status": "failed"}
    with served(tmp_path, echo=echo, **plan) as server, Ledger(tmp_path / "l.sqlite") as ledger:
        judge = make_judge(server.url, NAMED, way, "judge.max_failures=1")
        questions = make_questions(judge, 2)
        (tmp_path / "release").touch()
        if way == "judge.via=batch":
            assert ask(questions, judge, ledger) == 2
        with pytest.raises(JudgeError, match="owned") as caught:
            ask(questions, judge, ledger)
        assert str(caught.value).isprintable()
        assert SECRET not in str(caught.value)
        assert SECRET.encode() not in written(tmp_path)
        assert b"\x1b" not in b"".join(str(row).encode() for row in ledger.judgments())
