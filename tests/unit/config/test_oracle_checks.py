"""What the oracle refuses, each in one sentence, before anything is drawn or trained."""

from collections.abc import Callable
from typing import Any

import pytest

from sacpo_exp.config.oracle import Order
from sacpo_exp.config.schema import LossName
from sacpo_exp.oracle.trials import Trial, list_trials

MISTAKES = {
    "world.prompts=0": "`world.prompts` must be at least 1, but is 0.",
    "world.responses=2": "`world.responses` must be at least 3, but is 2.",
    "world.scale=0": "`world.scale` must be greater than 0, but is 0.",
    "world.spread=inf": "`world.spread` must be greater than 0 and finite, but is inf.",
    "world.correlation=-1": "`world.correlation` must lie between -1 and 1, but is -1.",
    "orders=[]": "`orders` must name at least one, but is empty.",
    "pairs=[100,0]": "`pairs[1]` must be at least 1, but is 0.",
    "losses=[dpo,sft]": "`losses` must be of dpo and kto, but has sft; supervised fine-tuning always comes first.",
    "multiplier=-2": "`multiplier` must be greater than 0, but is -2.",
    "multipliers=[1,0]": "`multipliers[1]` must be greater than 0, but is 0.",
    "ratios=[0.5,1.5]": "`ratios[1]` must be greater than 0 and at most 1, but is 1.5.",
    "updates=0": "`updates` must be at least 1, but is 0.",
    "seed=-1": "`seed` must be at least 0, but is -1.",
    "+train.beta=0.1": "`train.beta` can't be set: the oracle sets it itself, by keys of its own. Try: --cfg job",
    "+train.stages.second.num_train_epochs=3": (
        "`train.stages.second.num_train_epochs` can't be set: the oracle sets it itself, by keys of its own. "
        "Try: --cfg job"
    ),
}


@pytest.mark.parametrize(("override", "sentence"), MISTAKES.items())
def test_a_mistake_is_one_sentence(problems_of: Callable[..., list[str]], override: str, sentence: str) -> None:
    assert problems_of(override, command="oracle") == [sentence]


def test_what_only_the_world_knows_is_told_before_torch_is_imported(cli: Callable[..., Any]) -> None:
    done = cli("oracle", "threshold=5", light=True)
    assert done.code == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: `threshold` must be below ")
    assert done.stderr.endswith("the expected safety of always giving the safest response, but is 5.\n")


def test_an_override_of_train_that_is_wrong_is_told_before_torch_is_imported(cli: Callable[..., Any]) -> None:
    done = cli("oracle", "+train.stages.first.learning_rate=-1", light=True)
    assert (done.code, done.stderr) == (2, "error: `stages.first.learning_rate` must be greater than 0, but is -1.\n")


def test_trials_are_listed_once_and_in_the_order_of_what_they_share(configure: Callable[..., Any]) -> None:
    overrides = ("losses=[dpo,kto]", "orders=[helpful_first]", "pairs=[10,20]", "multipliers=[2.0,4.0]", "ratios=[0.5]")
    start, kto = ((loss, Order.helpful_first) for loss in (LossName.dpo, LossName.kto))
    assert list_trials(configure(*overrides, command="oracle")) == [
        Trial(*start, 10, 2.0),
        Trial(*start, 20, 2.0),
        Trial(*kto, 10, 2.0),
        Trial(*kto, 20, 2.0),
        Trial(*start, 20, 2.0, 0.5),
        Trial(*kto, 20, 2.0, 0.5),
        Trial(*start, 20, 4.0),
    ]
