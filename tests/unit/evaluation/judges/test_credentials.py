"""Keys and addresses: where they come from, which are refused, and that no key is ever told."""

from pathlib import Path

import pytest
from asked import make_judge

from sacpo_exp.config.environment import load_dotenv
from sacpo_exp.errors import ConfigError
from sacpo_exp.evaluation.judges.credentials import KEY, NO_KEY, OPENAI_URL, URL, find_base_url, find_key, mask, redact
from sacpo_exp.evaluation.ledger import Answer, State

LOCAL = "http://localhost:8000/v1"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY, raising=False)
    monkeypatch.delenv(URL, raising=False)


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, " sk-abc\n")
    assert find_key(make_judge(api_key_env=KEY)) == "sk-abc"
    assert find_key(make_judge(api_key_env=KEY, base_url=LOCAL)) == "sk-abc"


def test_no_key_is_sent_unless_its_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "sk-abc")
    monkeypatch.setenv("SERVER_KEY", "own")
    assert find_key(make_judge(base_url=LOCAL)) == NO_KEY
    assert find_key(make_judge(base_url=LOCAL, api_key_env="SERVER_KEY")) == "own"
    with pytest.raises(ConfigError, match="OTHER_KEY is neither in the environment"):
        find_key(make_judge(base_url=LOCAL, api_key_env="OTHER_KEY"))
    with pytest.raises(ConfigError, match=r"`judge\.api_key_env` is null"):
        find_key(make_judge())


@pytest.mark.parametrize(
    ("address", "is_sent"),
    [
        ("http://127.0.0.1:1/v1", True),
        ("http://127.8.0.1/v1", True),
        ("http://[::1]:1/v1", True),
        ("https://elsewhere.example/v1", True),
        ("http://elsewhere.example/v1", False),
        ("http://localhost.example/v1", False),
        ("http://127.0.0.1.example/v1", False),
        ("http://10.0.0.7:8000/v1", False),
        ("http://0.0.0.0:8000/v1", False),
    ],
)
def test_a_key_leaves_the_machine_encrypted_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch, address: str, is_sent: bool
) -> None:
    monkeypatch.setenv(KEY, "sk-abc-secret")
    judge = make_judge(base_url=address, api_key_env=KEY)
    if is_sent:
        assert find_key(judge) == "sk-abc-secret"
        return
    with pytest.raises(ConfigError, match=f"the key in {KEY} would be sent to http://") as caught:
        find_key(judge)
    assert "secret" not in str(caught.value)
    assert find_key(make_judge(base_url=address)) == NO_KEY


def test_a_dotenv_file_does_not_direct_a_key_of_the_shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text(f"{URL}=https://elsewhere.example/v1\n", "utf-8")
    monkeypatch.setenv(KEY, "sk-abc-secret")
    load_dotenv()
    judge = make_judge(api_key_env=KEY)
    with pytest.raises(ConfigError, match=f"sets {URL}, where {KEY} of the shell would be sent") as caught:
        find_key(judge)
    assert "secret" not in str(caught.value)
    assert find_key(make_judge(api_key_env=KEY, base_url="https://api.example/v1")) == "sk-abc-secret"
    Path(".env").write_text(f"{URL}=https://elsewhere.example/v1\n{KEY}=sk-abc-secret\n", "utf-8")
    assert find_key(judge) == "sk-abc-secret"


@pytest.mark.parametrize("key", ["one\ntwo-secret", "schlüssel-secret", "\x00secret"[1:] + "\x07"])
def test_a_key_that_no_header_takes_is_refused_without_being_told(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv(KEY, key)
    with pytest.raises(ConfigError, match=f"^{KEY} must be letters") as caught:
        find_key(make_judge(api_key_env=KEY))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("value", [None, "", "  "])
def test_without_a_key_only_openai_s_own_server_is_refused(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    if value is not None:
        monkeypatch.setenv(KEY, value)
    assert find_key(make_judge(api_key_env=KEY, base_url=LOCAL)) == NO_KEY
    with pytest.raises(ConfigError, match=rf"{KEY} is neither in the environment nor in a \.env file"):
        find_key(make_judge(api_key_env=KEY))


def test_the_address_is_the_configured_one_else_the_environment_s_else_openai_s(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert find_base_url(make_judge()) == OPENAI_URL
    monkeypatch.setenv(URL, "http://elsewhere/v1/")
    assert find_base_url(make_judge()) == "http://elsewhere/v1"
    assert find_base_url(make_judge(base_url="http://here/v1/")) == "http://here/v1"


@pytest.mark.parametrize(
    "address", ["localhost:8000/v1", "ftp://x/v1", "http://user:secret@x/v1", "http://x/v1?key=secret"]
)
def test_an_address_that_is_none_or_holds_a_secret_is_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    with pytest.raises(ConfigError, match=r"^`judge\.base_url` must be an address") as caught:
        find_base_url(make_judge(base_url=address))
    assert "secret" not in str(caught.value)
    monkeypatch.setenv(URL, address)
    with pytest.raises(ConfigError, match=f"^{URL} must be an address"):
        find_base_url(make_judge())


@pytest.mark.parametrize(
    "said",
    [
        "Incorrect API key provided: my-own-secret-0123456789.",
        "Incorrect API key provided: sk-proj-abcdefgh12345.",
        "Incorrect API key provided: sk-abcd********6789. Find it at https://example.org/keys.",
        "no such key: my-o*****6789",
    ],
)
def test_keys_in_complaints_are_blanked_out(said: str) -> None:
    told = redact(said, "my-own-secret-0123456789")
    assert told.split("sk-…")[0] == said[: said.index(": ") + 2]
    assert not any(part in told for part in ("my-o", "6789", "12345", "abcd"))


def test_the_placeholder_is_an_ordinary_word() -> None:
    assert redact("a key is none-needed here", NO_KEY) == "a key is none-needed here"


def test_a_terminal_obeys_nothing_that_a_server_says() -> None:
    assert redact("a\x1b[2Jb\x9b\u202ec\r\nd", NO_KEY) == "a[2Jbc d"


def test_the_key_is_blanked_out_in_every_text_of_an_answer() -> None:
    answer = Answer(State.ok, raw="7 5 secret-1", finish_reason="secret-1", answered_by="m-secret-1", prompt_tokens=3)
    assert "secret-1" not in str(mask(answer, "secret-1"))
    assert mask(answer, "secret-1").raw == "7 5 sk-…"
    assert mask(answer, "7") == answer  # a word, not a secret
