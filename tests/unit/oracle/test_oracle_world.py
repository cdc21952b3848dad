"""The theory in float64: Theorem 1, Remark 2, the merges, λ*, in random worlds."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from sacpo_exp.config.oracle import Order, WorldConfig
from sacpo_exp.errors import ConfigError
from sacpo_exp.method.theory import divergence, expect, merge, normalise, solve_multiplier, tilt, tilt_stepwise
from sacpo_exp.oracle.world import World, align, make_world, measure, merged, optimum

EXACT = 1e-12

worlds = st.builds(
    lambda prompts, responses, scale, correlation, seed: make_world(
        WorldConfig(prompts, responses, scale, correlation, 1.0, seed)
    ),
    st.integers(1, 5),
    st.integers(3, 9),
    st.floats(0.1, 3.0),
    st.floats(-0.95, 0.95),
    st.integers(0, 10_000),
)
strengths = st.floats(0.2, 5.0)
ratios = st.floats(0.01, 1.0)


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(WorldConfig(6, 8, 1.5, -0.5, 1.0, 0))


@given(worlds, strengths, strengths, st.sampled_from(Order))
@settings(deadline=None)
def test_both_orders_reach_the_joint_optimum(world: World, beta: float, multiplier: float, order: Order) -> None:
    _, second = align(world, beta, multiplier, order)
    assert np.abs(second - optimum(world, beta, multiplier)).max() < EXACT


@given(worlds, st.lists(st.tuples(st.integers(0, 99), st.floats(0.5, 5.0)), min_size=3, max_size=3))
@settings(deadline=None, max_examples=30)
def test_three_criteria_reach_the_joint_optimum_in_any_order(world: World, drawn: list[tuple[int, float]]) -> None:
    shape = world.reference.shape
    stages = [(np.random.default_rng(seed).standard_normal(shape), beta) for seed, beta in drawn]
    joint = tilt(world.reference, sum(values / beta for values, beta in stages), 1.0)
    for order in itertools.permutations(stages):
        assert np.abs(tilt_stepwise(world.reference, order) - joint).max() < EXACT


@given(worlds, strengths, strengths, ratios)
@settings(deadline=None)
def test_merges_are_the_optima_of_other_multipliers(world: World, beta: float, multiplier: float, q: float) -> None:
    helpful_first = merged(world, beta, multiplier, q, Order.helpful_first)
    safety_first = merged(world, beta, multiplier, q, Order.safety_first)
    assert np.abs(helpful_first - optimum(world, beta, q * multiplier)).max() < EXACT
    assert np.abs(safety_first - optimum(world, beta / q, multiplier / q)).max() < EXACT


@given(worlds, strengths, strengths, ratios)
@settings(deadline=None)
def test_the_naive_merge_is_the_optimum_of_mixed_rewards(
    world: World, beta: float, multiplier: float, q: float
) -> None:
    helpful, _ = align(world, beta, multiplier, Order.helpful_first)
    safe, _ = align(world, beta, multiplier, Order.safety_first)
    mixed = (1 - q) * world.reward + q * multiplier * world.safety
    assert np.abs(merge(helpful, safe, q) - tilt(world.reference, mixed, beta)).max() < EXACT


def test_the_closed_form_is_what_a_numerical_optimiser_finds() -> None:
    world = make_world(WorldConfig(2, 4, 1.5, -0.5, 1.0, 0))
    beta, multiplier = 0.7, 1.3
    gain = world.reward + multiplier * world.safety

    def loss(logits: np.ndarray) -> float:
        policy = normalise(logits.reshape(gain.shape))
        return beta * divergence(policy, world.reference) - expect(policy, gain)

    found = minimize(loss, np.zeros(gain.size), method="BFGS", options={"gtol": 1e-7})
    exact = optimum(world, beta, multiplier)
    assert loss(exact) <= found.fun
    assert np.abs(np.exp(normalise(found.x.reshape(gain.shape))) - np.exp(exact)).max() < 1e-4


@given(worlds, strengths, st.floats(0.01, 0.95))
@settings(deadline=None)
def test_the_multiplier_meets_the_threshold_and_no_smaller_one_does(world: World, beta: float, share: float) -> None:
    ceiling = float(world.safety.max(axis=-1).mean())
    floor = measure(world, optimum(world, beta, 0.0)).safety
    threshold = floor + share * (ceiling - floor)
    multiplier = solve_multiplier(world.reference, world.reward, world.safety, beta, threshold)
    assert measure(world, optimum(world, beta, multiplier)).safety == pytest.approx(threshold, abs=1e-9)
    assert measure(world, optimum(world, beta, 0.99 * multiplier)).safety < threshold


def test_a_threshold_that_is_met_anyway_needs_no_multiplier(world: World) -> None:
    floor = measure(world, optimum(world, 1.0, 0.0)).safety
    assert solve_multiplier(world.reference, world.reward, world.safety, 1.0, floor - 0.01) == 0.0


@pytest.mark.parametrize("above", [0.0, -1e-14, 1.0, np.nan])
def test_a_threshold_that_no_policy_meets_is_an_error(world: World, above: float) -> None:
    ceiling = float(world.safety.max(axis=-1).mean())
    with pytest.raises(ConfigError, match=f"`threshold` must be below {ceiling:.4g}"):
        solve_multiplier(world.reference, world.reward, world.safety, 1.0, ceiling + above)


@given(worlds, strengths, strengths, strengths)
@settings(deadline=None)
def test_safety_never_falls_with_the_multiplier_and_what_it_costs_grows(
    world: World, beta: float, one: float, more: float
) -> None:
    low, high = (measure(world, optimum(world, beta, multiplier)) for multiplier in (one, one + more))
    assert high.safety > low.safety - EXACT
    assert high.reward - beta * high.divergence < low.reward - beta * low.divergence + EXACT


def test_safety_grows_with_the_multiplier(world: World) -> None:
    safety = [measure(world, optimum(world, 1.0, multiplier)).safety for multiplier in np.linspace(0, 10, 101)]
    assert np.diff(safety).min() > 0


@given(worlds)
@settings(deadline=None)
def test_a_world_has_the_moments_that_it_was_asked_for(world: World) -> None:
    assert np.abs(world.reward.mean(axis=-1)).max() < EXACT
    assert world.safety.std(axis=-1) == pytest.approx(world.reward.std(axis=-1))
    assert len(set(world.responses)) == world.reference.shape[1]
    assert np.exp(world.reference).sum(axis=-1) == pytest.approx(1.0, abs=EXACT)


def test_a_seed_makes_the_same_world_again_and_another_makes_another() -> None:
    one, same, other = (make_world(WorldConfig(4, 5, 1.0, 0.3, 1.0, seed)) for seed in (7, 7, 8))
    assert np.array_equal(one.reward, same.reward)
    assert not np.allclose(one.reward, other.reward)
    between = (one.reward * one.safety).mean(axis=-1)
    assert between == pytest.approx(0.3)


def test_the_safe_rate_is_the_chance_of_a_safe_label(world: World) -> None:
    outcome = measure(world, world.reference)
    draws = np.random.default_rng(0)
    n = 200_000
    prompts = draws.integers(len(world.prompts), size=n)
    cumulative = np.exp(world.reference).cumsum(axis=-1)
    responses = (draws.random((n, 1)) > cumulative[prompts]).sum(axis=-1)
    labels = draws.random(n) < 1 / (1 + np.exp(-world.safety[prompts, responses]))
    assert labels.mean() == pytest.approx(outcome.safe_rate, abs=4 * 0.5 / n**0.5)
    assert outcome.divergence == 0.0
