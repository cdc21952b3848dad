"""What length has to do with winning: win rate by length difference, and the win rate at equal length. Pure."""

import math
import warnings
from statistics import NormalDist
from typing import Final

import numpy as np

from sacpo_exp.statistics.intervals import Estimate, Floats, Resampling, Values, bootstrap_rate
from sacpo_exp.statistics.separation import has_finite_fit

#: Lengths that differ by no more than this factor are similar.
SIMILAR: Final = 1.1


def estimate_by_length(
    outcomes: Values, lengths: Values, opponent_lengths: Values, resampling: Resampling
) -> dict[str, Estimate]:
    """Win rate where the policy's response is `shorter` than its opponent's, `similar` (±10 %) or `longer`.

    Args:
        outcomes: one verdict in [0, 1] per prompt, orders and repeats averaged.
        lengths, opponent_lengths: of the two responses, in one unit (characters or tokens), each of shape (prompts,).
    """
    won, own, other = (np.asarray(column, np.float64) for column in (outcomes, lengths, opponent_lengths))
    shorter, longer = own * SIMILAR < other, own > other * SIMILAR
    groups = {"shorter": shorter, "similar": ~(shorter | longer), "longer": longer}
    return {name: bootstrap_rate(won[members], resampling) for name, members in groups.items()}


def adjust_for_length(outcomes: Values, lengths: Values, opponent_lengths: Values, confidence: float) -> Estimate:
    """Win rate that a logistic regression predicts for responses of equal length, in [0, 1].

    logit P(win) = a + b·tanh(d/std(d)) with d the difference of lengths; the rate is sigmoid(a). It is the length term
    of length-controlled AlpacaEval (Dubois et al., arXiv 2404.04475, section 3) without its regularisation and its
    difficulty of prompts, so its numbers are not those. Errors are robust (HC1), since a prompt's verdict may be a
    fraction; the interval is that of a, transformed, so it lies within [0, 1].

    Value and interval are NaN where the maximum of the likelihood is not finite: no wins or no losses, all wins longer
    than all losses, one and the same difference on all prompts, fewer than three prompts. Where no response is as long
    as its opponent's the rate is extrapolated, which its width shows. Arguments as of `estimate_by_length`.
    """
    from scipy.special import expit

    won, own, other = (np.asarray(column, np.float64) for column in (outcomes, lengths, opponent_lengths))
    design = _length_design(own - other)
    if len(won) <= design.shape[1] or not has_finite_fit(design, won, 1 - won):
        return Estimate(math.nan, math.nan, math.nan, len(won))
    intercept, error = _fit_intercept(design, won)
    half = NormalDist().inv_cdf((1 + confidence) / 2) * error
    value, low, high = (float(expit(logit)) for logit in (intercept, intercept - half, intercept + half))
    return Estimate(value, low, high, len(won))


def _length_design(differences: Floats) -> Floats:
    """Columns of the regression, shape (prompts, 2), or (prompts, 1) where all lengths are equal."""
    constant = np.ones_like(differences)
    if not differences.any():
        return constant[:, None]
    spread = differences.std() or 1.0  # a constant difference then shows as a dependent column
    return np.column_stack([constant, np.tanh(differences / spread)])


def _fit_intercept(design: Floats, outcomes: Floats) -> tuple[float, float]:
    """The log odds at equal length and their robust error."""
    import statsmodels.api as sm
    from statsmodels.tools.sm_exceptions import PerfectSeparationWarning

    with warnings.catch_warnings():
        # Verdicts that are all alike and fractional are predicted perfectly, and separate nothing.
        warnings.simplefilter("ignore", PerfectSeparationWarning)
        fit = sm.GLM(outcomes, design, family=sm.families.Binomial()).fit(cov_type="HC1")
    return float(fit.params[0]), float(fit.bse[0])
