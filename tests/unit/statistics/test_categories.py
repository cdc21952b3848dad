"""Tests of rates by category."""

import numpy as np
import pytest

from sacpo_exp.statistics.breakdown import estimate_by_category, find_worst_category
from sacpo_exp.statistics.intervals import Estimate, Resampling, bootstrap_mean

USUAL = Resampling(rounds=500, confidence=0.95, seed=0)


def test_each_category_has_its_own_mean_and_interval() -> None:
    values, categories = [1.0, 0.0, 0.5, 1.0, 0.0], ["privacy", "drugs", "privacy", "drugs", None]
    estimates = estimate_by_category(values, categories, USUAL)
    assert list(estimates) == ["drugs", "privacy"]
    assert estimates["privacy"] == bootstrap_mean([1.0, 0.5], USUAL)
    assert (estimates["drugs"].value, estimates["drugs"].n) == (0.5, 2)


def test_without_categories_there_are_no_rates() -> None:
    assert estimate_by_category([1.0, 0.0], [None, None], USUAL) == {}
    assert estimate_by_category([], [], USUAL) == {}
    with pytest.raises(ValueError, match="2 and 1"):
        estimate_by_category([1.0, 0.0], ["a"], USUAL)


def test_the_worst_category_has_enough_prompts() -> None:
    estimates = {"a": Estimate(0.4, 0.3, 0.5, 50), "b": Estimate(0.0, 0.0, 0.0, 2), "c": Estimate(0.6, 0.5, 0.7, 50)}
    assert find_worst_category(estimates, min_prompts=10) == "a"
    assert find_worst_category(estimates, min_prompts=1) == "b"
    assert find_worst_category(estimates, min_prompts=51) is None
    assert find_worst_category({}, min_prompts=1) is None


def test_of_equals_the_first_by_name_is_the_worst() -> None:
    estimates = dict.fromkeys(("z", "m", "q"), Estimate(0.5, 0.4, 0.6, 20))
    assert find_worst_category(estimates, min_prompts=10) == "m"


def test_the_lowest_of_several_equal_rates_lies_below_them_the_more_the_fewer_prompts() -> None:
    random, settings = np.random.default_rng(0), Resampling(2, 0.95, 0)

    def lowest(n: int) -> float:
        values = (random.random(10 * n) < 0.5).astype(float)
        estimates = estimate_by_category(values, [f"c{index // n}" for index in range(10 * n)], settings)
        return estimates[find_worst_category(estimates, 1) or ""].value

    few, many = (np.mean([lowest(n) for _ in range(60)]) for n in (10, 160))
    assert few < 0.35 < many < 0.48
