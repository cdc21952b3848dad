"""Win rates and errors of the published AlpacaEval leaderboard, from the single verdicts behind it."""

import csv
import json
from typing import Any

import numpy as np
import pytest
from real_data import find_real

from sacpo_exp.statistics import Interval
from sacpo_exp.statistics.intervals import Resampling, bootstrap_mean, standard_error

MODELS = ("alpaca-7b", "alpaca-farm-ppo-human")

#: What a preference means for the second response. Null is no verdict.
VERDICTS = {2: 1.0, 1: 0.0, 0: 0.5, 1.5: 0.5}


def read_row(model: str) -> tuple[list[float], dict[str, Any]]:
    """Verdicts of `model` against the reference, and its published row."""
    folder = find_real("judgments/alpaca_eval")
    annotations = json.loads((folder / f"{model}__alpaca_eval_gpt4__annotations.json").read_text("utf-8"))
    with (folder / "leaderboard_alpaca_eval_gpt4.csv").open(encoding="utf-8") as file:
        published = next(row for row in csv.DictReader(file) if row[""] == model)
    return [VERDICTS[row["preference"]] for row in annotations if row["preference"] is not None], published


@pytest.mark.parametrize("model", MODELS)
def test_win_rate_standard_error_and_counts_are_the_published_ones(model: str) -> None:
    verdicts, published = read_row(model)
    estimate = bootstrap_mean(verdicts, Resampling(10, 0.95, 0))
    assert 100 * estimate.value == pytest.approx(float(published["win_rate"]), abs=1e-6)
    assert 100 * standard_error(verdicts) == pytest.approx(float(published["standard_error"]), abs=1e-6)
    counts = (verdicts.count(1.0), verdicts.count(0.0), verdicts.count(0.5), estimate.n)
    assert counts == tuple(int(published[name]) for name in ("n_wins", "n_wins_base", "n_draws", "n_total"))


@pytest.mark.parametrize("method", Interval)
@pytest.mark.parametrize("model", MODELS)
def test_bootstrap_and_analytic_errors_agree_within_10_percent(model: str, method: Interval) -> None:
    verdicts, published = read_row(model)
    estimate = bootstrap_mean(verdicts, Resampling(2000, 0.95, 0, method))
    error = float(published["standard_error"]) / 100
    assert (estimate.high - estimate.low) / (2 * 1.96) == pytest.approx(error, rel=0.1)


@pytest.mark.parametrize("model", MODELS)
def test_bootstrap_intervals_of_both_methods_hold_the_published_rate(model: str) -> None:
    verdicts, published = read_row(model)
    rate = float(published["win_rate"]) / 100
    intervals = [bootstrap_mean(np.array(verdicts), Resampling(1000, 0.95, 1, method)) for method in Interval]
    assert all(interval.low < rate < interval.high for interval in intervals)
