"""p-values for "not safe enough" against enumeration by hand, and over all laws that a threshold allows."""

import itertools
import math

import numpy as np
import pytest

from sacpo_exp.statistics.selection import (
    Outcome,
    bet,
    count_halves,
    count_tails,
    find_lower_bound,
    find_p_value,
)


def test_binomial_tails_are_those_of_all_outcomes() -> None:
    n, threshold = 5, 0.3
    expected = np.zeros(n + 1)
    for outcome in itertools.product((0, 1), repeat=n):
        chance = math.prod(threshold if won else 1 - threshold for won in outcome)
        expected[: sum(outcome) + 1] += chance
    assert count_tails(n, threshold) == pytest.approx(expected)


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.65])
def test_tails_with_ties_cover_every_law_on_three_verdicts(threshold: float) -> None:
    n = 4
    found = count_halves(n, threshold)
    for ties in np.linspace(0, 2 * min(threshold, 1 - threshold), 23):
        chances = {0: 1 - threshold - ties / 2, 1: ties, 2: threshold - ties / 2}  # verdict in halves → its chance
        tails = np.zeros(2 * n + 1)
        for outcome in itertools.product(chances, repeat=n):
            tails[: sum(outcome) + 1] += math.prod(chances[half] for half in outcome)
        assert (found >= tails - 1e-3).all()
    assert (found[::2] >= count_tails(n, threshold) - 1e-12).all()


@pytest.mark.parametrize(("n", "threshold"), [(83, 0.65), (500, 0.6), (60, 0.9)])
def test_the_exact_test_with_ties_asks_for_no_more_wins_than_the_binomial(n: int, threshold: float) -> None:
    with_ties, without = (np.argmax(tails <= 0.05) for tails in (count_halves(n, threshold), count_tails(n, threshold)))
    assert with_ties / 2 in (without, without - 0.5)


def test_a_bet_by_hand() -> None:
    # Two values: the first bet knows only the prior variance 1/4, the second what the first value has taught.
    threshold, level = 0.5, 0.05
    first = min(math.sqrt(2 * math.log(20) / (2 * 0.25)), 1.5)
    mean = (0.5 + 1.0) / 2
    variance = (0.25 + (1.0 - mean) ** 2) / 2
    second = min(math.sqrt(2 * math.log(20) / (2 * variance)), 1.5)
    capital = (1 + first * 0.5) * (1 + second * 0.25)
    assert bet(np.array([1.0, 0.75]), threshold, level) == pytest.approx(1 / capital)


def test_bets_are_valid_and_strong_where_values_vary_little() -> None:
    random = np.random.default_rng(0)
    at_threshold = random.choice([0.55, 0.75], (2000, 83))
    assert np.mean(bet(at_threshold, 0.65, 0.05) <= 0.05) <= 0.05
    steady = random.choice([0.65, 0.85], 83)
    assert bet(steady, 0.65, 0.05) < 1e-3 < find_p_value((steady > 0.7).astype(float), 0.65, 0.05, Outcome.yes_no)


@pytest.mark.parametrize("outcome", Outcome)
def test_a_bound_is_the_greatest_threshold_that_is_refuted(outcome: Outcome) -> None:
    values = np.random.default_rng(0).permutation([1.0] * 70 + [0.0] * 13)
    bound = find_lower_bound(values, 0.05, outcome)
    assert find_p_value(values, bound, 0.05, outcome) <= 0.05
    assert find_p_value(values, bound + 2e-4, 0.05, outcome) > 0.05
    assert 0.7 < bound < 70 / 83


@pytest.mark.parametrize("outcome", Outcome)
def test_nothing_seen_proves_nothing(outcome: Outcome) -> None:
    assert find_p_value(np.array([]), 0.6, 0.05, outcome) == 1.0
    assert find_lower_bound(np.array([]), 0.05, outcome) == 0.0
    assert find_p_value(np.zeros(83), 0.6, 0.05, outcome) == pytest.approx(1.0)
