"""Logistic regression of single verdicts on who met whom, the model under Bradley–Terry ratings. Pure."""

import math
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sacpo_exp.statistics.comparisons import Comparisons
from sacpo_exp.statistics.intervals import Floats
from sacpo_exp.statistics.ratings import Coefficient
from sacpo_exp.statistics.separation import has_finite_fit, is_identified


@dataclass(frozen=True, eq=False)
class Design:
    """Verdicts gathered by pair and order shown, which is all that the likelihood sees.

    Attributes:
        columns: position of each policy in the coefficients, −1 for the baseline, which has none.
        has_order: whether the last coefficient is the order effect.
        matrix: shape (rows, coefficients).
        wins, losses: of the left policy, ties half, shape (rows,).
    """

    columns: NDArray[np.int64]
    has_order: bool
    matrix: Floats
    wins: Floats
    losses: Floats


def gather_design(comparisons: Comparisons, others: list[str]) -> Design:
    """The design with an order effect."""
    size = len(comparisons.policies)
    columns = np.full(size, -1)
    columns[[comparisons.policies.index(policy) for policy in others]] = np.arange(len(others))
    keys = (comparisons.left * size + comparisons.right) * 3 + comparisons.shown + 1
    _, first, row = np.unique(keys, return_index=True, return_inverse=True)
    rows, matrix = np.arange(len(first)), np.zeros((len(first), len(others) + 2))
    matrix[rows, columns[comparisons.left[first]]] = 1
    matrix[rows, columns[comparisons.right[first]]] = -1  # the baseline's entries fall into the last column
    matrix[:, -2] = comparisons.shown[first]
    wins, losses = (
        np.bincount(row, weights, minlength=len(first)).astype(np.float64)
        for weights in (comparisons.outcome, 1 - comparisons.outcome)
    )
    return Design(columns, True, matrix[:, :-1], wins, losses)


def explain_missing_order(design: Design) -> str | None:
    """Why the order effect cannot be fitted, or None if it can."""
    if not design.matrix[:, -1].any():
        return "no order effect: no verdict says which response was shown first"
    if not is_identified(design.matrix):
        return "no order effect: the policies always meet in the same order, so that it cannot be told from strength"
    if not has_finite_fit(design.matrix, design.wins, design.losses):
        return "no order effect: the verdicts follow the order too closely for a finite one"
    return None


def fit_coefficients(design: Design, comparisons: Comparisons) -> list[Coefficient]:
    """One coefficient per column of the design."""
    import statsmodels.api as sm
    from statsmodels.tools.sm_exceptions import PerfectSeparationWarning

    counts = np.column_stack([design.wins, design.losses])
    # That the maximum is finite has been settled; with as many coefficients as rows the fit is perfect all the same.
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", PerfectSeparationWarning)
        fit = sm.GLM(counts, design.matrix, family=sm.families.Binomial()).fit(tol=1e-10, rtol=1e-13)
    clustered = _cluster_errors(design, comparisons, fit.params, fit.cov_params())
    columns = zip(fit.params, fit.bse, clustered, strict=True)
    return [Coefficient(float(value), float(plain), float(error)) for value, plain, error in columns]


def _cluster_errors(design: Design, comparisons: Comparisons, params: Floats, covariance: Floats) -> Floats:
    """Errors from the sandwich over prompts, shape (coefficients,), NaN where it is undefined.

    covariance · Σ_prompts (Σ scores)(Σ scores)ᵀ · covariance · G/(G − 1) · (N − 1)/(N − k), as Stata and statsmodels
    correct it for G prompts, N verdicts and k coefficients.
    """
    n, width = len(comparisons), len(params)
    prompts = np.empty(0) if comparisons.prompt is None else np.unique(comparisons.prompt)
    if comparisons.prompt is None or len(prompts) < 2 or n <= width:
        return np.full(width, math.nan)
    prompt = np.searchsorted(prompts, comparisons.prompt)
    left, right = design.columns[comparisons.left], design.columns[comparisons.right]
    strengths = np.append(params, 0.0)  # the baseline's, at −1
    order = params[-1] * comparisons.shown if design.has_order else 0.0
    residuals = comparisons.outcome - 1 / (1 + np.exp(strengths[right] - strengths[left] - order))
    scores = np.zeros((len(prompts), width + 1))
    np.add.at(scores, (prompt, left), residuals)
    np.add.at(scores, (prompt, right), -residuals)
    if design.has_order:
        scores[:, width - 1] = np.bincount(prompt, residuals * comparisons.shown)
    halves = scores[:, :width] @ covariance
    correction = len(prompts) / (len(prompts) - 1) * (n - 1) / (n - width)
    errors: Floats = np.sqrt(correction * (halves**2).sum(axis=0))
    return errors
