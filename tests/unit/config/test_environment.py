"""What a `.env` file sets, and what it does not."""

import os
from pathlib import Path

import pytest

from sacpo_exp.config.environment import SENT, load_dotenv, read_dotenv
from sacpo_exp.errors import ConfigError

LINES = """# a comment
PLAIN=one
export EXPORTED = two   # said aloud
QUOTED="three # four"
SINGLE='five'
EMPTY=
#OFF=six
no assignment
"""


def test_lines_are_read_as_a_shell_would(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(LINES, "utf-8")
    assert read_dotenv(tmp_path / ".env") == {
        "PLAIN": "one",
        "EXPORTED": "two",
        "QUOTED": "three # four",
        "SINGLE": "five",
        "EMPTY": "",
    }


def test_the_environment_wins_unless_it_is_empty_and_nothing_is_set_to_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("SACPO_A=file\nSACPO_B=file\nSACPO_C=\n", "utf-8")
    monkeypatch.setenv("SACPO_A", "shell")
    monkeypatch.setenv("SACPO_B", "")
    load_dotenv()
    assert (os.environ["SACPO_A"], os.environ["SACPO_B"]) == ("shell", "file")
    assert "SACPO_C" not in os.environ


@pytest.mark.parametrize(("address", "key"), SENT)
def test_the_file_does_not_direct_a_key_of_the_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, key: str
) -> None:
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


def test_no_file_is_no_problem_and_an_unreadable_one_is_told(tmp_path: Path) -> None:
    assert read_dotenv(tmp_path / "none") == {}
    (tmp_path / ".env").write_bytes(b"A=\xff")
    with pytest.raises(ConfigError, match=r"\.env can't be read: UnicodeDecodeError\.$"):
        read_dotenv(tmp_path / ".env")


def test_the_example_names_every_variable_that_is_read(repo: Path) -> None:
    example = read_dotenv(repo / ".env.example")
    code = "".join(path.read_text("utf-8") for path in (repo / "sacpo_exp").rglob("*.py"))
    names = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "WANDB_API_KEY", "AWS_ENDPOINT_URL")
    names += ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    secrets = {name for name in names if name in code}
    assert secrets <= set(example)
    assert set(example.values()) == {""}
