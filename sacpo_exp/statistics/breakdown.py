"""Win rates by length of the response, and at equal length."""

import math
import warnings
from typing import Final

import numpy as np

from sacpo_exp.statistics.intervals import Estimate, Resampling, Values, bootstrap_rate
from sacpo_exp.statistics.ratings import has_finite_fit

SIMILAR: Final = 1.1  # lengths that differ by no more than this factor are similar


def estimate_by_length(
    outcomes: Values, lengths: Values, opponent_lengths: Values, resampling: Resampling
) -> dict[str, Estimate]:
    """Estimate the win rate where the response is `shorter` than its opponent's, `similar` (±10 %) or `longer`.

    Args:
        outcomes: one verdict in [0, 1] per prompt, orders and repeats averaged.
        lengths, opponent_lengths: of the two responses, in one unit (characters or tokens), each of shape (prompts,).
    """
    won, own, other = (np.asarray(column, np.float64) for column in (outcomes, lengths, opponent_lengths))
    shorter, longer = own * SIMILAR < other, own > other * SIMILAR
    groups = {"shorter": shorter, "similar": ~(shorter | longer), "longer": longer}
    return {name: bootstrap_rate(won[members], resampling) for name, members in groups.items()}


def adjust_for_length(outcomes: Values, lengths: Values, opponent_lengths: Values, confidence: float) -> Estimate:
    """Estimate the win rate for responses of equal length by logistic regression; arguments as `estimate_by_length`.

    logit P(win) = a + b·tanh(d/std(d)) with d the difference of lengths; the rate is sigmoid(a). This is the length
    term of length-controlled AlpacaEval (Dubois et al., arXiv 2404.04475, section 3) without its regularisation and its
    difficulty of prompts, so the numbers differ. Errors are robust (HC1), since a verdict may be a fraction; the
    interval is that of a, transformed. All NaN where the likelihood has no finite maximum, where the
    difference hardly varies, or below three prompts.
    """
    import statsmodels.api as sm
    from scipy.special import expit
    from scipy.stats import norm
    from statsmodels.tools.sm_exceptions import PerfectSeparationWarning

    won, own, other = (np.asarray(column, np.float64) for column in (outcomes, lengths, opponent_lengths))
    differences = own - other
    design = np.ones((len(won), 1))
    if differences.any():
        spread = differences.std() or 1.0  # a constant difference then shows as a dependent column
        design = np.column_stack([design, np.tanh(differences / spread)])
    # Nearly constant differences saturate tanh: the columns then differ too little for a fit in float64.
    if len(won) <= design.shape[1] or np.linalg.cond(design) > 1e6 or not has_finite_fit(design, won):
        return Estimate(math.nan, math.nan, math.nan, len(won))
    with warnings.catch_warnings():
        # Equal fractional verdicts are predicted perfectly without being separated.
        warnings.simplefilter("ignore", PerfectSeparationWarning)
        fit = sm.GLM(won, design, family=sm.families.Binomial()).fit(cov_type="HC1")
    half = norm.ppf((1 + confidence) / 2) * fit.bse[0]
    value, low, high = (float(expit(fit.params[0] + shift)) for shift in (0.0, -half, half))
    return Estimate(value, low, high, len(won))
