"""Tests of win rates by length: by hand, simulated judges, without a finite fit, real verdicts."""

import csv
import json
import math

import numpy as np
import pytest
from real_data import find_real

from sacpo_exp.statistics.intervals import Floats, Resampling, bootstrap_mean
from sacpo_exp.statistics.win_rate import adjust_for_length, estimate_by_length

USUAL = Resampling(rounds=500, confidence=0.95, seed=0)


def test_similar_is_within_10_percent_either_way() -> None:
    own, other = [100, 100, 100, 100, 100, 0, 0, 5], [100, 110, 111, 91, 90, 0, 5, 0]
    rates = estimate_by_length([1, 0, 1, 0, 1, 0.5, 1, 0.5], own, other, USUAL)
    assert {name: (rate.n, rate.value) for name, rate in rates.items()} == {
        "shorter": (2, 1),
        "similar": (4, pytest.approx(1.5 / 4)),
        "longer": (2, pytest.approx(0.75)),
    }
    assert math.isnan(estimate_by_length([1, 0], [10, 10], [10, 10], USUAL)["longer"].value)


def simulate(seed: int, n: int, strength: float, pull: float, mean: float = 60) -> tuple[Floats, Floats, Floats]:
    """A judge with log odds `strength` at equal length and `pull` per unit of tanh; lengths differ by `mean` tokens."""
    random = np.random.default_rng(seed)
    own, other = random.normal(200 + mean, 60, n), random.normal(200, 60, n)
    covariate = np.tanh((own - other) / (60 * math.sqrt(2)))
    won = random.random(n) < 1 / (1 + np.exp(-strength - pull * covariate))
    return won.astype(np.float64), own, other


def test_the_adjusted_rate_takes_out_what_length_gave() -> None:
    won, own, other = simulate(0, 4000, strength=-0.4, pull=2.0)
    plain, adjusted = bootstrap_mean(won, USUAL), adjust_for_length(won, own, other, 0.95)
    assert plain.low > 0.5 > adjusted.high  # won by length alone
    assert adjusted.low < 1 / (1 + math.exp(0.4)) < adjusted.high
    won, own, other = simulate(1, 4000, strength=0.5, pull=0.0, mean=0)
    assert adjust_for_length(won, own, other, 0.95).value == pytest.approx(won.mean(), abs=0.005)
    assert adjust_for_length([1, 1, 1, 0], [7] * 4, [7] * 4, 0.95).value == pytest.approx(0.75)  # equal lengths


def test_intervals_of_the_adjusted_rate_cover() -> None:
    truth, covered = 1 / (1 + math.exp(-0.3)), 0
    for seed in range(200):
        estimate = adjust_for_length(*simulate(seed, 150, strength=0.3, pull=1.0), 0.9)
        covered += estimate.low <= truth <= estimate.high
    # Three standard errors of the share itself, sqrt(0.9 · 0.1 / 200) = 0.021, around 0.9.
    assert 0.836 <= covered / 200 <= 0.964


def test_without_a_finite_fit_there_is_no_number() -> None:
    for outcomes, lengths in (
        ([1, 1, 1, 1, 1], [1, 2, 3, 4, 5]),  # no losses
        ([0, 0, 1, 1, 1], [1, 2, 3, 4, 5]),  # separated by length
        ([1, 0, 1, 0, 1], [5, 5, 5, 5, 5]),  # always the same difference
        ([1, 0, 0.5, 1], [11.5, 12.5, 11.5, 12.5]),  # hardly another one: the matrix was singular
        ([1, 0], [1, 2]),
        ([], []),
    ):
        estimate = adjust_for_length(outcomes, lengths, [3.5] * len(lengths), 0.95)
        assert np.isnan([estimate.value, estimate.low, estimate.high]).all()
        assert estimate.n == len(outcomes)


@pytest.mark.parametrize("model", ["alpaca-7b", "alpaca-farm-ppo-human"])
def test_real_verdicts_are_near_the_published_length_controlled_rate(model: str) -> None:
    folder = find_real("judgments/alpaca_eval")
    rows = json.loads((folder / f"{model}__alpaca_eval_gpt4__annotations.json").read_text("utf-8"))
    with (folder / "leaderboard_alpaca_eval_gpt4.csv").open(encoding="utf-8") as file:
        published = next(row for row in csv.DictReader(file) if row[""] == model)
    won = [{2: 1.0, 1: 0.0}.get(row["preference"], 0.5) for row in rows]
    own, other = ([len(row[name]) for row in rows] for name in ("output_2", "output_1"))
    rates = estimate_by_length(won, own, other, USUAL)
    assert sum(rate.n for rate in rates.values()) == 805
    assert rates["longer"].value > rates["shorter"].value
    # Their fit also knows the difficulty of the prompts.
    plain, controlled = (float(published[name]) / 100 for name in ("win_rate", "length_controlled_winrate"))
    adjusted = adjust_for_length(won, own, other, 0.95)
    assert adjusted.value < plain
    assert adjusted.value == pytest.approx(controlled, abs=0.02)
