"""Keys and addresses: where they come from, which are refused, that no key is shown; and errors that stop a run."""

import re

import httpx2
import openai
import pytest
from asked import make_judge

from sacpo_exp.errors import ConfigError
from sacpo_exp.evaluation.judges import client
from sacpo_exp.evaluation.judges.client import KEY, NO_KEY, URL
from sacpo_exp.evaluation.records import Answer, State

LOCAL = "http://localhost:8000/v1"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY, raising=False)
    monkeypatch.delenv(URL, raising=False)


def test_the_key_comes_from_the_variable_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, " sk-abc\n")
    assert client.find_key(make_judge(api_key_env=KEY)) == "sk-abc"
    assert client.find_key(make_judge(base_url=LOCAL)) == NO_KEY
    with pytest.raises(ConfigError, match="OTHER_KEY is neither in the environment"):
        client.find_key(make_judge(base_url=LOCAL, api_key_env="OTHER_KEY"))
    monkeypatch.setenv(KEY, "  ")
    assert client.find_key(make_judge(api_key_env=KEY, base_url=LOCAL)) == NO_KEY
    for name in (KEY, None):  # OpenAI's own server must have one
        with pytest.raises(ConfigError, match="needs a key"):
            client.find_key(make_judge(api_key_env=name))
    monkeypatch.setenv(KEY, "one\ntwo-secret")
    with pytest.raises(ConfigError, match=f"^{KEY} must be one line") as caught:
        client.find_key(make_judge(api_key_env=KEY))
    assert "secret" not in str(caught.value)


def test_a_key_is_sent_encrypted_or_locally(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "sk-abc-secret")
    for address in ("http://[::1]:1/v1", "https://elsewhere.example/v1"):
        assert client.find_key(make_judge(base_url=address, api_key_env=KEY)) == "sk-abc-secret"
    for address in ("http://elsewhere.example/v1", "http://127.0.0.1.example/v1"):
        with pytest.raises(ConfigError, match=f"the key in {KEY} would be sent to http://") as caught:
            client.find_key(make_judge(base_url=address, api_key_env=KEY))
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("address", ["localhost:8000/v1", "http://user:secret@x/v1", "http://x/v1?key=secret"])
def test_an_address_that_is_none_or_holds_a_secret_is_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    assert client.find_base_url(make_judge()) == client.OPENAI_URL
    monkeypatch.setenv(URL, "http://elsewhere/v1/")
    assert client.find_base_url(make_judge()) == "http://elsewhere/v1"
    assert client.find_base_url(make_judge(base_url="http://here/v1/")) == "http://here/v1"
    with pytest.raises(ConfigError, match=r"^`judge\.base_url` must be an address") as caught:
        client.find_base_url(make_judge(base_url=address))
    assert "secret" not in str(caught.value)
    monkeypatch.setenv(URL, address)
    with pytest.raises(ConfigError, match=f"^{URL} must be an address"):
        client.find_base_url(make_judge())


def test_keys_in_error_messages_are_blanked_out() -> None:
    wrong = "Incorrect API key provided: "
    for text in (f"{wrong}my-own-secret-0123456789.", f"{wrong}sk-proj-abcdefgh12345.", "no such key: my-o*****6789"):
        shown = client.redact(text, "my-own-secret-0123456789")
        assert shown.split("sk-…")[0] == text[: text.index(": ") + 2]
        assert not any(part in shown for part in ("my-o", "6789", "12345", "abcd"))


def test_control_characters_are_removed_and_words_stay() -> None:
    assert client.redact("a\x1b[2Jb\x9b\u202ec none-needed", NO_KEY) == "a[2Jbc none-needed"
    answer = Answer(State.ok, raw="7 5 secret-1", finish_reason="secret-1", answered_by="m-secret-1")
    assert "secret-1" not in str(client.mask(answer, "secret-1"))
    assert client.mask(answer, "7") == answer  # too short for a secret


def status_error(status: int, message: str = "no", code: str | None = None) -> openai.APIStatusError:
    response = httpx2.Response(status, request=httpx2.Request("POST", LOCAL))
    return openai.APIStatusError(message, response=response, body={"message": message, "code": code})


def test_what_no_other_question_would_survive_stops_the_run() -> None:
    judge = make_judge(base_url=LOCAL, structured=True)
    for error, message in (
        (status_error(401), r"does not accept the key \(HTTP 401: no\)\. Try: export OPENAI_API_KEY="),
        (status_error(307), "there is a redirect"),
        (status_error(404), r"`judge\.base_url` .* or `judge\.model` big is not there"),
        (status_error(400, "unknown field response_format"), r"takes no JSON schema .*Try: judge\.structured=false"),
        (status_error(429, "pay", "insufficient_quota"), "stopped: HTTP 429: pay"),
    ):
        assert re.search(message, str(client.find_fatal(error, judge, NO_KEY)))
    for error in (status_error(429), status_error(500), ValueError("unreadable")):
        assert client.find_fatal(error, judge, NO_KEY) is None
