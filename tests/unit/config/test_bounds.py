"""Numbers outside their bounds are told at once, however far outside they are."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from sacpo_exp.config.bounds import find_bound_problems, walk
from sacpo_exp.config.messages import SCHEMAS
from sacpo_exp.config.validation import _divides, _nearest_batches

Problems = Callable[..., list[str]]

SEED = 12345678901234567890
OUTSIDE = {
    "seed": [f"seed={SEED}", f"dataset.seed={SEED}"],
    "shape of zero": ["model=tiny", "model.shape.hidden_size=0", "model.shape.num_attention_heads=0"],
    "shape of zero, hardware that fits": ["model=tiny", "model.shape.num_attention_heads=0", "hardware=auto"],
    "epochs": ["stages.helpfulness.num_train_epochs=1e300"],
    "rows": ["dataset.max_rows=100000000000000000000"],
    "not a number": ["optimization.weight_decay=nan"],
    "infinite": ["stages.helpfulness.learning_rate=inf"],
    "batch": ["hardware=auto", "stages.helpfulness.global_batch_size=100000000000001", "hardware.processes=2"],
    "rows of a device": ["hardware=auto", "hardware.per_device_train_batch_size=100000000000000"],
    "seed of a judge": ["judge=openai", "judge.seed=100000000000000000000"],
}


@pytest.mark.parametrize("overrides", OUTSIDE.values(), ids=list(OUTSIDE))
def test_a_number_outside_its_bounds_is_told(problems_of: Problems, overrides: list[str]) -> None:
    keys = {override.split("=")[0] for override in overrides}
    told = {problem.split("`")[1] for problem in problems_of(*overrides)}
    assert told
    assert told <= keys


def test_the_largest_seed_is_accepted(configure: Callable[..., Any], problems_of: Problems) -> None:
    assert configure(f"seed={2**32 - 1}").seed == 2**32 - 1
    assert problems_of(f"seed={2**32}") == ["`seed` must be at most 4294967295, but is 4294967296."]


def test_a_typed_configuration_is_checked_as_a_composed_one(configure: Callable[..., Any]) -> None:
    config = configure("model=tiny", "judge=openai")
    assert find_bound_problems(config, SCHEMAS["train"]) == []
    config.model.shape.vocab_size = config.stages["helpfulness"].global_batch_size = 0
    config.hardware.devices = [0, 2**70]
    told = {problem.split("`")[1] for problem in find_bound_problems(config, SCHEMAS["train"])}
    assert told == {"hardware.devices[1]", "model.shape.vocab_size", "stages.helpfulness.global_batch_size"}


def test_the_walk_goes_through_lists_and_the_judge(configure: Callable[..., Any]) -> None:
    from omegaconf import OmegaConf

    config = OmegaConf.structured(configure("dataset=local", "dataset.mix=[{path: .}]", "judge=openai"))
    assert {"", "dataset.mix[0].", "judge.price.", "stages.safety.loss."} <= {
        prefix for prefix, *_ in walk(config, SCHEMAS["train"])
    }


SHAPES = {
    "heads": ["model.shape.num_attention_heads=5", "model.shape.num_key_value_heads=5"],
    "odd head": ["model.shape.hidden_size=12"],
    "shared keys": ["model.shape.num_key_value_heads=3"],
    "vocabulary": ["model.shape.vocab_size=10"],
}


@pytest.mark.parametrize("overrides", SHAPES.values(), ids=list(SHAPES))
def test_a_shape_that_does_not_divide_is_one_sentence(problems_of: Problems, overrides: list[str]) -> None:
    (problem,) = problems_of("model=tiny", *overrides)
    assert problem.startswith("`model.shape.")


@pytest.mark.parametrize("template", ["{% for", "{{ messages[0]", "{% if x %}", "{% unknown %}"])
def test_a_broken_template_is_one_sentence(problems_of: Problems, template: str) -> None:
    (problem,) = problems_of("model=tiny", f"model.chat_template='{template}'")
    assert problem.startswith("`model.chat_template` must be a Jinja template")


def test_a_template_may_mark_what_the_model_says(configure: Callable[..., Any]) -> None:
    template = "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% break %}{% endfor %}"
    assert configure("model=tiny", f"model.chat_template='{template}'").model.chat_template == template


@pytest.mark.parametrize("rows_needed", [1, 2])
def test_the_nearest_batches_are_those_of_a_search(configure: Callable[..., Any], rows_needed: int) -> None:
    hardware = configure().hardware
    for processes, rows, size in itertools.product((1, 2, 3, 8), (1, 2, 5, 8), range(1, 60)):
        hardware.processes, hardware.per_device_train_batch_size = processes, rows
        if _divides(size, hardware):
            continue
        passes = processes * rows
        least = min(passes, rows_needed * processes)
        can = [batch for batch in range(least, size + 2 * passes + 1) if _divides(batch, hardware)]
        searched = sorted(sorted(can, key=lambda batch: abs(batch - size))[:2])
        assert _nearest_batches(size, hardware, rows_needed) == searched, (processes, rows, size)
