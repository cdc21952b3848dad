"""What goes to a judge's server, and what comes back from one with bad intentions."""

import logging
import os
from pathlib import Path

import pytest
from asking import make_judge, make_questions, served

from sacpo_exp.errors import ConfigError, JudgeError
from sacpo_exp.evaluation.judges.openai_judge import ask
from sacpo_exp.evaluation.ledger import Ledger
from sacpo_exp.evaluation.records import State

SECRET = "my-own-secret-0123456789"
NAMED = "judge.api_key_env=OPENAI_API_KEY"


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "SERVER_KEY"):
        monkeypatch.setenv(name, f"{SECRET}-{name}")


def written(folder: Path) -> bytes:
    """The ledger's file, and its judgments as text, which are compressed in it."""
    files = b"".join(path.read_bytes() for path in folder.glob("l.sqlite*") if path.is_file())
    with Ledger(folder / "l.sqlite") as ledger:
        return files + str(list(ledger.judgments())).encode()


@pytest.mark.parametrize(("name", "sent"), [(None, None), ("SERVER_KEY", f"Bearer {SECRET}-SERVER_KEY")])
def test_only_a_named_key_is_sent(
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


def test_no_redirect_is_followed(tmp_path: Path) -> None:
    with served(tmp_path / "other") as other, Ledger(tmp_path / "l.sqlite") as ledger:
        with served(tmp_path / "one", redirect=f"{other.url}/chat/completions") as server:
            judge = make_judge(server.url, NAMED)
            with pytest.raises(ConfigError, match="there is a redirect"):
                ask(make_questions(judge, 4), judge, ledger)
        assert other.calls() == []


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


def test_an_error_of_a_server_shows_no_key_and_controls_no_terminal(tmp_path: Path) -> None:
    echo = f"\x1b]0;owned\x07\x1b[2J {os.environ['OPENAI_API_KEY']} sk-proj-abcdefgh"
    with served(tmp_path, echo=echo, status=422) as server, Ledger(tmp_path / "l.sqlite") as ledger:
        judge = make_judge(server.url, NAMED, "judge.max_failures=1")
        questions = make_questions(judge, 2)
        with pytest.raises(JudgeError, match="owned") as caught:
            ask(questions, judge, ledger)
        assert str(caught.value).isprintable()
        for text in (str(caught.value).encode(), written(tmp_path)):
            assert SECRET.encode() not in text
            assert b"sk-proj-abc" not in text
            assert b"x1b" not in text
