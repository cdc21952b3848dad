"""What the oracle refuses, each in one sentence, before anything is drawn or trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sacpo_exp.config.stages import aligned_stages
from sacpo_exp.method.losses import trained_losses
from sacpo_exp.studies.oracle.trials import Data, Trial, configure_trial, list_trials
from sacpo_exp.studies.oracle.world import make_world

MISTAKES = {
    "world.prompts=0": "`world.prompts` must be at least 1, but is 0.",
    "world.responses=2": "`world.responses` must be at least 3, but is 2.",
    "world.scale=0": "`world.scale` must be greater than 0, but is 0.",
    "world.spread=inf": "`world.spread` must be greater than 0 and finite, but is inf.",
    "world.correlation=-1": "`world.correlation` must lie between -1 and 1, but is -1.",
    "orders=[]": "`orders` must name at least one, but is empty.",
    "pairs=[100,0]": "`pairs[1]` must be at least 1, but is 0.",
    "criteria=[helpfulness]": (
        "`criteria` must be the reward and at least one constraint, each once, but is [helpfulness]."
    ),
    "criteria=[safety,safety]": (
        "`criteria` must be the reward and at least one constraint, each once, but is [safety, safety]."
    ),
    "orders=[[safety,helpfulness],[safety]]": (
        "`orders[1]` must name each of `criteria` (helpfulness, safety) once, but is [safety]."
    ),
    "losses=[dpo,sft]": f"`losses` must be of {', '.join(trained_losses())}, but has sft.",
    "multiplier=[-2]": "`multiplier[0]` must be greater than 0, but is -2.",
    "multiplier=[1,2]": "`multiplier` must have one value for each constraint (safety), but has 2.",
    "multipliers=[1,0]": "`multipliers[1]` must be greater than 0, but is 0.",
    "ratios=[0.5,1.5]": "`ratios[1]` must be greater than 0 and at most 1, but is 1.5.",
    "updates=0": "`updates` must be at least 1, but is 0.",
    "seed=-1": "`seed` must be at least 0, but is -1.",
    "+train.beta=0.1": "`train.beta` can't be set: the oracle sets it itself, by keys of its own. Try: --cfg job",
    "+train.criterion=[safety]": (
        "`train.criterion` can't be set: the oracle sets it itself, by keys of its own. Try: --cfg job"
    ),
    "+train.stages.first.learning_rate=0.1": (
        "`train.stages.first.learning_rate` must be a key of one of the stages sft, helpfulness, safety."
    ),
    "+train.stages.safety.num_train_epochs=3": (
        "`train.stages.safety.num_train_epochs` can't be set: the oracle sets it itself, by keys of its own. "
        "Try: --cfg job"
    ),
}


@pytest.mark.parametrize(("override", "sentence"), MISTAKES.items())
def test_a_mistake_is_one_sentence(problems_of: Callable[..., list[str]], override: str, sentence: str) -> None:
    assert problems_of(override, command="oracle") == [sentence]


#: A third criterion, whose definition no file holds.
THREE = (
    *("criteria=[helpfulness,safety,honesty]", "multiplier=[2,1.5]", "orders=[[honesty,helpfulness,safety]]"),
    *("ratios=[]", "pairs=[10]", "losses=[dpo]"),
)


@pytest.mark.parametrize(
    ("override", "sentence"),
    {
        "ratios=[0.5]": "`ratios` are for merges of two policies, but 3 criteria make 3. Try: ratios=[]",
        "world.responses=3": "`world.responses` must be at least 4 for 3 criteria, but is 3.",
    }.items(),
)
def test_a_mistake_about_three_criteria_is_one_sentence(
    problems_of: Callable[..., list[str]], override: str, sentence: str
) -> None:
    assert problems_of(*THREE, override, command="oracle") == [sentence]


def test_a_run_has_a_stage_for_each_criterion_with_the_strength_that_the_theorem_gives_it(
    configure: Callable[..., Any], tmp_path: Path
) -> None:
    config = configure(*THREE, "+train.stages.honesty.learning_rate=0.25", command="oracle")
    data = Data(make_world(config.world, config.criteria), config.seed, tmp_path)
    trial, *_ = list_trials(config)
    run = configure_trial(config, trial, data)
    assert list(run.stages) == ["sft", "honesty", "helpfulness", "safety"]
    assert [stage.beta for stage in aligned_stages(run).values()] == [1 / 1.5, 1.0, 0.5]
    assert run.stages["honesty"].learning_rate == 0.25
    honesty = run.stages["honesty"]
    assert honesty.criterion is not None
    assert honesty.criterion.letter == "O"  # H is taken
    assert honesty.dataset is not None
    assert honesty.dataset.criterion == "honesty"
    assert len(Path(honesty.dataset.path or "").read_text("utf-8").splitlines()) == 10


def test_what_only_the_world_knows_is_told_before_torch_is_imported(cli: Callable[..., Any]) -> None:
    done = cli("oracle", "threshold=5", light=True)
    assert done.code == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: `threshold` must be below ")
    assert done.stderr.endswith("what always giving the best response has on average, but is 5.\n")


def test_an_override_of_train_that_is_wrong_is_told_before_torch_is_imported(cli: Callable[..., Any]) -> None:
    done = cli("oracle", "+train.stages.safety.learning_rate=-1", light=True)
    assert (done.code, done.stderr) == (2, "error: `stages.safety.learning_rate` must be greater than 0, but is -1.\n")


def test_an_override_of_train_that_is_unknown_is_one_line(cli: Callable[..., Any]) -> None:
    done = cli("oracle", "+train.stages.safety.foo=1", light=True)
    assert (done.code, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("error: `stages.safety.foo` can't be set: ")


def test_trials_are_listed_once_and_in_the_order_of_what_they_share(configure: Callable[..., Any]) -> None:
    overrides = (
        "losses=[dpo,kto]",
        "orders=[[helpfulness,safety]]",
        "pairs=[10,20]",
        "multipliers=[2.0,4.0]",
        "ratios=[0.5]",
    )
    start, kto = ((loss, ("helpfulness", "safety")) for loss in ("dpo", "kto"))
    assert list_trials(configure(*overrides, command="oracle")) == [
        Trial(*start, 10, (2.0,)),
        Trial(*start, 20, (2.0,)),
        Trial(*kto, 10, (2.0,)),
        Trial(*kto, 20, (2.0,)),
        Trial(*start, 20, (2.0,), 0.5),
        Trial(*kto, 20, (2.0,), 0.5),
        Trial(*start, 20, (4.0,)),
    ]
