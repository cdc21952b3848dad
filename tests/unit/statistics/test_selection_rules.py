"""Certificates over a family, the choice among them, and how many prompts they take."""

from collections.abc import Iterator

import numpy as np
import pytest

from sacpo_exp.statistics.intervals import Resampling, bootstrap_mean
from sacpo_exp.statistics.selection import (
    Outcome,
    certify_by_holm,
    certify_in_sequence,
    combine_constraints,
    count_least_prompts,
    count_prompts,
    estimate_chosen,
    find_power,
    pick_best,
    split_prompts,
)

RESAMPLING = Resampling(2000, 0.95, 0)


def test_a_sequence_ends_at_the_first_that_fails_and_looks_no_further() -> None:
    looked: list[float] = []

    def look() -> Iterator[float]:
        for p_value in (0.001, 0.05, 0.2, 0.0001):
            looked.append(p_value)
            yield p_value

    assert certify_in_sequence(look(), 0.05) == [True, True, False]
    assert looked == [0.001, 0.05, 0.2]


@pytest.mark.parametrize(
    ("p_values", "expected"),
    [
        ([0.02, 0.01, 0.9], [True, True, False]),  # 0.01 ≤ 0.05/3, 0.02 ≤ 0.05/2
        ([0.03, 0.01, 0.9], [False, True, False]),
        ([0.02, 0.02, 0.02], [False, False, False]),  # the smallest is above 0.05/3
        ([0.04], [True]),
        ([], []),
    ],
)
def test_holm_by_hand(p_values: list[float], expected: list[bool]) -> None:
    assert certify_by_holm(p_values, 0.05) == expected


def test_several_constraints_are_as_doubtful_as_the_most_doubtful() -> None:
    assert combine_constraints([0.01, 0.2, 0.03]) == 0.2


def test_halves_share_nothing_and_hang_on_the_seed_alone() -> None:
    first, second = split_prompts(7, 0)
    assert (len(first), len(second)) == (4, 3)
    assert sorted([*first, *second]) == list(range(7))
    assert split_prompts(7, 0)[0].tolist() == first.tolist()
    assert split_prompts(40, 1)[0].tolist() != split_prompts(40, 2)[0].tolist()


def test_of_equally_helpful_policies_the_first_is_picked() -> None:
    assert pick_best([[0.5, 0.5], [0.0, 1.0], [0.2, 0.2]]) == 0
    assert pick_best([[0.5], [0.0, 1.0, 1.0]]) == 1


def test_the_interval_of_a_chosen_policy_is_wider_the_more_there_were() -> None:
    values = [np.random.default_rng(seed).random(60) for seed in range(5)]
    alone, among = estimate_chosen(values[:1], 0, RESAMPLING), estimate_chosen(values, 0, RESAMPLING)
    assert alone == bootstrap_mean(values[0], RESAMPLING)
    assert among.low < alone.low
    assert among.high > alone.high
    assert among.value == alone.value


def test_the_interval_of_the_best_of_many_covers_its_true_mean() -> None:
    """Ten policies that are equally helpful: the best of them looks better than it is, and its plain interval errs."""
    random, shared, plain = np.random.default_rng(0), 0, 0
    for _ in range(200):
        values = (random.random((10, 100)) < 0.6).astype(float)
        chosen = pick_best(list(values))
        shared += estimate_chosen(list(values), chosen, RESAMPLING).low > 0.6
        plain += bootstrap_mean(values[chosen], RESAMPLING).low > 0.6
    assert shared <= 0.05 * 200
    assert plain > 0.1 * 200


@pytest.mark.parametrize("outcome", Outcome)
def test_power_is_the_share_of_certificates(outcome: Outcome) -> None:
    assert find_power(83, 0.6, 0.6, 0.05, outcome) <= 0.05
    powers = [find_power(n, 0.6, 0.7, 0.05, outcome) for n in (40, 100, 300)]
    assert powers == sorted(powers)
    assert find_power(2, 0.6, 1.0, 0.05, outcome) == 0.0  # 0.36 is the least p-value of two prompts


def test_power_of_the_exact_test_by_hand() -> None:
    # Of 10 prompts at 0.5 only 9 or 10 are ≤ 0.05 (11/1024); at 0.9 they come with 0.3874 + 0.3487.
    assert find_power(10, 0.5, 0.9, 0.05, Outcome.yes_no) == pytest.approx(0.7361, abs=1e-4)


@pytest.mark.parametrize("outcome", Outcome)
def test_enough_prompts_are_enough(outcome: Outcome) -> None:
    n = count_prompts(0.6, 0.75, 0.05, outcome, 0.8)
    assert n is not None
    assert find_power(n, 0.6, 0.75, 0.05, outcome) >= 0.8
    assert find_power(n // 2, 0.6, 0.75, 0.05, outcome) < 0.8


def test_what_no_number_of_prompts_can_show() -> None:
    assert count_prompts(0.6, 0.6, 0.05, Outcome.yes_no, 0.8) is None
    assert count_prompts(0.6, 0.601, 0.05, Outcome.yes_no, 0.8) is None


def test_the_least_number_of_prompts_with_which_all_of_them_safe_are_enough() -> None:
    n = count_least_prompts(0.9, 0.05)
    assert 0.9**n <= 0.05 < 0.9 ** (n - 1)
