"""Tests of the intervals: arithmetic by hand, published values, and coverage by simulation."""

import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from real_data import find_real

from sacpo_exp.statistics import Interval
from sacpo_exp.statistics.intervals import (
    CHUNK,
    DIFFERENCE,
    RATE,
    Estimate,
    Resampling,
    bootstrap_mean,
    bootstrap_rate,
    paired_p_value,
    standard_error,
    subtract_shares,
    wilson,
)

USUAL = Resampling(rounds=2000, confidence=0.95, seed=0)
BCA = replace(USUAL, method=Interval.bca)


def test_bootstrap_mean_is_the_mean_and_its_interval_that_of_the_normal_approximation() -> None:
    values = [1.0] * 60 + [0.5] * 20 + [0.0] * 20
    estimate = bootstrap_mean(values, USUAL)
    error = math.sqrt((60 * 0.3**2 + 20 * 0.2**2 + 20 * 0.7**2) / 100) / math.sqrt(100)  # mean is 0.7
    assert (estimate.value, estimate.n) == (pytest.approx(0.7), 100)
    assert estimate.low == pytest.approx(0.7 - 1.96 * error, abs=0.01)
    assert estimate.high == pytest.approx(0.7 + 1.96 * error, abs=0.01)
    assert bootstrap_mean([0.0, 1.0], USUAL) == Estimate(0.5, 0.0, 1.0, 2)


def test_the_seed_and_nothing_else_decides_the_resamples() -> None:
    values, rounds = np.random.default_rng(9).normal(size=3000), 1000
    assert rounds * len(values) > 2 * CHUNK  # drawn in several batches
    draws = np.random.default_rng(3).integers(0, len(values), (rounds, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), (0.025, 0.975))
    estimate = bootstrap_mean(values, Resampling(rounds, 0.95, seed=3))
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=1e-12)
    assert estimate != bootstrap_mean(values, Resampling(rounds, 0.95, seed=4))


def test_nothing_has_no_estimate_and_one_value_no_interval() -> None:
    for empty in (bootstrap_mean([], USUAL), bootstrap_rate([], USUAL), wilson(0, 0, 0.95)):
        assert empty.n == 0
        assert all(math.isnan(number) for number in (empty.value, empty.low, empty.high))
        assert not empty.excludes_zero
    single = bootstrap_mean([1.0], USUAL)
    assert (single.value, single.n) == (1.0, 1)
    assert math.isnan(single.low)
    assert not single.excludes_zero


@pytest.mark.parametrize("method", Interval)
def test_coverage_of_the_bootstrap_interval(method: Interval) -> None:
    random, rounds, covered = np.random.default_rng(8), 300, 0
    for seed in range(rounds):
        verdicts = random.choice([1.0, 0.5, 0.0], p=[0.5, 0.2, 0.3], size=60)  # its mean is 0.6
        estimate = bootstrap_mean(verdicts, Resampling(300, 0.9, seed, method))
        covered += estimate.low <= 0.6 <= estimate.high
    # Three standard errors of the share itself, sqrt(0.9 · 0.1 / 300) = 0.017, around 0.9.
    assert 0.849 <= covered / rounds <= 0.951


def test_bca_moves_the_interval_to_the_side_of_the_long_tail() -> None:
    values = np.random.default_rng(10).exponential(size=30)
    percentile, bca = bootstrap_mean(values, USUAL), bootstrap_mean(values, BCA)
    assert bca.value == percentile.value
    assert bca.low > percentile.low
    assert bca.high > percentile.high
    assert bootstrap_mean([0.5] * 30, BCA) == Estimate(0.5, 0.5, 0.5, 30)  # where it is undefined


@pytest.mark.parametrize("model", ["alpaca-7b", "alpaca-farm-ppo-human"])
def test_rates_and_errors_of_the_alpaca_eval_leaderboard_are_the_published_ones(model: str) -> None:
    folder = find_real("judgments/alpaca_eval")
    annotations = json.loads((folder / f"{model}__alpaca_eval_gpt4__annotations.json").read_text("utf-8"))
    with (folder / "leaderboard_alpaca_eval_gpt4.csv").open(encoding="utf-8") as file:
        published = next(row for row in csv.DictReader(file) if row[""] == model)
    preferences = {2: 1.0, 1: 0.0, 0: 0.5, 1.5: 0.5}
    verdicts = [preferences[row["preference"]] for row in annotations if row["preference"] is not None]
    rate, error = float(published["win_rate"]) / 100, float(published["standard_error"]) / 100
    assert standard_error(verdicts) == pytest.approx(error, abs=1e-8)
    for method in Interval:
        estimate = bootstrap_mean(verdicts, replace(USUAL, method=method))
        assert (estimate.value, estimate.n) == (pytest.approx(rate, abs=1e-8), int(published["n_total"]))
        assert (estimate.high - estimate.low) / (2 * 1.96) == pytest.approx(error, rel=0.1)


