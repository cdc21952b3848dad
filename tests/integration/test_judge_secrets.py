"""What goes to a judge's server, and what comes back from one with bad intentions."""

import logging
import os
from pathlib import Path

import pytest
from asking import questioned, served

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
    named = [f"judge.api_key_env={name}"] if name else []
    with questioned(tmp_path, 2, *named) as (server, ledger, judge, questions):
        ask(questions, judge, ledger)
        calls = server.calls()
    assert len(calls) == 2
    for call in calls:
        assert ("secret" in str(call["headers"])) == (sent is not None)
        assert sent is None or call["headers"]["authorization"] == sent


def test_no_redirect_is_followed(tmp_path: Path) -> None:
    with served(tmp_path / "other") as other:
        redirect = f"{other.url}/chat/completions"
        asked = questioned(tmp_path, 4, NAMED, redirect=redirect)
        with asked as (_, ledger, judge, questions), pytest.raises(ConfigError, match="there is a redirect"):
            ask(questions, judge, ledger)
        assert other.calls() == []


def test_a_key_in_an_answer_is_not_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="sacpo_exp")
    with questioned(tmp_path, 2, NAMED, echoes_key=True) as (_, ledger, judge, questions):
        ask(questions, judge, ledger)
        answers = ledger.find(question.key for question in questions).values()
        assert all(answer.state == State.ok and "Your key is sk-…" in str(answer.raw) for answer in answers)
        assert SECRET.encode() not in written(tmp_path)
    assert SECRET not in caplog.text


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
