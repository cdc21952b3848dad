"""Ratings of policies from single verdicts: Bradley–Terry by maximum likelihood, and online Elo as in older work.

On the Elo scale the baseline stands at 1000, and 400 points are odds of 10 to 1 (Elo, The Rating of Chessplayers,
1978).
"""

import math
import warnings
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sacpo_exp.statistics.comparisons import Comparisons, Tally, count_outcomes, find_unconnected, find_unrated
from sacpo_exp.statistics.intervals import Estimate, Floats

Positions = NDArray[np.int64]

START: Final = 1000.0
SCALE: Final = 400 / math.log(10)  # points per unit of log odds

#: Of online Elo, as in the SACPO paper's repository (line/sacpo, src/evaluate/compute_scores.py).
K_FACTOR: Final = 32.0
INITIAL: Final = 1200.0
TRIALS: Final = 50
PASSES: Final = 10


@dataclass(frozen=True)
class Coefficient:
    """A log odds with its standard errors.

    Attributes:
        plain_error: from the inverse Fisher information, as if all verdicts were independent.
        clustered_error: from the sandwich over prompts; NaN with only one.
    """

    value: float
    plain_error: float
    clustered_error: float


@dataclass(frozen=True)
class Rating:
    """Strength of one policy.

    Attributes:
        elo: with its interval, which online Elo has not; `n` counts prompts, in online Elo verdicts.
        tally: all its verdicts, including those against unrated policies.
        coefficient: of Bradley–Terry: log odds of winning against the baseline, whose own is 0 without error.
        spread: of online Elo: standard deviation between trials, which is no error of the rating.
    """

    policy: str
    elo: Estimate
    tally: Tally
    coefficient: Coefficient = Coefficient(math.nan, math.nan, math.nan)
    spread: float = math.nan


@dataclass(frozen=True)
class Ratings:
    """All ratings of one fit.

    Attributes:
        rated: the strongest first, including the baseline.
        unrated: policy → why it has no number.
        order_effect: log odds with which the response shown first wins among equals; None if not in the fit.
        note: why it is not in the fit although requested, or None.
    """

    baseline: str
    rated: tuple[Rating, ...]
    unrated: dict[str, str]
    order_effect: Coefficient | None = None
    note: str | None = None


def fit_bradley_terry(comparisons: Comparisons, baseline: str, *, has_order_effect: bool, confidence: float) -> Ratings:
    """Fit P(left wins) = sigmoid(β_left − β_right + γ·shown) with β_baseline = 0.

    Bradley & Terry, Biometrika 39, 1952; order effect γ: Agresti, Categorical Data Analysis, 2nd ed., section 10.6. A
    tie counts as half a win of both, which makes the plain errors somewhat too wide. Intervals use errors clustered by
    prompt and Student's t with prompts − 1 degrees of freedom (Cameron & Miller, Journal of Human Resources 50, 2015);
    below about 20 prompts they are too narrow.

    An order effect without a finite estimate is left out, with a note. A judge that always prefers the first answer
    then gives equal ratings.
    """
    unrated = find_unrated(comparisons, baseline)
    is_rated = np.array([policy not in unrated for policy in comparisons.policies])
    kept = comparisons.select(is_rated[comparisons.left] & is_rated[comparisons.right])
    others = [policy for policy in comparisons.policies if policy not in unrated and policy != baseline]
    # The likelihood sees only how often each kind of verdict occurred.
    kinds = (kept.left * len(kept.policies) + kept.right) * 9 + kept.shown * 3 + (2 * kept.outcome).astype(np.int64)
    _, first, row = np.unique(kinds, return_index=True, return_inverse=True)
    distinct = kept.select(first)
    rows, design = np.arange(len(distinct)), np.zeros((len(distinct), len(kept.policies)))
    design[rows, distinct.left], design[rows, distinct.right] = 1, -1
    design = np.column_stack([design[:, [kept.policies.index(policy) for policy in others]], distinct.shown])
    note = _explain_missing_order(design, distinct.outcome) if has_order_effect and others else None
    has_order = has_order_effect and not note
    fitted = _fit_coefficients(design if has_order else design[:, :-1], distinct, row, kept.prompt) if others else []
    order_effect = fitted.pop() if fitted and has_order else None
    coefficients = dict(zip(others, fitted, strict=True)) | {baseline: Coefficient(0.0, 0.0, 0.0)}
    return Ratings(baseline, _rate(comparisons, kept, coefficients, confidence), unrated, order_effect, note)


def _explain_missing_order(design: Floats, outcomes: Floats) -> str | None:
    """Return why the order effect cannot be fitted, or None if it can."""
    if not design[:, -1].any():
        return "no order effect: no verdict says which response was shown first"
    if np.linalg.matrix_rank(design) < design.shape[1]:
        return "no order effect: the policies always meet in the same order, so that it cannot be told from strength"
    if not has_finite_fit(design, outcomes):
        return "no order effect: the verdicts follow the order too closely for a finite one"
    return None


