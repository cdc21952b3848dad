"""Tests of who can be rated: each reason by hand, and agreement with a linear programme on random tournaments."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sacpo_exp.statistics.comparisons import Comparisons, find_unconnected, find_unrated, gather_comparisons
from sacpo_exp.statistics.ratings import has_finite_fit

Match = tuple[str, str, float]


def gather(*matches: Match) -> Comparisons:
    left, right, outcome = zip(*matches, strict=True)
    return gather_comparisons(left, right, outcome, [0] * len(matches))


#: Baseline and peer beat each other, so that both can be rated.
EVEN: tuple[Match, ...] = (("baseline", "peer", 1), ("baseline", "peer", 0))


def test_those_that_beat_one_another_are_all_rated() -> None:
    assert find_unrated(gather(*EVEN), "baseline") == {}


def test_a_tie_counts_as_a_win_of_both() -> None:
    assert find_unrated(gather(("baseline", "other", 0.5)), "baseline") == {}


def test_a_cycle_of_wins_is_enough() -> None:
    assert find_unrated(gather(("baseline", "b", 1), ("b", "c", 1), ("c", "baseline", 1)), "baseline") == {}


def test_who_never_wins_or_never_loses_is_named() -> None:
    unrated = find_unrated(gather(*EVEN, ("peer", "poor", 1), ("baseline", "best", 0)), "baseline")
    assert unrated == {"poor": "never wins", "best": "never loses"}


def test_two_that_win_only_against_each_other_are_named() -> None:
    low = (("x", "y", 1), ("x", "y", 0))
    assert find_unrated(gather(*EVEN, *low, ("peer", "x", 1)), "baseline") == dict.fromkeys(
        ("x", "y"), "no chain of wins leads to the baseline"
    )
    assert find_unrated(gather(*EVEN, *low, ("x", "peer", 1)), "baseline") == dict.fromkeys(
        ("x", "y"), "no chain of losses leads to the baseline"
    )


def test_who_met_nobody_that_met_the_baseline_is_named() -> None:
    comparisons = gather(*EVEN, ("x", "y", 1), ("x", "y", 0))
    reason = "no chain of comparisons leads to the baseline"
    assert find_unrated(comparisons, "baseline") == find_unconnected(comparisons, "baseline")
    assert find_unconnected(comparisons, "baseline") == {"x": reason, "y": reason}


def test_a_policy_without_verdicts_is_named() -> None:
    comparisons = gather(*EVEN)
    alone = Comparisons(
        (*comparisons.policies, "silent"), comparisons.left, comparisons.right, comparisons.outcome, comparisons.shown
    )
    assert find_unrated(alone, "baseline") == {"silent": "has no verdicts"}


def test_beside_a_baseline_that_never_wins_nobody_is_rated() -> None:
    unrated = find_unrated(gather(("baseline", "a", 0), ("baseline", "b", 0), ("a", "b", 1), ("b", "a", 1)), "baseline")
    assert unrated == dict.fromkeys(("a", "b"), "no chain of losses leads to the baseline")


def test_an_unknown_baseline_is_an_error() -> None:
    for find in (find_unrated, find_unconnected):
        with pytest.raises(ValueError, match="'sft' is none of"):
            find(gather(*EVEN), "sft")


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 4), st.sampled_from([0.0, 0.5, 1.0])).filter(
            lambda m: m[0] != m[1]
        ),
        min_size=1,
        max_size=14,
    )
)
def test_all_are_rated_exactly_where_the_likelihood_has_a_finite_maximum(matches: list[tuple[int, int, float]]) -> None:
    comparisons = gather(*((str(left), str(right), outcome) for left, right, outcome in matches))
    design = np.zeros((len(matches), len(comparisons.policies)))
    design[np.arange(len(matches)), comparisons.left] = 1
    design[np.arange(len(matches)), comparisons.right] = -1
    is_finite = has_finite_fit(design[:, 1:], comparisons.outcome, 1 - comparisons.outcome)
    assert (find_unrated(comparisons, comparisons.policies[0]) == {}) == is_finite
