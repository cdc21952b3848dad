"""What a `.env` file sets, and what is refused before Hydra writes it down."""

import os
from pathlib import Path
from typing import Any

import pytest

from sacpo_exp.config.environment import SENT, find_command_line_problems, load_dotenv, read_dotenv
from sacpo_exp.errors import ConfigError

LINES = """# a comment
PLAIN=one
export EXPORTED = two   # with a comment
QUOTED="three # four"
SINGLE='five'
EMPTY=
#OFF=six
"""


def test_lines_are_read_as_a_shell_would_and_an_unreadable_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(LINES, "utf-8")
    wanted = {"PLAIN": "one", "EXPORTED": "two", "QUOTED": "three # four", "SINGLE": "five", "EMPTY": ""}
    assert read_dotenv(tmp_path / ".env") == wanted
    (tmp_path / ".env").write_bytes(b"A=\xff")
    with pytest.raises(ConfigError, match=r"\.env can't be read: UnicodeDecodeError\.$"):
        read_dotenv(tmp_path / ".env")


def test_the_environment_wins_unless_it_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("SACPO_A=file\nSACPO_B=file\nSACPO_C=\n", "utf-8")
    monkeypatch.setenv("SACPO_A", "shell")
    monkeypatch.setenv("SACPO_B", "")
    load_dotenv()
    assert (os.environ["SACPO_A"], os.environ["SACPO_B"]) == ("shell", "file")
    assert "SACPO_C" not in os.environ


@pytest.mark.parametrize(("address", "key"), SENT)
def test_the_file_directs_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, key: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(address, "")
    monkeypatch.setenv(key, "own-secret")
    (tmp_path / ".env").write_text(f"{address}=https://elsewhere.example\n", "utf-8")
    with pytest.raises(ConfigError, match=f"sets {address}, where {key} of the shell would be sent") as caught:
        load_dotenv()
    assert "own-secret" not in str(caught.value)
    (tmp_path / ".env").write_text(f"{address}=https://elsewhere.example\n{key}=own-secret\n", "utf-8")
    load_dotenv()
    monkeypatch.setenv(address, "https://chosen.example")
    (tmp_path / ".env").write_text(f"{address}=https://elsewhere.example\n", "utf-8")
    load_dotenv()
    assert os.environ[address] == "https://chosen.example"


def test_the_example_names_every_variable_that_is_read(repo: Path) -> None:
    example = read_dotenv(repo / ".env.example")
    code = "".join(path.read_text("utf-8") for path in (repo / "sacpo_exp").rglob("*.py"))
    names = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "WANDB_API_KEY", "AWS_ENDPOINT_URL")
    names += ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    secrets = {name for name in names if name in code}
    assert secrets <= set(example)
    assert set(example.values()) == {""}


def test_no_other_launcher_may_start_a_command() -> None:
    for name in ("TORCHELASTIC_RUN_ID", "ACCELERATE_MIXED_PRECISION"):
        (problem,) = find_command_line_problems([], {name: "no"}, "train")
        assert "Try: sacpo train" in problem


#: Overrides that hold a secret, and their command.
SECRETS = {
    "judge.api_key=own-secret": "train",
    "++judge.api_key=own-secret": "report",
    "judge={api_key: own-secret}": "choose",
    "hydra.job.env_set.OPENAI_API_KEY=own-secret": "eval",
    "judge.api_key_env=own-secret": "eval",
    "judge.base_url=https://me:own-secret@elsewhere.example/v1": "eval",
    "store.mirror=s3://me:own-secret@bucket/x": "train",
}


@pytest.mark.parametrize("override", SECRETS)
def test_a_secret_on_the_command_line_is_refused_and_not_repeated(override: str) -> None:
    (problem,) = find_command_line_problems([override, "-m"], {}, SECRETS[override])
    assert "own-secret" not in problem
    no_secrets = ["judge.max_tokens=3", "judge.token_limit=max_tokens", "judge.api_key_env=A", "judge.api_key_env=null"]
    assert find_command_line_problems(no_secrets, {}, "eval") == []


def test_a_secret_is_refused_before_anything_is_written(cli: Any, tmp_path: Path) -> None:
    done = cli("eval", "judge.api_key=own-secret", "-m", light=True)
    assert (done.code, done.stdout) == (2, "")
    assert "judge.api_key_env" in done.stderr
    assert "own-secret" not in done.stderr
    assert list(tmp_path.iterdir()) == []
