"""What a new user types, and what the answer names."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

#: Typed, and words that the one sentence has.
ANSWERS = {
    "train optimization.learning_rate=1e-5": ["`stages.NAME.learning_rate`"],
    "train loss.loss_type=ipo": ["stages.NAME.loss.name=LOSS"],
    "train +report_to=wandb": ["tracker=wandb"],
    "train +max_steps=10": ["trainer.max_steps=VALUE"],
    "train +dataset.num_proc=8": ["`--cfg job` lists all keys"],
    "train model=Qwen/Qwen3-0.6B": ["model=hub model.path=Qwen/Qwen3-0.6B"],
    "train dataset=OWNER/NAME": ["dataset=hub dataset.path=OWNER/NAME"],
    "train model=smollm2_135m_hub model.path=Qwen/Qwen3-0.6B": ["model=hub model.path=Qwen/Qwen3-0.6B"],
    "train dataset.source=hub dataset.path=OWNER/NAME": ["dataset=hub dataset.path=OWNER/NAME"],
    "train hydra/sweeper=optuna": ["launchers/wandb_sweep.yaml"],
    "train +experiment=mini/p_sacpo": ["Try: experiment=mini/p_sacpo"],
    "eval experiment=paper/p_sacpo": ["`prompts.helpful_path`", "prompts.safety_path=FILE"],
}


@pytest.mark.parametrize("typed", ANSWERS)
def test_the_answer_names_what_would_work(
    problems_of: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    command, *overrides = typed.split()
    monkeypatch.setattr(sys, "argv", [command, *overrides])
    (sentence,) = problems_of(*overrides, command=command)
    assert [word for word in ANSWERS[typed] if word not in sentence] == [], sentence


def test_options_of_a_users_folder_are_listed(cli: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("defaults: [nano, _self_]\nname: mine\n", "utf-8")
    result = cli("train", "--config-dir", str(tmp_path), "model=mine", light=True)
    assert "a file optimization/mine.yaml" in result.stderr
    assert "mine, nano" in cli("train", "--config-dir", str(tmp_path), "model=other", light=True).stderr


def test_a_file_that_is_no_yaml_is_named_with_its_line(cli: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nbeta: {first: ???}\n", "utf-8")
    result = cli("train", "--config-dir", str(tmp_path), "experiment=mine", "dry_run=true", light=True)
    assert result.code == 2
    assert f"{tmp_path}/experiment/mine.yaml, line 2: this is not YAML" in result.stderr


def test_a_dry_sweep_needs_no_slurm_and_names_each_artifact_once(cli: Callable[..., Any], tmp_path: Path) -> None:
    launcher = ["hydra/launcher=slurm", "hydra.launcher.partition=gpu"]
    result = cli("train", "-m", *launcher, "model=tiny", "beta=0.1,0.2", "dry_run=true", f"paths.outputs={tmp_path}")
    assert result.code == 0, result.stderr
    assert "in all   4 stages" in result.stdout
    ids = [line.split()[-1] for line in result.stdout.splitlines() if line.startswith("  to make ")]
    assert len(ids) == len(set(ids)) == 4 + 4  # model and views; stages
