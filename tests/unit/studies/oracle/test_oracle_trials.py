"""Runs of the oracle, what it refuses before torch is imported, and data drawn from its world: in the right shares."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sacpo_exp.config.data import DataSchema, DatasetConfig
from sacpo_exp.config.stages import aligned_stages
from sacpo_exp.config.studies import WorldConfig
from sacpo_exp.data.files import RawRows
from sacpo_exp.data.forms import normalise
from sacpo_exp.studies.oracle.trials import Trial, configure_trial, list_trials
from sacpo_exp.studies.oracle.world import (
    World,
    chance_of,
    comparison_rows,
    label_rows,
    make_world,
    pair_rows,
    sample_rows,
)

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


MANY = 50_000
CRITERIA = ("helpfulness", "safety", "honesty")


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(WorldConfig(3, 5, 1.0, -0.5, 1.0, 1), CRITERIA)


def count_wins(world: World, criterion: str, count: int) -> np.ndarray:
    """How often each response was chosen over each other: (prompts, chosen, rejected)."""
    wins = np.zeros((*world.reference.shape, len(world.responses)))
    for row in pair_rows(world, criterion, count, 0):
        names = (world.responses.index(row[name]) for name in ("chosen", "rejected"))
        wins[world.prompts.index(row["prompt"]), *names] += 1
    return wins


def count_completions(world: World, rows: Iterable[dict[str, Any]]) -> np.ndarray:
    counts = np.zeros((3, 5))
    for row in rows:
        counts[world.prompts.index(row["prompt"]), world.responses.index(row["completion"])] += 1
    return counts


def within(counts: np.ndarray, trials: np.ndarray, chance: np.ndarray) -> bool:
    """Whether binomial counts are within five standard errors of what is expected."""
    return bool((np.abs(counts - trials * chance) < 5 * np.sqrt(trials * chance * (1 - chance)) + 1).all())


@pytest.mark.parametrize("criterion", CRITERIA)
def test_pairs_are_chosen_as_bradley_and_terry_have_it(world: World, criterion: str) -> None:
    wins = count_wins(world, criterion, MANY)
    games = wins + wins.swapaxes(-1, -2)
    values = world.values[criterion]
    assert within(wins, games, chance_of(values[:, :, None] - values[:, None, :]))
    cells = np.ones((5, 5)) - np.eye(5)
    assert within(games, np.full_like(games, MANY), np.broadcast_to(cells * 2 / (3 * 20), games.shape))


def test_labels_are_drawn_by_value_and_samples_follow_the_reference_policy(world: World) -> None:
    rows = list(label_rows(world, "safety", MANY, 0))
    desirable = count_completions(world, (row for row in rows if row["label"]))
    assert within(desirable, count_completions(world, rows), chance_of(world.values["safety"]))
    counts = count_completions(world, sample_rows(world, MANY, 0))
    assert within(counts, np.full((3, 5), MANY), np.exp(world.reference) / 3)


def test_a_larger_draw_begins_with_a_smaller_one_and_a_further_criterion_changes_nothing(world: World) -> None:
    small, large = (list(pair_rows(world, "safety", n, 0)) for n in (50, 500))
    assert large[:50] == small
    assert list(pair_rows(world, "safety", 50, 0, "heldout")) != small
    assert list(pair_rows(world, "helpfulness", 50, 0)) != small
    less = make_world(WorldConfig(3, 5, 1.0, -0.5, 1.0, 1), CRITERIA[:2])
    for criterion in CRITERIA[:2]:
        assert np.array_equal(less.values[criterion], world.values[criterion])
        assert list(label_rows(less, criterion, 50, 0)) == list(label_rows(world, criterion, 50, 0))


def test_rows_of_two_criteria_are_those_of_the_documented_results() -> None:
    world = make_world(WorldConfig(4, 6, 1.5, -0.5, 1.0, 0), CRITERIA[:2])
    drawn = [list(sample_rows(world, 100, 0))]
    for name in CRITERIA[:2]:
        drawn += [list(pair_rows(world, name, 100, 0)), list(label_rows(world, name, 100, 0))]
    assert (
        hashlib.sha256(json.dumps(drawn).encode()).hexdigest()
        == "c0291ab83d7caee6581497a9b4d500ab0a8e3334d4a4552776fb0c4605850c8f"
    )


def test_comparisons_have_both_preferences_and_safety_by_value(world: World) -> None:
    counts, safe, wins, games = (np.zeros((3, 5)) for _ in range(4))
    rows = list(comparison_rows(world, MANY, 0))
    for row in rows:
        prompt = world.prompts.index(row["prompt"])
        places = [world.responses.index(row[f"response_{i}"]) for i in (0, 1)]
        for i, place in enumerate(places):
            counts[prompt, place] += 1
            safe[prompt, place] += row[f"is_response_{i}_safe"]
        if places[1] == (places[0] + 1) % 5:  # each response against its neighbour
            games[prompt, places[0]] += 1
            wins[prompt, places[0]] += row["better_response_id"] == 0
    assert within(safe, counts, chance_of(world.values["safety"]))
    values = world.values["helpfulness"]
    assert within(wins, games, chance_of(values - np.roll(values, -1, axis=-1)))
    found = normalise([RawRows("drawn", list(enumerate(rows[:20], 1)))], DatasetConfig(name="local"))
    assert found.form == DataSchema.pku
