"""Runs of the oracle, and what it refuses before torch is imported."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sacpo_exp.config.stages import aligned_stages
from sacpo_exp.studies.oracle.trials import Data, Trial, configure_trial, list_trials
from sacpo_exp.studies.oracle.world import make_world

#: A third criterion, whose definition no file holds.
THREE = (
    *("criteria=[helpfulness,safety,honesty]", "multiplier=[2,1.5]", "orders=[[honesty,helpfulness,safety]]"),
    *("ratios=[]", "pairs=[10]", "losses=[dpo]"),
)


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
        Trial(*start, 20, (4.0,)),
    ]
