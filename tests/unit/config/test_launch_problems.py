"""Mistakes that are visible before Hydra reads the command line."""

import subprocess
import sys
from pathlib import Path

import pytest

from sacpo_exp.config.environment import find_command_line_problems

LAUNCHED = (
    "sacpo_exp.train starts its own workers; do not start it with accelerate or torchrun. "
    "Try: sacpo train; `hardware.processes` says how many."
)


@pytest.mark.parametrize("variable", ["TORCHELASTIC_RUN_ID", "ACCELERATE_MIXED_PRECISION"])
def test_a_foreign_launcher_is_named(variable: str) -> None:
    assert find_command_line_problems([], {variable: "no"}, "train") == [LAUNCHED]


def test_torchrun_may_start_one_command_on_each_of_several_nodes() -> None:
    nodes = {"TORCHELASTIC_RUN_ID": "no", "LOCAL_WORLD_SIZE": "1", "GROUP_WORLD_SIZE": "2"}
    assert find_command_line_problems([], nodes, "train") == []
    assert find_command_line_problems([], nodes | {"LOCAL_WORLD_SIZE": "8"}, "train") == [LAUNCHED]


BOTH_SIDES = {
    "short": (["beta=1", "-m", "seed=1,2"], "beta=1 seed=1,2"),
    "long": (["beta=1", "--multirun", "seed=1,2"], "beta=1 seed=1,2"),
}


@pytest.mark.parametrize(("arguments", "overrides"), BOTH_SIDES.values(), ids=list(BOTH_SIDES))
def test_overrides_on_both_sides_of_multirun_are_put_on_one(arguments: list[str], overrides: str) -> None:
    sentence = f"overrides may not stand on both sides of `-m`. Try: sacpo eval -m {overrides}"
    assert find_command_line_problems(arguments, {}, "eval") == [sentence]


@pytest.mark.parametrize(
    "arguments",
    [["-m", "beta=1", "seed=1,2"], ["beta=1", "seed=1,2", "-m"], ["beta=1"], [], ["--config-dir=more", "-m", "beta=1"]],
    ids=["before", "after", "no sweep", "nothing", "option with a value"],
)
def test_overrides_on_one_side_are_fine(arguments: list[str]) -> None:
    assert find_command_line_problems(arguments, {"PATH": "/bin"}, "train") == []


@pytest.mark.parametrize("argument", ["~stages.safety", "~beta"])
def test_removing_a_setting_is_refused_in_a_sentence(argument: str) -> None:
    sentence = f"`{argument[1:]}` can't be removed: every setting has a value. Try: leave it out."
    assert find_command_line_problems(["seed=1", argument], {}, "train") == [sentence]


@pytest.mark.parametrize(
    ("command", "override"),
    [
        ("train", "judge.api_key=own-secret"),
        ("eval", "+judge.api_key=own-secret"),
        ("report", "++judge.api_key=own-secret"),
        ("choose", "judge={api_key: own-secret}"),
        ("eval", "hydra.job.env_set.OPENAI_API_KEY=own-secret"),
        ("eval", "judge.api_key_env=own-secret"),
        ("eval", "judge.base_url=https://me:own-secret@elsewhere.example/v1"),
    ],
)
def test_a_key_on_the_command_line_is_refused_before_it_is_written(tmp_path: Path, command: str, override: str) -> None:
    arguments = [sys.executable, "-m", f"sacpo_exp.{command}", override, "-m", f"paths.outputs={tmp_path}/outputs"]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "judge.api_key_env" in done.stderr
    assert "own-secret" not in done.stderr + done.stdout
    assert list(tmp_path.iterdir()) == []


def test_settings_about_tokens_and_the_name_of_a_variable_are_no_keys() -> None:
    overrides = [
        "judge.max_tokens=3",
        "judge.token_limit=max_tokens",
        "judge.api_key_env=A_KEY",
        "judge.api_key_env=null",
    ]
    assert find_command_line_problems(overrides, {}, "eval") == []
