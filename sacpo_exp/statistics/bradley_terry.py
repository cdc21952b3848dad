"""Bradley–Terry ratings by maximum likelihood, with an order effect and errors clustered by prompt. Pure.

P(left wins) = sigmoid(β_left − β_right + γ·shown), β_baseline = 0 (Bradley & Terry, Rank Analysis of Incomplete Block
Designs I, Biometrika 39, 1952; with an order effect: Agresti, Categorical Data Analysis, 2nd ed., section 10.6). A tie
counts as half a win of both, which leaves the plain errors somewhat too wide.
"""

from dataclasses import replace
from statistics import NormalDist
from typing import Final

import numpy as np

from sacpo_exp.statistics.comparisons import Comparisons, count_outcomes
from sacpo_exp.statistics.connectivity import find_unrated
from sacpo_exp.statistics.intervals import Estimate
from sacpo_exp.statistics.pair_regression import explain_missing_order, fit_coefficients, gather_design
from sacpo_exp.statistics.ratings import SCALE, START, Coefficient, Rating, Ratings

BASELINE: Final = Coefficient(0.0, 0.0, 0.0)


def fit_bradley_terry(comparisons: Comparisons, baseline: str, *, has_order_effect: bool, confidence: float) -> Ratings:
    """Strengths of all policies that can be rated beside `baseline`; see `find_unrated` for the others.

    The intervals rest on the errors clustered by prompt with Student's t of prompts − 1 degrees of freedom (Cameron &
    Miller, A Practitioner's Guide to Cluster-Robust Inference, Journal of Human Resources 50, 2015), or on the plain
    ones and the normal distribution where there are no prompts. Below about 20 prompts they are too narrow; with one
    prompt there are none.

    Where the order effect has no finite estimate the fit leaves it out and says so. A judge that always prefers the
    first answer then gives equal ratings, and, with both orders of every prompt, intervals of no width: turned around
    it would have said the same.

    Raises:
        ValueError: the baseline is none of the policies.
    """
    unrated = find_unrated(comparisons, baseline)
    is_rated = np.array([policy not in unrated for policy in comparisons.policies])
    kept = comparisons.select(is_rated[comparisons.left] & is_rated[comparisons.right])
    others = [policy for policy in comparisons.policies if policy not in unrated and policy != baseline]
    design = gather_design(kept, others)
    note = explain_missing_order(design) if has_order_effect and others else None
    if note or not has_order_effect:
        design = replace(design, has_order=False, matrix=design.matrix[:, :-1])
    fitted = fit_coefficients(design, kept) if others else []
    order_effect = fitted.pop() if fitted and design.has_order else None
    coefficients = dict(zip(others, fitted, strict=True)) | {baseline: BASELINE}
    rated = _rate(comparisons, kept, coefficients, confidence)
    return Ratings(baseline, rated, unrated, order_effect, note)


def _rate(
    comparisons: Comparisons, kept: Comparisons, coefficients: dict[str, Coefficient], confidence: float
) -> tuple[Rating, ...]:
    """Coefficients on the Elo scale, shifted, never scaled otherwise; `kept` are the verdicts that were fitted."""
    tallies, units = count_outcomes(comparisons), _count_units(kept)
    multiplier = _multiplier(kept, confidence)
    rated = []
    for policy, coefficient in coefficients.items():
        index = comparisons.policies.index(policy)
        error = coefficient.plain_error if kept.prompt is None else coefficient.clustered_error
        value, half = START + SCALE * coefficient.value, SCALE * multiplier * error
        elo = Estimate(value, value - half, value + half, units[index])
        rated.append(Rating(policy, coefficient, elo, tallies[index]))
    return tuple(sorted(rated, key=lambda rating: (-rating.elo.value, rating.policy)))


def _multiplier(comparisons: Comparisons, confidence: float) -> float:
    """Errors per half width of the interval."""
    if comparisons.prompt is None:
        return NormalDist().inv_cdf((1 + confidence) / 2)
    from scipy.stats import t

    return float(t.ppf((1 + confidence) / 2, max(1, len(np.unique(comparisons.prompt)) - 1)))


def _count_units(comparisons: Comparisons) -> list[int]:
    """Prompts, or verdicts where there are none, of each policy."""
    size = len(comparisons.policies)
    sides = np.concatenate([comparisons.left, comparisons.right])
    if comparisons.prompt is not None:
        sides = np.unique(np.concatenate([comparisons.prompt] * 2) * size + sides) % size
    counts: list[int] = np.bincount(sides, minlength=size).tolist()
    return counts