#: Successes, trials, and limits: Newcombe, Statistics in Medicine 17, 1998, table I.
SHARES = [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0000, 0.1611), (1, 29, 0.0061, 0.1718)]
#: Two shares, and limits of their difference: ibid., table II, method 10.
DIFFERENCES = [((56, 70), (48, 80), 0.0524, 0.3339), ((9, 10), (3, 10), 0.1705, 0.8090)]
DIFFERENCES += [((5, 56), (0, 29), -0.0381, 0.1926), ((10, 10), (0, 10), 0.6075, 1.0)]


def test_shares_and_differences_have_published_limits_and_wilson_s_end_exactly_at_0_and_at_1() -> None:
    for successes, n, low, high in SHARES:
        estimate = wilson(successes, n, 0.95)
        assert estimate.value == successes / n
        assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=5e-5)
    assert [(wilson(0, n, 0.95).low, wilson(n, n, 0.95).high) for n in (1, 7, 1000)] == [(0, 1)] * 3
    for share, other, low, high in DIFFERENCES:
        difference = subtract_shares(wilson(*share, 0.95), wilson(*other, 0.95))
        assert difference.value == pytest.approx(share[0] / share[1] - other[0] / other[1])
        assert (difference.low, difference.high) == pytest.approx((low, high), abs=5e-5)
        assert difference.n == min(share[1], other[1])


def test_p_value_by_hand() -> None:
    # Of the eight signs of (1, 1, 1) two give a sum as large as 3; zeros change nothing.
    assert paired_p_value([1.0, 1.0, 1.0], seed=0, rounds=10) == 0.25
    assert paired_p_value([1.0, 0.0, 1.0, 0.0, 1.0], seed=0, rounds=10) == 0.25
    assert paired_p_value([0.5, -0.5, 1.0], seed=0, rounds=10) == 0.75  # sums 1, 1, 2 and their mirrors, not 0
    assert paired_p_value([0.1, 0.2, -0.3], seed=0, rounds=10) == 1  # sums that differ by rounding only are equal
    assert paired_p_value([0.0] * 30, seed=0, rounds=10) == paired_p_value([1.0, 0.0], seed=0, rounds=10) == 1
    assert math.isnan(paired_p_value([], seed=0, rounds=10))
    assert paired_p_value([1.0] * 40, seed=0, rounds=999) == 1 / 1000  # of random signs never zero


def test_p_value_is_uniform_where_there_is_no_difference() -> None:
    random = np.random.default_rng(12)
    values = [paired_p_value(random.normal(size=50), seed, 199) for seed in range(300)]
    assert np.mean(np.array(values) <= 0.1) == pytest.approx(0.1, abs=0.052)  # three standard errors
    assert np.mean(np.array(values) <= 0.5) == pytest.approx(0.5, abs=0.087)


def test_values_that_are_all_equal_are_not_certain() -> None:
    u = wilson(0, 20, 0.95).high
    for value, bounds in ((0.5, RATE), (1 / 3, RATE), (0.0, DIFFERENCE), (-1.0, DIFFERENCE)):
        found = bootstrap_rate([value] * 20, USUAL, bounds)
        # The share u of prompts that may be others at either bound.
        expected = [(1 - u) * value + u * bound for bound in bounds]
        assert (found.value, found.low, found.high) == pytest.approx((value, *expected))
        assert found.high - found.low > 0.1
    assert bootstrap_rate([1.0] * 3, USUAL) == wilson(3, 3, 0.95)
    assert math.isnan(bootstrap_rate([0.0] * 20, USUAL, (0, math.inf)).high)
    assert bootstrap_rate([0.0, 0.5, 1.0], USUAL) == bootstrap_mean([0.0, 0.5, 1.0], USUAL)
