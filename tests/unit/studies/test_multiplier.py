"""λ* from sampled responses, in a world in which it is known."""

from typing import Any

import numpy as np
import pytest

from sacpo_exp.config.studies import MultiplierConfig, WorldConfig
from sacpo_exp.errors import ConfigError
from sacpo_exp.method.theory import Table, expect, solve_multiplier, tilt
from sacpo_exp.studies.multiplier import describe, estimate_multiplier
from sacpo_exp.studies.oracle.world import World, make_world

CRITERIA = ("helpfulness", "safety")
BETA, BETA_SAFETY = 0.5, 0.2


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(WorldConfig(200, 8, 1.0, -0.5, 1.0, 0), CRITERIA)


def settings(configure: Any, *overrides: str) -> MultiplierConfig:
    betas = (f"earlier_betas=[{BETA}]", f"beta={BETA_SAFETY}")
    config: MultiplierConfig = configure(*betas, *overrides, command="multiplier")
    return config


def sample_implicit(world: World, samples: int) -> dict[str, Table]:
    """β·log(policy/base) of responses drawn from the base, with the exact policies of the two stages."""
    chance = np.random.default_rng(0)
    cumulative = np.exp(world.reference).cumsum(axis=-1)
    drawn = (chance.random((samples, len(world.prompts), 1)) > cumulative).sum(axis=-1).T.clip(max=7)
    implicit = {
        name: beta * (tilt(world.reference, world.values[name], beta) - world.reference)
        for name, beta in zip(CRITERIA, (BETA, BETA_SAFETY), strict=True)
    }
    return {name: np.take_along_axis(values, drawn, axis=-1) for name, values in implicit.items()}


def test_the_estimate_is_the_exact_multiplier(world: World, configure: Any) -> None:
    threshold = 0.8
    config = settings(configure, f"threshold={threshold}", "bootstrap_rounds=100")
    found = estimate_multiplier(sample_implicit(world, 200), config)
    safety = world.values["safety"]
    gain = safety - (np.exp(world.reference) * safety).sum(axis=-1, keepdims=True)  # over the base's mean
    exact = solve_multiplier(world.reference, world.reward, gain, BETA, threshold)
    assert found.value == pytest.approx(exact, rel=0.05)
    assert found.low < exact < found.high
    *_, overrides = describe(found, config)
    assert f"stages.safety.beta={BETA / found.value:.3g}" in overrides
    # Trained with what it prints, the optimum keeps the constraint.
    policy = tilt(world.reference, world.reward + found.value * gain, BETA)
    assert expect(policy, gain) == pytest.approx(threshold, abs=0.05)


def test_a_threshold_is_out_of_reach_or_satisfied_by_the_reward(world: World, configure: Any) -> None:
    with pytest.raises(ConfigError, match="`threshold` must be below"):
        estimate_multiplier(sample_implicit(world, 20), settings(configure, "threshold=50"))
    config = settings(configure, "threshold=-3")
    found = estimate_multiplier(sample_implicit(world, 20), config)
    assert (found.value, found.low) == (0.0, 0.0)
    assert "no stage for safety is needed" in list(describe(found, config))[-1]


def test_too_few_safe_responses_make_the_interval_infinite(world: World, configure: Any) -> None:
    values = {name: table[:6] for name, table in sample_implicit(world, 4).items()}
    safety = values["safety"] - values["safety"].mean(axis=-1, keepdims=True)
    ceiling = float(safety.max(axis=-1).mean())
    found = estimate_multiplier(values, settings(configure, f"threshold={0.98 * ceiling}", "bootstrap_rounds=100"))
    assert np.isfinite(found.value)
    assert found.high == np.inf


def test_one_criterion_is_refused(problems_of: Any) -> None:
    problems = problems_of("threshold=1", "order=helpful_only", "merge_ratio=null", command="multiplier")
    assert any("merge=naive" in problem for problem in problems)
