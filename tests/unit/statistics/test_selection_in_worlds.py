"""The guarantee itself: how often a policy below the threshold is returned, in worlds whose truth is known."""

import itertools

import numpy as np
import pytest
from scipy.stats import binomtest
from worlds import CURVES, FORMS, LEVEL, THRESHOLD, Outcomes, try_worlds

from sacpo_exp.statistics.selection import Outcome, find_p_value


def is_above_level(outcomes: Outcomes) -> bool:
    """Whether violations are more than the level allows, by a one-sided binomial test at 1 %."""
    return binomtest(outcomes.violations, outcomes.worlds, LEVEL, alternative="greater").pvalue < 0.01


def test_the_level_holds_over_the_family_and_would_not_without_the_correction() -> None:
    found = try_worlds("flat", "ties", 83, 500)
    assert not is_above_level(found["fixed sequence"])
    assert not is_above_level(found["Holm"])
    assert is_above_level(found["each by itself"])  # so the test can tell


@pytest.mark.slow
@pytest.mark.parametrize("n", [83, 500])
@pytest.mark.parametrize(("curve", "form"), itertools.product(CURVES, FORMS))
def test_2000_worlds(curve: str, form: str, n: int) -> None:
    found = try_worlds(curve, form, n, 2000)
    for name in ("fixed sequence", "Holm"):
        outcomes = found[name]
        shares = [count / outcomes.worlds for count in (outcomes.violations, outcomes.hits, outcomes.best)]
        print(f"| {curve} | {form} | {n} | {name} | {' | '.join(f'{share:.3f}' for share in shares)} |")
        assert not is_above_level(outcomes)
    if curve == "flat":
        assert is_above_level(found["each by itself"])
    elif n == 500:
        assert found["fixed sequence"].hits > 0.9 * 2000


@pytest.mark.slow
def test_repeats_taken_for_prompts_would_break_the_level() -> None:
    random = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        chances = np.where(random.random(83) < (THRESHOLD - 0.15) / 0.8, 0.95, 0.15)
        singles = (random.random((6, 83)) < chances).astype(float)  # the mean over prompts is the threshold
        hits += find_p_value(singles.ravel(), THRESHOLD, LEVEL, Outcome.yes_no) <= LEVEL
    assert binomtest(hits, 1000, LEVEL, alternative="greater").pvalue < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [0.5, 0.65, 0.9])
def test_few_ties_do_not_break_the_exact_test(threshold: float) -> None:
    """Shares of ties about one in n are the worst case of a test that looked for ties before it chose its formula."""
    random, n, worlds = np.random.default_rng(0), 40, 20_000
    for ties in np.array([0, 0.25, 0.5, 1, 2, 4]) / n:
        won = threshold - ties / 2
        luck = random.random((worlds, n))
        values = np.where(luck < won, 1.0, np.where(luck < won + ties, 0.5, 0.0))
        hits = sum(find_p_value(row, threshold, LEVEL, Outcome.tie_or_not) <= LEVEL for row in values)
        assert binomtest(hits, worlds, LEVEL, alternative="greater").pvalue > 0.01