def has_finite_fit(design: Floats, outcomes: Floats) -> bool:
    """Return whether a logistic regression has a unique finite maximum of the likelihood.

    It has none if columns are dependent, or if some direction raises the fitted probability of a success, lowers that
    of no other, and does the opposite for failures (Albert & Anderson, Biometrika 71, 1984), which a linear programme
    looks for.

    Args:
        design: shape (rows, coefficients).
        outcomes: in [0, 1], shape (rows,); a fraction is both a success and a failure.
    """
    from scipy.optimize import linprog

    # Each row has to move towards its outcome; a fraction is held in place by its two signs.
    seen = np.concatenate([design[outcomes > 0], -design[outcomes < 1]])
    if np.linalg.matrix_rank(seen) < design.shape[1]:
        return False
    # The box only bounds the programme: a direction can be scaled.
    solution = linprog(-seen.sum(axis=0), A_ub=-seen, b_ub=np.zeros(len(seen)), bounds=(-1, 1))
    return not -solution.fun > 1e-6 * len(seen)  # the solver lets each row miss its bound by 1e-7


def _fit_coefficients(design: Floats, comparisons: Comparisons, row: Positions, prompt: Positions) -> list[Coefficient]:
    """Fit one coefficient per column, with errors clustered by prompt where there are enough verdicts.

    Args:
        design, comparisons: each kind of verdict once.
        row, prompt: the kind and the cluster of every verdict, shape (verdicts,).
    """
    import statsmodels.api as sm
    from scipy.sparse import csr_array
    from statsmodels.tools.sm_exceptions import PerfectSeparationWarning

    # A finite maximum has been established; with as many coefficients as rows the fit is perfect all the same.
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", PerfectSeparationWarning)
        family, counts = sm.families.Binomial(), np.bincount(row)
        fit = sm.GLM(comparisons.outcome, design, family=family, freq_weights=counts).fit(tol=1e-10, rtol=1e-13)
    n, width, clusters = len(row), design.shape[1], len(np.unique(prompt))
    clustered = [math.nan] * width
    if clusters > 1 and n > width:
        # covariance · Σ (Σ scores)(Σ scores)ᵀ · covariance over prompts, corrected as in Stata and statsmodels.
        scores = (comparisons.outcome - fit.fittedvalues)[:, None] * design
        halves = csr_array((np.ones(n), (prompt, row))) @ scores @ fit.cov_params()
        correction = clusters / (clusters - 1) * (n - 1) / (n - width)
        clustered = np.sqrt(correction * (halves**2).sum(axis=0)).tolist()
    return [Coefficient(*each) for each in zip(fit.params.tolist(), fit.bse.tolist(), clustered, strict=True)]


def _rate(
    comparisons: Comparisons, kept: Comparisons, coefficients: dict[str, Coefficient], confidence: float
) -> tuple[Rating, ...]:
    """Put coefficients on the Elo scale; `kept` are the verdicts that were fitted."""
    from scipy.stats import t

    size, sides = len(comparisons.policies), np.concatenate([kept.left, kept.right])
    multiplier = float(t.ppf((1 + confidence) / 2, max(1, len(np.unique(kept.prompt)) - 1)))
    met = np.unique(np.concatenate([kept.prompt] * 2) * size + sides) % size
    prompts, tallies = np.bincount(met, minlength=size).tolist(), count_outcomes(comparisons)
    rated = []
    for policy, coefficient in coefficients.items():
        index = comparisons.policies.index(policy)
        value, half = START + SCALE * coefficient.value, SCALE * multiplier * coefficient.clustered_error
        elo = Estimate(value, value - half, value + half, prompts[index])
        rated.append(Rating(policy, elo, tallies[index], coefficient))
    return _rank(rated)


def _rank(rated: list[Rating]) -> tuple[Rating, ...]:
    return tuple(sorted(rated, key=lambda rating: (-rating.elo.value, rating.policy)))


def rate_online(comparisons: Comparisons, baseline: str, *, seed: int, passes: int = PASSES) -> Ratings:
    """Return Elo ratings after `passes` shuffled passes through the verdicts, averaged over 50 trials, as in the paper.

    r ← r + K·(outcome − 1/(1 + 10^((r_opponent − r)/400))). In each trial all start at 1200 and are scaled at its end,
    not shifted, so that the baseline stands at 1000. Ratings depend on the order of the verdicts; that of a policy that
    never wins falls with every further verdict.
    """
    unrated = find_unconnected(comparisons, baseline)
    start = comparisons.policies.index(baseline)
    random = np.random.default_rng(seed)
    scaled = np.empty((TRIALS, len(comparisons.policies)))
    for trial in range(TRIALS):
        points = [INITIAL] * len(comparisons.policies)
        for _ in range(passes):
            update_in_turn(comparisons.select(random.permutation(len(comparisons))), points, K_FACTOR)
        scaled[trial] = np.array(points) / points[start] * START
    rated = []
    for policy, tally, elos in zip(comparisons.policies, count_outcomes(comparisons), scaled.T, strict=True):
        if policy not in unrated:
            elo = Estimate(float(elos.mean()), math.nan, math.nan, tally.comparisons)
            rated.append(Rating(policy, elo, tally, spread=float(elos.std())))
    return Ratings(baseline, _rank(rated), unrated)


def update_in_turn(comparisons: Comparisons, points: list[float], k_factor: float) -> None:
    """Update the points of the policies by the verdicts in order."""
    columns = (comparisons.left.tolist(), comparisons.right.tolist(), comparisons.outcome.tolist())
    for left, right, outcome in zip(*columns, strict=True):
        change = k_factor * (outcome - 1 / (1 + 10 ** ((points[right] - points[left]) / 400)))
        points[left] += change
        points[right] -= change
