"""Preference accuracy and calibration against numbers computed by hand."""

import math

import numpy as np
import pytest

from sacpo_exp.statistics.intervals import Resampling, wilson
from sacpo_exp.statistics.preferences import calibration_error, estimate_accuracy, estimate_mean

RESAMPLING = Resampling(2000, 0.95, 0)


def test_accuracy_counts_pairs_and_half_of_ties() -> None:
    found = estimate_accuracy([2.0, -1.0, 0.0, 3.0], ["a", "a", "b", "c"], RESAMPLING)
    assert found.value == (1 + 0 + 0.5 + 1) / 4
    assert found.n == 3
    # A few pairs that are all right do not make the next one certain.
    found = estimate_accuracy([1.0, 2.0, 0.5], ["a", "b", "b"], RESAMPLING)
    assert (found.value, found.high, found.n) == (1.0, 1.0, 2)
    assert found.low == pytest.approx(wilson(2, 2, 0.95).low)


def test_pairs_of_a_prompt_are_drawn_together() -> None:
    """Fifty copies of each pair say no more than one of it."""
    chance = np.random.default_rng(0)
    margins, prompts = chance.normal(0.3, 1, 40), [str(i) for i in range(40)]
    alone = estimate_accuracy(margins, prompts, RESAMPLING)
    copied = estimate_accuracy(np.repeat(margins, 50), np.repeat(prompts, 50).tolist(), RESAMPLING)
    assert (copied.low, copied.high) == (alone.low, alone.high)


def test_the_interval_covers_the_share_as_often_as_it_says() -> None:
    chance, covered = np.random.default_rng(1), 0
    for _ in range(200):
        values = np.repeat(chance.random(60) < 0.7, 3).astype(float)
        found = estimate_mean(values, [str(i // 3) for i in range(180)], Resampling(400, 0.95, 0))
        covered += found.low <= 0.7 <= found.high
    assert covered >= 200 * 0.95 - 3 * math.sqrt(200 * 0.95 * 0.05)


def test_rewards_that_are_the_truth_are_calibrated_and_doubled_ones_are_not() -> None:
    chance = np.random.default_rng(2)
    truth = chance.normal(0, 2, 20_000)
    chosen = np.where(chance.random(20_000) < 1 / (1 + np.exp(-truth)), truth, -truth)
    assert calibration_error(chosen, 1.0) < 0.01
    assert calibration_error(chosen, 2.0) > 0.05
    # Three pairs of which the policy is sure to 0.8, and one is wrong: |2/3 − 0.8|.
    margin = math.log(0.8 / 0.2)
    assert calibration_error([margin, margin, -margin], 1.0) == pytest.approx(0.8 - 2 / 3)
