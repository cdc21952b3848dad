"""Trainer arguments of a user's: what is checked before anything is trained, and that they reach TRL's trainer."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sacpo_exp.config.messages import known_keys
from sacpo_exp.config.schema import RunConfig
from sacpo_exp.training.arguments import OWNED, find_argument_problems

Configure = Callable[..., Any]

SOUND = {
    "steps": ["trainer.max_steps=10"],
    "evaluation": ["trainer.eval_strategy=steps", "trainer.eval_steps=5"],
    "of one stage": ["stages.safety.trainer.weight_decay=0.01"],
    "a whole number for a fraction": ["trainer.weight_decay=0"],
    "kernel": ["trainer.use_liger_kernel=true"],
    "mapping": ["trainer.lr_scheduler_kwargs.min_lr=1e-6"],
    "of one trainer": ["stages.sft.trainer.packing=true"],
}


@pytest.mark.parametrize("overrides", SOUND.values(), ids=list(SOUND))
def test_an_argument_of_the_trainers_passes(configure: Configure, overrides: list[str]) -> None:
    assert find_argument_problems(configure(*overrides)) == []


OF_SOME = "is for all stages, but is not an argument of SFTConfig. Try: stages.helpfulness.trainer.use_weighting=VALUE"
WRONG = {
    "unknown": (
        "trainer.max_stepz=1",
        "`trainer.max_stepz` is not an argument of SFTConfig or DPOConfig. Did you mean `trainer.max_steps`?",
    ),
    "unknown of a stage": (
        "stages.safety.trainer.weight_decai=1",
        "`stages.safety.trainer.weight_decai` is not an argument of DPOConfig. "
        "Did you mean `stages.safety.trainer.weight_decay`?",
    ),
    "of some trainers only": (
        "trainer.use_weighting=true",
        f"`trainer.use_weighting` {OF_SOME} stages.safety.trainer.use_weighting=VALUE",
    ),
    "no number": ("trainer.max_steps=ten", "`trainer.max_steps` can't be 'ten': it must be a valid integer."),
    "a text": ("trainer.max_steps='10'", "`trainer.max_steps` can't be '10': it must be a valid integer."),
    "no yes or no": (
        "stages.safety.trainer.use_liger_kernel=perhaps",
        "`stages.safety.trainer.use_liger_kernel` can't be 'perhaps': it must be a valid boolean.",
    ),
    "none of the names": (
        "trainer.eval_strategy=stepss",
        "`trainer.eval_strategy` can't be 'stepss': it must be 'no', 'steps' or 'epoch'.",
    ),
    "owned": (
        "trainer.learning_rate=1",
        "`trainer.learning_rate` has a key of its own. Try: stages.NAME.learning_rate=VALUE",
    ),
    "owned, of a stage": (
        "stages.safety.trainer.beta=1",
        "`stages.safety.trainer.beta` has a key of its own. Try: stages.safety.beta=VALUE",
    ),
    "what can't be changed": ("trainer.run_name=x", "`trainer.run_name` is set by the project and can't be changed."),
}


@pytest.mark.parametrize(("override", "sentence"), WRONG.values(), ids=list(WRONG))
def test_a_wrong_argument_is_one_sentence_for_all_stages(configure: Configure, override: str, sentence: str) -> None:
    assert find_argument_problems(configure(override)) == [sentence]


def test_what_replaces_an_owned_argument_is_a_setting() -> None:
    keys = {word.split("=")[0] for text in OWNED.values() if text for word in text.split() if "=" in word}
    assert len(keys) > 10
    assert keys <= set(known_keys(RunConfig))


def test_a_wrong_argument_is_refused_by_a_dry_run(cli: Callable[..., Any]) -> None:
    result = cli("train", "model=tiny", "trainer.max_stepz=1", "dry_run=true")
    assert (result.code, result.stdout) == (2, "")
    assert result.stderr == f"error: {WRONG['unknown'][1]}\n"


@pytest.mark.slow
def test_arguments_reach_the_trainer_of_every_stage(cli: Callable[..., Any], tmp_path: Path) -> None:
    arguments = ["trainer.max_steps=10", "trainer.eval_strategy=steps", "trainer.eval_steps=5"]
    done = cli("train", "model=tiny", "order=safety_only", *arguments, "stages.safety.trainer.weight_decay=0.01")
    assert done.code == 0, done.stderr
    folders = [path.parent for path in (tmp_path / "outputs" / "store").rglob("metrics.jsonl")]
    assert len(folders) == 2
    recipes = []
    for folder in folders:
        entries = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
        measured = {entry["step"] for entry in entries if "eval_loss" in entry}
        assert {5, 10} <= measured
        assert max(entry["step"] for entry in entries) == 10
        recipes.append(json.loads((folder / "manifest.json").read_text("utf-8"))["recipe"])
    common = {"max_steps": 10, "eval_strategy": "steps", "eval_steps": 5}
    assert {recipe.get("criterion"): recipe["trainer"] for recipe in recipes} == {
        None: common,
        "safety": common | {"weight_decay": 0.01},
    }
