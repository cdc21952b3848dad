"""Tests of the intervals: arithmetic by hand, published values, and coverage by simulation."""

import math

import numpy as np
import pytest

from sacpo_exp.scoring.intervals import (
    Estimate,
    Resampling,
    bootstrap_mean,
    bootstrap_paired_difference,
    wilson,
)

USUAL = Resampling(rounds=2000, confidence=0.95, seed=0)


def test_bootstrap_mean_is_the_mean_and_its_interval_that_of_the_normal_approximation() -> None:
    values = [1.0] * 60 + [0.5] * 20 + [0.0] * 20
    estimate = bootstrap_mean(values, USUAL)
    error = math.sqrt((60 * 0.3**2 + 20 * 0.2**2 + 20 * 0.7**2) / 100) / math.sqrt(100)  # mean is 0.7
    assert estimate.value == pytest.approx(0.7)
    assert estimate.n == 100
    assert estimate.low == pytest.approx(0.7 - 1.96 * error, abs=0.01)
    assert estimate.high == pytest.approx(0.7 + 1.96 * error, abs=0.01)


def test_bootstrap_of_two_values_by_hand() -> None:
    # Resamples of (0, 1) have the means 0, 0.5, 0.5, 1: each quarter of the distribution is known.
    estimate = bootstrap_mean([0.0, 1.0], Resampling(rounds=4000, confidence=0.4, seed=1))
    assert (estimate.value, estimate.low, estimate.high) == (0.5, 0.5, 0.5)
    assert bootstrap_mean([0.0, 1.0], USUAL) == Estimate(0.5, 0.0, 1.0, 2)


def test_bootstrap_is_the_same_for_the_same_seed_only() -> None:
    values = list(np.random.default_rng(5).normal(size=50))
    assert bootstrap_mean(values, USUAL) == bootstrap_mean(values, USUAL)
    assert bootstrap_mean(values, USUAL) != bootstrap_mean(values, Resampling(2000, 0.95, seed=1))


def test_a_higher_confidence_is_a_wider_interval() -> None:
    values = list(np.random.default_rng(6).normal(size=50))
    narrow, wide = (bootstrap_mean(values, Resampling(2000, confidence, 0)) for confidence in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_nothing_has_no_estimate_and_one_value_no_interval() -> None:
    for empty in (bootstrap_mean([], USUAL), bootstrap_paired_difference([], [], USUAL), wilson(0, 0, 0.95)):
        assert empty.n == 0
        assert all(math.isnan(number) for number in (empty.value, empty.low, empty.high))
        assert not empty.excludes_zero
    single = bootstrap_mean([1.0], USUAL)
    assert (single.value, single.n) == (1.0, 1)
    assert math.isnan(single.low)
    assert not single.excludes_zero


def test_pairing_takes_out_what_both_have_in_common() -> None:
    easy = np.random.default_rng(7).normal(size=80)
    paired = bootstrap_paired_difference(list(easy + 0.25), list(easy), USUAL)
    assert paired.value == pytest.approx(0.25)
    assert paired.high - paired.low < 1e-12
    assert paired.excludes_zero
    with pytest.raises(ValueError, match="80 and 79"):
        bootstrap_paired_difference(list(easy), list(easy[:-1]), USUAL)


def test_a_constant_has_an_interval_of_no_width() -> None:
    assert bootstrap_mean([0.5] * 30, USUAL) == Estimate(0.5, 0.5, 0.5, 30)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe, Statistics in Medicine 17, 1998, table I
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_has_published_values(successes: int, n: int, low: float, high: float) -> None:
    estimate = wilson(successes, n, 0.95)
    assert estimate.value == successes / n
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=5e-5)


def test_wilson_keeps_a_width_within_0_and_1_at_the_ends() -> None:
    for successes in (0, 12):
        estimate = wilson(successes, 12, 0.95)
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
        assert estimate.high - estimate.low > 0.2


def test_coverage_of_the_bootstrap_interval() -> None:
    random, rounds, covered = np.random.default_rng(8), 400, 0
    for seed in range(rounds):
        verdicts = random.choice([1.0, 0.5, 0.0], p=[0.5, 0.2, 0.3], size=60)  # its mean is 0.6
        estimate = bootstrap_mean(verdicts, Resampling(400, 0.9, seed))
        covered += estimate.low <= 0.6 <= estimate.high
    # Three standard errors of the share itself, sqrt(0.9 · 0.1 / 400) = 0.015, around 0.9.
    assert 0.855 <= covered / rounds <= 0.945
