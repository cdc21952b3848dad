"""The `sacpo` command itself: help, overrides in place of options, and completion in a real bash."""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from processes import run_program

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


@pytest.mark.parametrize("command", ["train", "oracle"])
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


#: What bash does when Tab is typed after each of its arguments; words are replaced behind their last `=`.
COMPLETE = """
eval "$(sacpo completion bash)"
complete -p sacpo
COMP_WORDBREAKS=" ="
for COMP_LINE; do COMP_POINT=${#COMP_LINE} COMP_WORDS=(sacpo); _sacpo; echo "${COMPREPLY[*]}"; done
"""


def test_bash_completes(tmp_path: Path) -> None:
    program = tmp_path / "sacpo"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sacpo_exp "$@"\n')
    program.chmod(0o755)
    command = ["bash", "-c", COMPLETE, "bash", "sacpo train beta=0.1 order=helpful_f", "sacpo store ver"]
    printed = run_program(tmp_path, *command, PATH=f"{tmp_path}:{os.environ['PATH']}")
    registered, *words = printed.splitlines()
    assert registered.endswith("-F _sacpo sacpo")
    assert [word.strip() for word in words] == ["helpful_first", "verify"]


@pytest.mark.parametrize(
    ("line", "expected"), [("sacpo ", "choose "), ("sacpo train -m model=t", "model=tiny"), ("sacpo ledger ", "stats ")]
)
def test_completion_knows_commands_groups_options_and_keys(cli: Command, line: str, expected: str) -> None:
    result = cli("completion", "query", line, light=True)
    assert result.code == 0
    assert expected in result.stdout.split("\n")
