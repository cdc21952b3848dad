"""Preference accuracy: whether the implicit rewards of a policy rank held-out pairs as their labels do; pure.

The implicit reward of a completion is log π(y|x) − log π_ref(y|x), up to the factor β and a constant of the prompt
(Rafailov et al. 2023, equation 5). The margin of a pair is that of the chosen completion minus that of the rejected.
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from sacpo_exp.statistics.intervals import (
    RATE,
    Estimate,
    Floats,
    Resampling,
    Values,
    bootstrap_statistic,
    estimate_constant,
    is_constant,
)

#: Bins of the calibration error, of equal width.
BINS: Final = 10


def estimate_accuracy(margins: Values, prompts: Sequence[str], resampling: Resampling) -> Estimate:
    """Estimate the share of pairs with a positive margin; a margin of 0 counts as half, since it ranks neither.

    Pairs of one prompt are drawn together, since they are alike. `n` is the number of prompts.
    """
    correct = _rank(margins)
    if is_constant(correct):  # all right of a few does not make the next one certain
        return estimate_constant(float(correct[0]), len(set(prompts)), resampling.confidence, RATE)
    return estimate_mean(correct, prompts, resampling)


def _rank(margins: Values) -> Floats:
    """Return 1 where the chosen completion gains more, 0 where the rejected one does, and 0.5 where neither."""
    return (np.sign(np.asarray(margins, dtype=np.float64)) + 1) / 2


def estimate_mean(values: Values, prompts: Sequence[str], resampling: Resampling) -> Estimate:
    """Estimate the mean over pairs with a percentile interval from prompts drawn with all their pairs."""
    _, places = np.unique(list(prompts), return_inverse=True)
    sums, counts = np.bincount(places, np.asarray(values, dtype=np.float64)), np.bincount(places)
    return bootstrap_statistic((sums, counts), lambda total, count, axis: total.sum(axis) / count.sum(axis), resampling)


def calibration_error(margins: Values, beta: float) -> float:
    """Return the expected calibration error of σ(β·margin) as probability that the chosen completion is preferred.

    The more probable completion of each pair is the prediction; pairs are put into bins by its probability, from 0.5
    to 1, and the error is the mean over pairs of |accuracy − mean probability| of their bin (Guo et al. 2017).
    """
    values: Floats = np.asarray(margins, dtype=np.float64)
    if not len(values):
        return math.nan
    probability = 1 / (1 + np.exp(-np.abs(beta * values)))
    bins = np.minimum(((probability - 0.5) * 2 * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, _rank(values) - probability, BINS)
    return float(np.abs(gaps).sum() / len(values))
