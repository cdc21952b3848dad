"""Rates over seeds and prompts: arithmetic by hand, and whether the interval covers what it claims to."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from sacpo_exp.statistics.intervals import Floats, Resampling, bootstrap_mean
from sacpo_exp.statistics.seeds import align_seeds, estimate_over_seeds

RESAMPLING = Resampling(500, 0.95, 0)
RATES = (0.0, 1.0)
NOTHING = math.nan


def over_seeds(values: list[list[float]], confidence: float = 0.95) -> tuple[float, float, float, float]:
    found = estimate_over_seeds(np.array(values), Resampling(500, confidence, 0), RATES)
    return found.estimate.value, found.estimate.low, found.estimate.high, found.deviation


def test_mean_spread_and_interval_are_those_done_by_hand() -> None:
    # Seeds' means 0.5 and 0.75: s² = 1/32 over 2 seeds gives 1/64. Prompts' means, each seed's taken off: 0.375, 0.375,
    # -0.125, -0.625, s² = (2·0.140625 + 0.015625 + 0.390625)/3 = 0.229167, over 4 prompts 0.0572917.
    value, low, high, deviation = over_seeds([[1, 1, 0, 0], [1, 1, 1, 0]], confidence=0.5)
    assert value == 0.625
    assert deviation == pytest.approx(math.sqrt(1 / 32))
    squared = 1 / 64 + 0.0572917
    freedom = squared**2 / ((1 / 64) ** 2 / 1 + 0.0572917**2 / 3)
    assert freedom == pytest.approx(3.9730, abs=1e-3)
    # Student's upper quartile: 0.7649 for 3, 0.7407 for 4 in any table, 0.7412 there.
    assert (high - low) / 2 == pytest.approx(0.7412 * math.sqrt(squared), abs=1e-4)
    assert (high + low) / 2 == pytest.approx(0.625)


def test_the_interval_widens_with_the_spread_between_seeds() -> None:
    equal = [[1.0, 0.0] * 20, [0.0, 1.0] * 20, [1.0, 0.0] * 20]
    apart = [[1.0, 0.0] * 20, [1.0] * 40, [0.0] * 40]
    (value, low, high, none), (other, wider_low, wider_high, spread) = over_seeds(equal), over_seeds(apart)
    assert value == other == 0.5
    assert (none, spread) == (0, 0.5)
    assert wider_high - wider_low > 3 * (high - low)
    assert over_seeds([[1.0] * 9 + [0.0], [0.0] * 9 + [1.0]])[1:3] == (0, 1)  # two seeds that differ say almost nothing
    assert math.isnan(over_seeds([[1.0], [0.0]])[1])  # one prompt


def test_what_is_missing_is_left_out_and_never_a_number() -> None:
    found = estimate_over_seeds(np.array([[1, NOTHING, 0], [1, 1, NOTHING], [NOTHING] * 3]), RESAMPLING, RATES)
    assert found.estimate.value == 0.75  # of 0.5 and 1
    assert (found.seeds, found.estimate.n) == (2, 3)
    without = estimate_over_seeds(np.array([[1, 0, NOTHING], [1, 1, NOTHING]]), RESAMPLING, RATES)
    assert without == estimate_over_seeds(np.array([[1.0, 0], [1, 1]]), RESAMPLING, RATES)
    # A prompt that only a bad seed has is not taken for a hard one.
    full = [[1.0] * 6, [0.0] * 6, [1.0] * 6]
    found = estimate_over_seeds(np.array([[*full[0][:5], NOTHING], full[1], full[2]]), RESAMPLING, RATES)
    assert found == estimate_over_seeds(np.array(full), RESAMPLING, RATES)


def test_one_seed_has_the_interval_over_prompts_as_before_and_none_has_no_number() -> None:
    values = np.array([[1.0, 0, 1, 0.5, NOTHING]])
    found = estimate_over_seeds(values, RESAMPLING, RATES)
    assert found.estimate == bootstrap_mean([1, 0, 1, 0.5], RESAMPLING)
    assert found.seeds == 1
    assert math.isnan(found.deviation)
    for shape in ((0, 0), (3, 0), (0, 3)):
        found = estimate_over_seeds(np.empty(shape), RESAMPLING, RATES)
        assert (found.seeds, found.estimate.n) == (0, 0)
        assert math.isnan(found.estimate.value)


def test_seeds_and_prompts_without_spread_do_not_make_the_rate_certain() -> None:
    won, tied, mixed = [1.0] * 40, [0.5] * 40, [1.0, 0.0] * 20
    for values in ([won], [tied], [won] * 3, [tied] * 2, [mixed, mixed[::-1]]):
        value, low, high, _ = over_seeds(values)
        assert low <= value <= high
        assert 0.08 < high - low < 0.2


def test_prompts_are_aligned_by_their_ids() -> None:
    aligned = align_seeds([{"a": 1.0, "b": 0.0}, {"c": 0.5, "a": 0.0}])
    assert np.array_equal(aligned, [[1, 0, NOTHING], [0, NOTHING, 0.5]], equal_nan=True)


class Truth:
    """Verdicts by the sign of seed + prompt + chance, ties near 0; `rate` is what never ending trials would give."""

    def __init__(self, seed: float, prompt: float) -> None:
        self.spreads = (seed, prompt, 1.0)
        normal = NormalDist(0.5, math.hypot(*self.spreads))
        self.rate = 1 - (normal.cdf(0.25) + normal.cdf(-0.25)) / 2

    def draw(self, random: np.random.Generator, seeds: int, prompts: int) -> Floats:
        shapes = ((seeds, 1), (1, prompts), (seeds, prompts))
        parts = [spread * random.standard_normal(shape) for spread, shape in zip(self.spreads, shapes, strict=True)]
        sums = 0.5 + sum(parts, np.zeros((seeds, prompts)))
        return ((sums > 0.25) + 1.0 * (sums > -0.25)) / 2


def measure_coverage(truth: Truth, seeds: int, trials: int) -> tuple[float, float]:
    """Share of trials whose 95 % interval holds the true rate, and the mean deviation between seeds."""
    random = np.random.default_rng(0)
    found = [estimate_over_seeds(truth.draw(random, seeds, 83), RESAMPLING, RATES) for _ in range(trials)]
    hits = [each.estimate.low <= truth.rate <= each.estimate.high for each in found]
    return float(np.mean(hits)), float(np.mean([each.deviation for each in found]))


@pytest.mark.parametrize(
    ("seeds", "spread", "prompt", "trials", "least"),
    [
        *((5, spread, prompt, 400, 0.92) for spread in (0.0, 0.3) for prompt in (0.0, 1.0)),
        pytest.param(2, 0.3, 0.0, 2000, 0.87, marks=pytest.mark.slow),
        pytest.param(3, 0.3, 0.0, 2000, 0.91, marks=pytest.mark.slow),
    ],
)
def test_intervals_cover_what_they_claim(seeds: int, spread: float, prompt: float, trials: int, least: float) -> None:
    coverage, deviation = measure_coverage(Truth(spread, prompt), seeds, trials)
    assert least <= coverage <= 0.995
    assert (deviation > 0.07) == (spread > 0)
