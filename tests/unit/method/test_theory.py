"""The theory in float64: Theorem 1, Remark 2, the merges of section 5, λ*, in random worlds."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.optimize import minimize

from sacpo_exp.config.studies import WorldConfig
from sacpo_exp.errors import ConfigError
from sacpo_exp.method import theory
from sacpo_exp.studies.oracle.world import World, align, make_world, merged, optimum

EXACT = 1e-12
CRITERIA = ("helpfulness", "safety")
THREE = (*CRITERIA, "honesty")

worlds = st.builds(
    lambda prompts, responses, scale, correlation, seed: make_world(
        WorldConfig(prompts, responses, scale, correlation, 1.0, seed), CRITERIA
    ),
    st.integers(1, 5),
    st.integers(3, 9),
    st.floats(0.1, 3.0),
    st.floats(-0.95, 0.95),
    st.integers(0, 10_000),
)
strengths = st.floats(0.2, 5.0)
ratios = st.floats(0.01, 1.0)


@given(st.integers(0, 10_000), strengths, strengths, strengths, st.permutations(THREE))
def test_three_criteria_reach_the_optimum(seed: int, beta: float, one: float, other: float, order: list[str]) -> None:
    world = make_world(WorldConfig(3, 6, 1.5, -0.5, 1.0, seed), THREE)
    values = world.values["helpfulness"] + one * world.values["safety"] + other * world.values["honesty"]
    joint = theory.tilt(world.reference, values, beta)
    assert np.abs(optimum(world, beta, [one, other]) - joint).max() < EXACT
    assert np.abs(align(world, beta, [one, other], order)[-1] - joint).max() < EXACT


@given(worlds, strengths, strengths, ratios)
def test_merges_are_the_optima_of_other_multipliers(world: World, beta: float, multiplier: float, q: float) -> None:
    helpful_first = merged(world, beta, [multiplier], q, CRITERIA)
    safety_first = merged(world, beta, [multiplier], q, CRITERIA[::-1])
    assert np.abs(helpful_first - optimum(world, beta, [theory.merged_multiplier(q, multiplier)])).max() < EXACT
    assert np.abs(safety_first - optimum(world, beta / q, [multiplier / q])).max() < EXACT


@given(worlds, strengths, strengths, ratios)
def test_a_naive_merge_is_the_optimum_of_mixed_rewards(world: World, beta: float, multiplier: float, q: float) -> None:
    helpful, _ = align(world, beta, [multiplier], CRITERIA)
    safe, _ = align(world, beta, [multiplier], CRITERIA[::-1])
    mixed = (1 - q) * world.reward + q * multiplier * world.values["safety"]
    assert np.abs(theory.merge([helpful, safe], (1 - q, q)) - theory.tilt(world.reference, mixed, beta)).max() < EXACT


def test_a_merge_of_three_has_multipliers_of_their_sums() -> None:
    world = make_world(WorldConfig(3, 5, 1.5, -0.5, 1.0, 0), THREE)
    merge_of_three = theory.merge(align(world, 0.7, [2.0, 0.25], THREE), (0.5, 0.2, 0.3))
    multipliers = [theory.merged_multiplier(share, each) for share, each in ((0.5, 2.0), (0.3, 0.25))]
    assert np.abs(merge_of_three - optimum(world, 0.7, multipliers)).max() < EXACT
    with pytest.raises(ValueError, match="zip"):  # a weight for each policy
        theory.merge([world.reference, world.reference], (1.0,))


def test_the_closed_form_is_what_a_numerical_optimiser_finds() -> None:
    world = make_world(WorldConfig(2, 4, 1.5, -0.5, 1.0, 0), CRITERIA)
    beta, multiplier = 0.7, 1.3
    gain = world.reward + multiplier * world.values["safety"]

    def loss(logits: np.ndarray) -> float:
        policy = theory.normalise(logits.reshape(gain.shape))
        return beta * theory.divergence(policy, world.reference) - theory.expect(policy, gain)

    found = minimize(loss, np.zeros(gain.size), method="BFGS", options={"gtol": 1e-7})
    exact = optimum(world, beta, [multiplier])
    assert loss(exact) <= found.fun
    assert np.abs(np.exp(theory.normalise(found.x.reshape(gain.shape))) - np.exp(exact)).max() < 1e-4


@given(worlds, strengths, st.floats(0.01, 0.95))
def test_the_multiplier_meets_the_threshold_and_no_smaller_one_does(world: World, beta: float, share: float) -> None:
    safety = world.values["safety"]
    ceiling, floor = float(safety.max(axis=-1).mean()), theory.expect(optimum(world, beta, [0.0]), safety)
    threshold = floor + share * (ceiling - floor)
    multiplier = theory.solve_multiplier(world.reference, world.reward, safety, beta, threshold)
    assert theory.expect(optimum(world, beta, [multiplier]), safety) == pytest.approx(threshold, abs=1e-9)
    assert theory.expect(optimum(world, beta, [0.99 * multiplier]), safety) < threshold


def test_a_threshold_that_is_met_anyway_needs_no_multiplier_and_one_that_no_policy_meets_is_an_error() -> None:
    world = make_world(WorldConfig(6, 8, 1.5, -0.5, 1.0, 0), CRITERIA)
    safety = world.values["safety"]
    problem = (world.reference, world.reward, safety, 1.0)
    ceiling, floor = float(safety.max(axis=-1).mean()), theory.expect(optimum(world, 1.0, [0.0]), safety)
    assert theory.solve_multiplier(*problem, floor - 0.01) == 0.0
    for above in (0.0, -1e-14, 1.0, np.nan):
        with pytest.raises(ConfigError, match=f"`threshold` must be below {ceiling:.4g}"):
            theory.solve_multiplier(*problem, ceiling + above)


@pytest.mark.parametrize("correlation", [-0.5, 0.3])
def test_constraints_have_the_correlation_with_the_reward_and_its_square_with_one_another(correlation: float) -> None:
    world = make_world(WorldConfig(5, 6, 1.5, correlation, 1.0, 3), (*THREE, "brevity"))
    tables = np.array(list(world.values.values())) / 1.5
    found = np.einsum("apr,bpr->pab", tables, tables) / tables.shape[-1]
    wanted = np.full((4, 4), correlation**2)
    wanted[0, :] = wanted[:, 0] = correlation
    np.fill_diagonal(wanted, 1.0)
    assert np.abs(found - wanted).max() < EXACT
    assert np.abs(tables.mean(axis=-1)).max() < EXACT
    assert np.exp(world.reference).sum(axis=-1) == pytest.approx(1.0, abs=EXACT)


@example(
    make_world(WorldConfig(1, 3, 1.0, 0.0, 1.0, 0), CRITERIA), 2.0, 1e-9, 1
)  # a KL below the rounding of its terms
@given(worlds, strengths, st.floats(0, 1), st.integers(0, 1000))
def test_errors_of_stages_bound_regret_and_violation(world: World, multiplier: float, size: float, seed: int) -> None:
    errors = size * np.random.default_rng(seed).standard_normal((2, *world.reference.shape))
    steps = [world.reference, *align(world, 1.0, [multiplier], CRITERIA)]
    policy = theory.normalise(steps[-1] + errors.sum(axis=0))
    centred = errors - errors.mean(axis=-1, keepdims=True)
    bound = theory.bound_regret(policy, steps[-1], np.abs(centred).sum(axis=0))
    assert theory.divergence(policy, steps[-1]) <= bound + EXACT
    safety = world.values["safety"]
    shortfall = theory.expect(steps[-1], safety) - theory.expect(policy, safety)
    assert shortfall <= theory.bound_shortfall(policy, steps[-1], safety) + EXACT
