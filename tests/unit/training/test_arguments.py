"""Trainer arguments of a user's: what is checked before anything is trained, and that they reach TRL's trainer."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny import read_lines

from sacpo_exp.config.messages import known_keys
from sacpo_exp.config.schema import RunConfig
from sacpo_exp.training.arguments import OWNED, find_argument_problems


def test_arguments_of_the_trainers_pass(configure: Any) -> None:
    sound = ["trainer.max_steps=10", "trainer.eval_strategy=steps", "trainer.dataloader_num_workers=2"]
    sound += ["trainer.weight_decay=0", "trainer.lr_scheduler_kwargs.min_lr=1e-6"]  # a whole number, a mapping
    assert find_argument_problems(configure(*sound, "stages.sft.trainer.packing=true")) == []


DECAI = "stages.safety.trainer.weight_decai"
#: The override and the beginning of its sentence.
WRONG = {
    "trainer.max_stepz=1": "`trainer.max_stepz` is not an argument of SFTConfig or DPOConfig. Did you mean `trainer",
    f"{DECAI}=1": f"`{DECAI}` is not an argument of DPOConfig. Did you mean `stages.safety.trainer.weight_decay`?",
    "trainer.use_weighting=true": "`trainer.use_weighting` is for all stages, but is not an argument of SFTConfig.",
    "trainer.max_steps='10'": "`trainer.max_steps` can't be '10': it must be a valid integer.",
    "trainer.eval_strategy=stepss": "`trainer.eval_strategy` can't be 'stepss': it must be 'no', 'steps' or 'epoch'.",
    "trainer.eval_steps=5": "`trainer.eval_steps=5` has no effect alone. Try: trainer.eval_strategy=steps",
    "trainer.learning_rate=1": "`trainer.learning_rate` has a key of its own. Try: stages.NAME.learning_rate=VALUE",
    "stages.safety.trainer.beta=1": "`stages.safety.trainer.beta` has a key of its own. Try: stages.safety.beta=VALUE",
    "trainer.run_name=x": "`trainer.run_name` is set by the project and can't be changed.",
}
STEPS = "`trainer.eval_steps` must be a whole number of updates, or a share"
WRONG |= {f"trainer.eval_strategy=steps trainer.eval_steps={steps}": STEPS for steps in (-1, 0, 2.5)}


@pytest.mark.parametrize("override", WRONG)
def test_a_wrong_argument_is_one_sentence_for_all_stages(configure: Any, override: str) -> None:
    (sentence,) = find_argument_problems(configure(*override.split()))
    assert sentence.startswith(WRONG[override])


def test_what_replaces_an_owned_argument_is_a_setting() -> None:
    keys = {word.split("=")[0] for text in OWNED.values() if text for word in text.split() if "=" in word}
    assert len(keys) > 10
    assert keys <= set(known_keys(RunConfig))


@pytest.mark.slow
def test_arguments_reach_the_trainer_of_every_stage(cli: Any, tmp_path: Path) -> None:
    arguments = ["trainer.max_steps=10", "trainer.eval_strategy=steps", "trainer.eval_steps=5"]
    done = cli("train", "model=tiny", "order=safety_only", *arguments, "stages.safety.trainer.weight_decay=0.01")
    assert done.code == 0, done.stderr
    folders = [path.parent for path in (tmp_path / "outputs" / "store").rglob("metrics.jsonl")]
    assert len(folders) == 2
    recipes = []
    for folder in folders:
        entries = read_lines(folder / "metrics.jsonl")
        measured = {entry["step"] for entry in entries if "eval_loss" in entry}
        assert {5, 10} <= measured
        assert max(entry["step"] for entry in entries) == 10
        recipes.append(json.loads((folder / "manifest.json").read_text("utf-8"))["recipe"])
    common = {"max_steps": 10}
    assert {recipe.get("criterion"): recipe["trainer"] for recipe in recipes} == {
        None: common,
        "safety": common | {"weight_decay": 0.01},
    }
