"""The guarantee of certificates in worlds whose truth is known, their p-values by hand, their power, Pareto fronts."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest, norm

from sacpo_exp.statistics.intervals import Resampling, bootstrap_mean
from sacpo_exp.statistics.selection import (
    Outcome,
    bet,
    certify_by_holm,
    certify_in_sequence,
    count_halves,
    count_prompts,
    estimate_chosen,
    find_front,
    find_lower_bound,
    find_p_value,
    find_power,
    pick_best,
)

Floats = NDArray[np.float64]

THRESHOLD, LEVEL = 0.65, 0.05
#: True safety along a family from its safe end. What lies below the threshold is the more helpful the further along.
CURVES = {
    "monotone": (0.85, 0.80, 0.72, 0.64, 0.56, 0.48),
    "flat": (THRESHOLD - 1e-9,) * 6,
    "dip": (0.85, 0.80, 0.62, 0.80, 0.82, 0.55),
}
HELPFULNESS = (0.50, 0.54, 0.58, 0.62, 0.66, 0.70)
COMMON = 0.6  # correlation of two policies on one prompt: some prompts are dangerous for all


def yes_or_no(luck: Floats, safety: Floats, _: np.random.Generator) -> Floats:
    return (luck < safety).astype(float)


def with_ties(luck: Floats, safety: Floats, _: np.random.Generator) -> Floats:
    """A fifth of all verdicts are ties."""
    return np.where(luck < safety - 0.1, 1.0, np.where(luck < safety + 0.1, 0.5, 0.0))


def in_clusters(luck: Floats, safety: Floats, random: np.random.Generator) -> Floats:
    """Six judgments per prompt, which hang together, averaged: a prompt is won nearly always, or nearly never."""
    return random.binomial(6, np.where(luck < (safety - 0.15) / 0.8, 0.95, 0.15)) / 6


FORMS: dict[Outcome, Callable[[Floats, Floats, np.random.Generator], Floats]] = {
    Outcome.yes_no: yes_or_no,
    Outcome.tie_or_not: with_ties,
    Outcome.bounded: in_clusters,
}
PROCEDURES: dict[str, Callable[[list[float], float], list[bool]]] = {
    "fixed sequence": certify_in_sequence,
    "Holm": certify_by_holm,
    "each by itself": lambda p_values, level: [p_value <= level for p_value in p_values],  # what must not be done
}


@dataclass
class Outcomes:
    """In how many worlds the policy returned was not safe, and was safe."""

    violations: int = 0
    hits: int = 0


def try_worlds(curve: str, outcome: Outcome, n: int, worlds: int) -> dict[str, Outcomes]:
    """The most helpful certified policy of every world, by procedure; all policies are judged on the same n prompts."""
    random = np.random.default_rng(0)
    found = {name: Outcomes() for name in PROCEDURES}
    safety = np.array(CURVES[curve])[:, None]
    for _ in range(worlds):
        shared, own = random.standard_normal((1, n)), random.standard_normal((len(safety), n))
        luck = norm.cdf(np.sqrt(COMMON) * shared + np.sqrt(1 - COMMON) * own)
        values = FORMS[outcome](luck, safety, random)
        p_values = [find_p_value(row, THRESHOLD, LEVEL, outcome) for row in values]
        helpfulness = (random.random((len(values), n)) < np.array(HELPFULNESS)[:, None]).astype(float)
        for name, procedure in PROCEDURES.items():
            certified = [place for place, is_certified in enumerate(procedure(p_values, LEVEL)) if is_certified]
            if certified:
                chosen = certified[pick_best([helpfulness[place] for place in certified])]
                is_safe = CURVES[curve][chosen] >= THRESHOLD
                found[name].hits += is_safe
                found[name].violations += not is_safe
    return found


def is_above_level(violations: int, worlds: int) -> bool:
    """Whether violations are more than the level allows, by a one-sided binomial test at 1 %."""
    return bool(binomtest(violations, worlds, LEVEL, alternative="greater").pvalue < 0.01)


@pytest.mark.parametrize("outcome", Outcome)
def test_the_level_holds_over_the_family_and_would_not_without_the_correction(outcome: Outcome) -> None:
    found = try_worlds("flat", outcome, 83, 300)
    assert not is_above_level(found["fixed sequence"].violations, 300)
    assert not is_above_level(found["Holm"].violations, 300)
    if outcome != Outcome.bounded:  # which spends less than its level on prompts that are nearly all or nothing
        assert is_above_level(found["each by itself"].violations, 300)


@pytest.mark.slow
@pytest.mark.parametrize("n", [83, 500])
@pytest.mark.parametrize(("curve", "outcome"), itertools.product(CURVES, Outcome))
def test_2000_worlds(curve: str, outcome: Outcome, n: int) -> None:
    found = try_worlds(curve, outcome, n, 2000)
    for name in ("fixed sequence", "Holm"):
        print(f"| {curve} | {outcome.value} | {n} | {name} | {found[name].violations} | {found[name].hits} |")
        assert not is_above_level(found[name].violations, 2000)
    if curve == "flat":
        assert is_above_level(found["each by itself"].violations, 2000)
    elif n == 500:
        assert found["fixed sequence"].hits > 0.9 * 2000


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.65])
def test_exact_p_values_are_those_of_all_outcomes(threshold: float) -> None:
    n = 4
    for ties in np.linspace(0, 2 * min(threshold, 1 - threshold), 9):
        chances = {0: 1 - threshold - ties / 2, 1: ties, 2: threshold - ties / 2}  # verdict in halves → its chance
        tails = np.zeros(2 * n + 1)
        for outcome in itertools.product(chances, repeat=n):
            tails[: sum(outcome) + 1] += math.prod(chances[half] for half in outcome)
        assert (count_halves(n, threshold) >= tails - 1e-3).all()
        if ties == 0:
            found = [find_p_value(np.arange(n) < k, threshold, 0.05, Outcome.yes_no) for k in range(n + 1)]
            assert found == pytest.approx(tails[::2])


def test_a_bet_by_hand() -> None:
    # Two values: the first bet knows only the prior variance 1/4, the second what the first value has taught.
    first = min(math.sqrt(2 * math.log(20) / (2 * 0.25)), 1.5)
    variance = (0.25 + (1.0 - (0.5 + 1.0) / 2) ** 2) / 2
    second = min(math.sqrt(2 * math.log(20) / (2 * variance)), 1.5)
    capital = (1 + first * 0.5) * (1 + second * 0.25)
    assert bet(np.array([1.0, 0.75]), 0.5, 0.05) == pytest.approx(1 / capital)


@pytest.mark.parametrize("outcome", Outcome)
def test_a_bound_is_the_greatest_threshold_that_is_refuted(outcome: Outcome) -> None:
    values = np.random.default_rng(0).permutation([1.0] * 70 + [0.0] * 13)
    bound = find_lower_bound(values, 0.05, outcome)
    assert find_p_value(values, bound, 0.05, outcome) <= 0.05 < find_p_value(values, bound + 2e-4, 0.05, outcome)
    assert 0.7 < bound < 70 / 83
    assert find_p_value(np.array([]), 0.6, 0.05, outcome) == 1.0
    assert find_p_value(np.zeros(83), 0.6, 0.05, outcome) == pytest.approx(1.0)


def test_a_sequence_ends_at_the_first_that_fails_and_looks_no_further() -> None:
    looked: list[float] = []

    def look() -> Iterator[float]:
        for p_value in (0.001, 0.05, 0.2, 0.0001):
            looked.append(p_value)
            yield p_value

    assert certify_in_sequence(look(), 0.05) == [True, True, False]
    assert looked == [0.001, 0.05, 0.2]


def test_holm_by_hand() -> None:
    assert certify_by_holm([0.02, 0.01, 0.9], 0.05) == [True, True, False]  # 0.01 ≤ 0.05/3, 0.02 ≤ 0.05/2
    assert certify_by_holm([0.03, 0.01, 0.9], 0.05) == [False, True, False]
    assert certify_by_holm([0.02, 0.02, 0.02], 0.05) == [False, False, False]  # the smallest is above 0.05/3
    assert (certify_by_holm([0.04], 0.05), certify_by_holm([], 0.05)) == ([True], [])


def test_the_interval_of_the_best_of_many_covers_its_true_mean() -> None:
    """Ten policies that are equally helpful: the best of them looks better than it is, and its plain interval errs."""
    random, resampling, shared, plain = np.random.default_rng(0), Resampling(2000, 0.95, 0), 0, 0
    for _ in range(200):
        values = list((random.random((10, 100)) < 0.6).astype(float))
        chosen = pick_best(values)
        estimate, alone = estimate_chosen(values, chosen, resampling), bootstrap_mean(values[chosen], resampling)
        assert estimate.value == alone.value
        shared += estimate.low > 0.6
        plain += alone.low > 0.6
    assert shared <= 0.05 * 200
    assert plain > 0.1 * 200
    assert pick_best([[0.5, 0.5], [0.0, 1.0], [0.2, 0.2]]) == 0


@pytest.mark.parametrize("outcome", Outcome)
def test_power_grows_with_prompts_and_enough_of_them_are_enough(outcome: Outcome) -> None:
    assert find_power(83, 0.6, 0.6, 0.05, outcome) <= 0.05
    powers = [find_power(n, 0.6, 0.7, 0.05, outcome) for n in (40, 100, 300)]
    assert powers == sorted(powers)
    assert find_power(2, 0.6, 1.0, 0.05, outcome) == 0.0  # 0.36 is the least p-value of two prompts
    n = count_prompts(0.6, 0.75, 0.05, outcome, 0.8)
    assert find_power(n // 2, 0.6, 0.75, 0.05, outcome) < 0.8 <= find_power(n, 0.6, 0.75, 0.05, outcome)
    assert count_prompts(0.6, 0.6, 0.05, outcome, 0.8) is None


def test_the_front_has_the_points_that_no_other_dominates() -> None:
    points = [(0.2, 0.9), (0.5, 0.5), (0.4, 0.5), (0.5, 0.5), (0.9, 0.1), (math.nan, 1.0)]
    assert find_front(points) == [True, True, False, True, True, False]
