"""Win rates at equal length of the responses."""

import math
import warnings

import numpy as np

from sacpo_exp.statistics.intervals import Estimate, Values


def adjust_for_length(outcomes: Values, lengths: Values, opponent_lengths: Values, confidence: float) -> Estimate:
    """Estimate the win rate for responses of equal length by logistic regression.

    logit P(win) = a + b·tanh(d/std(d)) with d the difference of lengths; the rate is sigmoid(a). This is the length
    term of length-controlled AlpacaEval (Dubois et al., arXiv 2404.04475, section 3) without its regularisation and its
    difficulty of prompts, so the numbers differ. Errors are robust (HC1), since a verdict may be a fraction; the
    interval is that of a, transformed. All NaN where the likelihood has no finite maximum, where the
    difference hardly varies, or below three prompts.

    Args:
        outcomes: one verdict in [0, 1] per prompt, orders and repeats averaged.
        lengths, opponent_lengths: of the two responses, in one unit (characters or tokens), each of shape (prompts,).
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
    wins, losses = design[won > 0, -1], design[won < 1, -1]
    # Without both, or where a length separates them, the likelihood has no maximum.
    is_mixed = len(wins) and len(losses)
    if is_mixed and differences.any():
        is_mixed = wins.min() < losses.max() and losses.min() < wins.max()
    # Nearly constant differences saturate tanh: the columns then differ too little for a fit in float64.
    if len(won) <= design.shape[1] or np.linalg.cond(design) > 1e6 or not is_mixed:
        return Estimate(math.nan, math.nan, math.nan, len(won))
    with warnings.catch_warnings():
        # Equal fractional verdicts are predicted perfectly without being separated.
        warnings.simplefilter("ignore", PerfectSeparationWarning)
        fit = sm.GLM(won, design, family=sm.families.Binomial()).fit(cov_type="HC1")
    half = norm.ppf((1 + confidence) / 2) * fit.bse[0]
    value, low, high = (float(expit(fit.params[0] + shift)) for shift in (0.0, -half, half))
    return Estimate(value, low, high, len(won))
