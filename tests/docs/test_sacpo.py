"""The `sacpo` command itself: help, overrides in place of options, and completion in a real bash."""

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sacpo_exp.__main__ import COMMANDS
from sacpo_exp.store.store import PARTIAL

Command = Callable[..., Any]


def test_help_lists_every_command_with_one_line(cli: Command) -> None:
    result = cli("--help", light=True)
    assert (result.code, result.stderr) == (0, "")
    for name, (_, line) in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(line)}$", result.stdout, re.MULTILINE)


def test_an_unknown_command_is_one_sentence(cli: Command) -> None:
    result = cli("trian", light=True)
    assert (result.code, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)
    assert "train" in result.stderr


@pytest.mark.parametrize("command", ["train", "choose", "oracle"])
def test_help_shows_what_a_user_can_set(cli: Command, command: str) -> None:
    result = cli(command, "--help", light=True)
    assert (result.code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"sacpo {command}")
    assert any(line.startswith("  tracker") for line in lines)
    assert "  beta=" in result.stdout
    assert ("[helpful_first], helpful_only" in result.stdout) == (command != "oracle")
    assert not re.search(r"_schema|base_openai|design/|/_setting|overrides=", result.stdout)
    assert max(map(len, lines)) <= 170


@pytest.mark.parametrize(
    ("overrides", "options"),
    [("ledger stats", "ledger stats"), ("store prune yes=true damaged=false", "store prune --yes")],
)
def test_commands_with_options_take_overrides_too(cli: Command, tmp_path: Path, overrides: str, options: str) -> None:
    leftover = tmp_path / "other" / "store" / "stage" / f"some-1{PARTIAL}"
    results = []
    for words in ([*overrides.split(), "paths.outputs=other"], [*options.split(), "--outputs", "other"]):
        leftover.mkdir(parents=True, exist_ok=True)
        results.append(cli(*words))
        assert leftover.exists() == ("prune" not in overrides)
    assert results[0] == results[1]
    assert "other" in results[0].stdout + results[0].stderr


@pytest.fixture
def bash(repo: Path, tmp_path: Path) -> Callable[[str], str]:
    """`bash(KEYS)` types into an interactive bash that has the completion, and returns what the screen shows then."""
    program = tmp_path / "bin" / "sacpo"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sacpo_exp "$@"\n')
    program.chmod(0o755)
    environment = os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(repo)}
    environment |= {"TERM": "dumb", "PS1": "READY> ", "INPUTRC": "/dev/null", "HISTFILE": "/dev/null"}

    def type_in(keys: str) -> str:
        here, there = pty.openpty()
        terminal: Any = {"stdin": there, "stdout": there, "stderr": there, "start_new_session": True}
        shell = subprocess.Popen(["bash", "--norc", "--noprofile", "-i"], env=environment, cwd=tmp_path, **terminal)
        os.close(there)
        try:
            os.write(here, b'eval "$(sacpo completion bash)"\n')
            read_until(here, "READY> ", times=2)
            os.write(here, keys.encode() + b"\t")
            read_quiet(here)
            os.write(here, b"\x01echo [\x05]\n")  # at both ends of the line; to see it whole
            return read_until(here, "]\r\n", times=2)
        finally:
            shell.kill()
            shell.wait()
            os.close(here)

    return type_in


def read_until(terminal: int, sign: str, times: int = 1) -> str:
    printed, end = "", time.monotonic() + 60
    while printed.count(sign) < times and time.monotonic() < end:
        if select.select([terminal], [], [], 1)[0]:
            printed += os.read(terminal, 4096).decode()
    return printed


def read_quiet(terminal: int) -> None:
    """Read until something has been printed and nothing follows for a while."""
    is_answered = False
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if select.select([terminal], [], [], 5 if is_answered else 1)[0]:
            is_answered = os.read(terminal, 4096).strip() != b"" or is_answered
        elif is_answered:
            return


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("sacpo train beta=0.1 order=helpful_f", "sacpo train beta=0.1 order=helpful_first"),
        ("sacpo store ver", "sacpo store verify"),
    ],
)
def test_bash_completes(bash: Callable[[str], str], typed: str, completed: str) -> None:
    assert f"[{completed}" in bash(typed)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("sacpo ", "choose "),
        ("sacpo report inter", "interval="),
        ("sacpo train -m model=t", "model=tiny"),
        ("sacpo ledger ", "stats "),
    ],
)
def test_completion_knows_commands_groups_options_and_keys(cli: Command, line: str, expected: str) -> None:
    result = cli("completion", "query", line, light=True)
    assert result.code == 0
    assert expected in result.stdout.split("\n")
