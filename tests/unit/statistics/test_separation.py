"""Tests of where a logistic regression has a finite fit."""

import numpy as np
import pytest

from sacpo_exp.statistics.ratings import has_finite_fit, is_identified

LINE = np.column_stack([np.ones(4), [-2.0, -1.0, 1.0, 2.0]])


@pytest.mark.parametrize(
    ("successes", "is_finite"),
    [
        ([0, 1, 0, 1], True),
        ([0, 0, 1, 1], False),  # separated by 0
        ([1, 1, 0, 0], False),
        ([1, 1, 1, 1], False),
        ([0, 0.5, 1, 1], False),  # touches at −1 only, so that the slope grows for ever
        ([0.5, 0.5, 0.5, 0.5], True),
        ([0, 0.5, 0.5, 1], True),
    ],
)
def test_separated_data_have_no_finite_fit(successes: list[float], is_finite: bool) -> None:
    observed = np.array(successes)
    assert has_finite_fit(LINE, observed, 1 - observed) is is_finite


def test_dependent_columns_have_no_unique_fit() -> None:
    twice = np.column_stack([LINE, LINE[:, 1] * 3])
    observed = np.array([0.0, 1.0, 0.0, 1.0])
    assert not is_identified(twice)
    assert not has_finite_fit(twice, observed, 1 - observed)
    assert not is_identified(np.zeros((3, 1)))


def test_two_coefficients_may_separate_together_what_neither_does_alone() -> None:
    design = np.array([[1.0, 1.0], [1.0, -1.0]])
    # The first row always succeeds: the sum of both grows for ever while their difference stays.
    assert not has_finite_fit(design, np.array([5.0, 2.0]), np.array([0.0, 2.0]))
    assert has_finite_fit(design, np.array([5.0, 2.0]), np.array([1.0, 2.0]))
