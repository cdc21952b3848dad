"""What Theorem 1, Remark 2 and section 5 of the paper say of strengths, orders and merges, exactly."""

import itertools

import numpy as np
import pytest

from sacpo_exp.method.theory import Table, find_strengths, merge, merged_multiplier, normalise, tilt, tilt_stepwise

EXACT = 1e-12
SHAPE = (3, 5)
BETA, MULTIPLIERS = 0.7, {"constraint": 2.0, "other": 0.25}
CRITERIA = ("reward", *MULTIPLIERS)
ORDERS = list(itertools.permutations(CRITERIA))


@pytest.fixture(scope="module")
def values() -> dict[str, Table]:
    return {name: np.random.default_rng(seed).standard_normal(SHAPE) for seed, name in enumerate(CRITERIA, 1)}


@pytest.fixture(scope="module")
def reference() -> Table:
    return normalise(np.random.default_rng(0).standard_normal(SHAPE))


def align(reference: Table, values: dict[str, Table], order: tuple[str, ...]) -> list[Table]:
    """The policy after each stage."""
    stages = [(values[name], beta) for name, beta in zip(order, find_strengths(BETA, MULTIPLIERS, order), strict=True)]
    return [tilt_stepwise(reference, stages[: place + 1]) for place in range(len(stages))]


def optimum(reference: Table, values: dict[str, Table], multipliers: dict[str, float], beta: float = BETA) -> Table:
    return tilt(reference, values["reward"] + sum(each * values[name] for name, each in multipliers.items()), beta)


@pytest.mark.parametrize("order", ORDERS)
def test_the_reward_has_the_strength_beta_and_a_constraint_beta_over_its_multiplier(order: tuple[str, ...]) -> None:
    strengths = dict(zip(order, find_strengths(BETA, MULTIPLIERS, order), strict=True))
    assert strengths == {"reward": 0.7, "constraint": 0.35, "other": 2.8}


def test_a_merge_of_three_has_multipliers_of_their_sums(reference: Table, values: dict[str, Table]) -> None:
    merged = merge(align(reference, values, CRITERIA), (0.5, 0.2, 0.3))
    multipliers = {
        name: merged_multiplier(share, MULTIPLIERS[name]) for name, share in (("constraint", 0.5), ("other", 0.3))
    }
    assert np.abs(merged - optimum(reference, values, multipliers)).max() < EXACT


def test_a_merge_needs_a_weight_for_each_policy(reference: Table) -> None:
    with pytest.raises(ValueError, match="zip"):
        merge([reference, reference], (1.0,))
