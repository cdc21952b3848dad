"""Runs of the oracle, and what it refuses before torch is imported."""

from pathlib import Path
from typing import Any

import pytest

from sacpo_exp.config.stages import aligned_stages
from sacpo_exp.studies.oracle.trials import Trial, configure_trial, list_trials
from sacpo_exp.studies.oracle.world import make_world

#: A third criterion, whose definition no file holds.
THREE = (
    *("criteria=[helpfulness,safety,honesty]", "multiplier=[2,1.5]", "orders=[[honesty,helpfulness,safety]]"),
    *("ratios=[]", "pairs=[10]", "losses=[dpo]"),
)


def test_stages_have_the_strengths_of_the_theorem(configure: Any, tmp_path: Path) -> None:
    own = ("+train.stages.honesty.learning_rate=0.25", f"paths.outputs={tmp_path}")
    config = configure(*THREE, *own, command="oracle")
    trial, *_ = list_trials(config)
    run = configure_trial(config, make_world(config.world, config.criteria), trial)
    assert list(run.stages) == ["sft", "honesty", "helpfulness", "safety"]
    assert [stage.beta for stage in aligned_stages(run).values()] == [1 / 1.5, 1.0, 0.5]
    honesty = run.stages["honesty"]
    assert honesty.learning_rate == 0.25
    assert honesty.criterion.letter == "O"  # H is taken
    assert honesty.dataset.criterion == "honesty"
    assert len(Path(honesty.dataset.path).read_text("utf-8").splitlines()) == 10


WRONG = {
    "threshold=5": "`threshold` must be below ",  # which only the world knows
    "+train.stages.safety.learning_rate=-1": "`stages.safety.learning_rate` must be greater than 0, but is -1.\n",
    "+train.stages.safety.foo=1": "`stages.safety.foo` can't be set: ",
    "methods=[nonsense] losses=[]": "",
}


@pytest.mark.parametrize("override", WRONG)
def test_a_wrong_setting_is_told_before_torch_is_imported(cli: Any, override: str) -> None:
    done = cli("oracle", *override.split(), light=True)
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {WRONG[override]}")
    assert "nonsense" in done.stderr or "methods" not in override


def test_trials_are_listed_once_and_in_the_order_of_what_they_share(configure: Any) -> None:
    overrides = ("losses=[dpo,kto]", "orders=[[helpfulness,safety]]", "pairs=[10,20]", "multipliers=[2.0,4.0]")
    config = configure(*overrides, "ratios=[0.5]", "methods=[naive_merge]", "seeds=[3,4]", command="oracle")
    start, kto = ((loss, ("helpfulness", "safety")) for loss in ("dpo", "kto"))
    trials = list_trials(config)
    assert trials[: len(trials) // 2] == [
        Trial(*start, 10, (2.0,), 3),
        Trial(*start, 20, (2.0,), 3),
        Trial(*kto, 10, (2.0,), 3),
        Trial(*kto, 20, (2.0,), 3),
        Trial(*start, 20, (2.0,), 3, 0.5),
        Trial(*kto, 20, (2.0,), 3, 0.5),
        Trial(*start, 20, (4.0,), 3),
        Trial("naive_merge", (), 10, (2.0,), 3),
        Trial("naive_merge", (), 20, (2.0,), 3),
    ]
    assert {trial.seed for trial in trials[len(trials) // 2 :]} == {4}


def test_losses_go_by_position_and_labels_can_be_asked_for(configure: Any, tmp_path: Path) -> None:
    own = ("losses=[dpo_then_kto,kto/labels]", "pairs=[10]", f"paths.outputs={tmp_path}")
    config = configure(*own, "orders=[[helpfulness,safety]]", "ratios=[]", "multipliers=[]", command="oracle")
    world = make_world(config.world, config.criteria)
    mixed, labelled, *_ = (configure_trial(config, world, trial) for trial in list_trials(config))
    assert [stage.loss.name for stage in aligned_stages(mixed).values()] == ["dpo", "kto"]
    places = [Path(stage.dataset.path).name for stage in aligned_stages(mixed).values()]
    assert places == ["pairs.helpfulness.10.train.jsonl", "labels.safety.10.train.jsonl"]
    assert list_trials(config)[1].keys["losses"] == "KTO on labels"
    assert [stage.loss.name for stage in aligned_stages(labelled).values()] == ["kto", "kto"]


def test_a_method_is_a_design_on_rows_with_both_labels(configure: Any, tmp_path: Path) -> None:
    own = ("losses=[]", "methods=['naive_merge merge_ratio=0.5']", "pairs=[10]", f"paths.outputs={tmp_path}")
    config = configure(*own, command="oracle")
    trial, *_ = list_trials(config)
    run = configure_trial(config, make_world(config.world, config.criteria), trial)
    assert (run.merge.value, run.merge_ratio) == ("naive", 0.5)
    assert {name: stage.beta for name, stage in aligned_stages(run).items()} == {"helpfulness": 1.0, "safety": 0.5}
    files = {Path(stage.dataset.path).name for stage in aligned_stages(run).values()}
    assert files == {"both.10.train.jsonl"}
