"""Numbers outside their bounds are reported at once, however far outside they are."""

from typing import Any

import pytest
from omegaconf import OmegaConf

from sacpo_exp.config.bounds import find_bound_problems, walk
from sacpo_exp.config.schema import RunConfig

#: Overrides of one number, and what it must be.
OUTSIDE = {
    "beta=-1": "greater than 0, but is -1",
    "earlier_betas=[0]": "greater than 0, but is 0",
    "seed=12345678901234567890": "at least 0 and at most",
    "stages.helpfulness.learning_rate=inf": "greater than 0 and finite, but is inf",
    "stages.helpfulness.loss.label_smoothing=0.5": "greater than 0 and below 0.5",
    "optimization.weight_decay=nan": "finite, but is nan",
    "dataset.heldout_fraction=1": "greater than 0 and below 1, but is 1",
}


@pytest.mark.parametrize("override", OUTSIDE)
def test_a_number_outside_its_bounds_is_one_sentence(problems_of: Any, override: str) -> None:
    losses = ["losses=[robust]"] if "label_smoothing" in override else []
    (problem,) = problems_of(*losses, override)
    assert problem.startswith(f"`{override.split('=')[0]}")
    assert OUTSIDE[override] in problem


GROUPS = {
    "judge=openai": {"judge.repeats=0", "judge.temperature=3", "judge.timeout=0", "judge.budget_usd=0"},
    "adapter=lora": {"adapter.r=0", "adapter.lora_alpha=-1", "adapter.lora_dropout=1"},
    "hardware=auto": {"hardware.per_device_train_batch_size=100000000000000", "hardware.processes=0"},
}


@pytest.mark.parametrize("group", GROUPS)
def test_several_numbers_are_reported_together(problems_of: Any, group: str) -> None:
    keys = {override.split("=")[0] for override in GROUPS[group]}
    assert {problem.split("`")[1] for problem in problems_of(group, *GROUPS[group])} == keys


@pytest.mark.parametrize(("command", "override"), [("report", "confidence=95"), ("oracle", "pairs=[100,0]")])
def test_other_commands_have_bounds_too(problems_of: Any, command: str, override: str) -> None:
    (problem,) = problems_of(override, command=command)
    assert problem.startswith(f"`{override.split('=')[0]}")


def test_a_typed_configuration_is_checked_as_a_composed_one(configure: Any) -> None:
    config = configure("model=tiny", "judge=openai")
    assert find_bound_problems(config, RunConfig) == []
    config.model.shape.vocab_size = config.stages["helpfulness"].global_batch_size = 0
    config.earlier_betas = [0.1, -1.0]
    keys = {problem.split("`")[1] for problem in find_bound_problems(config, RunConfig)}
    assert keys == {"earlier_betas[1]", "model.shape.vocab_size", "stages.helpfulness.global_batch_size"}


def test_the_walk_goes_through_mappings_and_the_judge(configure: Any) -> None:
    config = OmegaConf.structured(configure("judge=openai"))
    prefixes = {prefix for prefix, *_ in walk(config, RunConfig)}
    assert {"", "judge.price.", "stages.safety.loss."} <= prefixes
