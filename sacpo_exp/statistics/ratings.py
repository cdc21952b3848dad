"""Ratings of policies from single verdicts: Bradley–Terry by maximum likelihood, and online Elo as in older work.

On the Elo scale the baseline stands at 1000, and 400 points are odds of 10 to 1 (Elo, The Rating of Chessplayers,
1978).
"""

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sacpo_exp.statistics.comparisons import Tally, count_outcomes, find_unconnected, find_unrated
from sacpo_exp.statistics.intervals import Estimate, Floats

if TYPE_CHECKING:
    import pandas as pd

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
    """

    baseline: str
    rated: tuple[Rating, ...]
    unrated: dict[str, str]


def fit_bradley_terry(verdicts: "pd.DataFrame", baseline: str, *, confidence: float) -> Ratings:
    """Fit P(left wins) = sigmoid(β_left − β_right) with β_baseline = 0.

    Bradley & Terry, Biometrika 39, 1952. A tie counts as half a win of both, which makes the plain errors somewhat too
    wide. Intervals use errors clustered by prompt and Student's t with prompts − 1 degrees of freedom (Cameron &
    Miller, Journal of Human Resources 50, 2015); below about 20 prompts they are too narrow. The order in which
    responses are shown is not in the fit, since judges that see two are asked in both orders; one that always prefers
    the first gives equal ratings.

    Raises:
        ValueError: the baseline is none of the policies.
    """
    unrated = find_unrated(verdicts, baseline)
    kept = verdicts[~(verdicts["left"].isin(unrated.keys()) | verdicts["right"].isin(unrated.keys()))]
    others = [policy for policy in count_outcomes(kept) if policy != baseline]
    left, right = (kept[side].to_numpy(object) for side in ("left", "right"))
    columns = [(left == policy).astype(float) - (right == policy) for policy in others]
    fitted = _fit_coefficients(np.column_stack(columns), kept) if others else []
    coefficients = dict(zip(others, fitted, strict=True)) | {baseline: Coefficient(0.0, 0.0, 0.0)}
    return Ratings(baseline, _rate(verdicts, kept, coefficients, confidence), unrated)


def _fit_coefficients(design: Floats, verdicts: "pd.DataFrame") -> list[Coefficient]:
    """Fit one coefficient per column, with errors clustered by prompt where there are enough verdicts."""
    import statsmodels.api as sm
    from statsmodels.tools.sm_exceptions import PerfectSeparationWarning

    model = sm.GLM(verdicts["outcome"].to_numpy(), design, family=sm.families.Binomial())
    precision: dict[str, Any] = {"tol": 1e-10, "rtol": 1e-13}
    # A finite maximum has been established; with as many coefficients as rows the fit is perfect all the same.
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", PerfectSeparationWarning)
        fit = model.fit(**precision)
        clustered = [math.nan] * design.shape[1]
        prompts = np.unique(verdicts["prompt"].tolist(), return_inverse=True)[1]
        if prompts.max() > 0 and len(design) > design.shape[1]:
            groups = {"groups": prompts}
            clustered = model.fit(**precision, cov_type="cluster", cov_kwds=groups).bse.tolist()
    return [Coefficient(*each) for each in zip(fit.params.tolist(), fit.bse.tolist(), clustered, strict=True)]


def _rate(
    verdicts: "pd.DataFrame", kept: "pd.DataFrame", coefficients: dict[str, Coefficient], confidence: float
) -> tuple[Rating, ...]:
    """Put coefficients on the Elo scale; `kept` are the verdicts that were fitted."""
    from scipy.stats import t

    multiplier = float(t.ppf((1 + confidence) / 2, max(1, kept["prompt"].nunique() - 1)))
    left, right, prompt = (kept[name].to_numpy(object) for name in ("left", "right", "prompt"))
    tallies, rated = count_outcomes(verdicts), []
    for policy, coefficient in coefficients.items():
        value, half = START + SCALE * coefficient.value, SCALE * multiplier * coefficient.clustered_error
        prompts = len(set(prompt[(left == policy) | (right == policy)]))
        elo = Estimate(value, value - half, value + half, prompts)
        rated.append(Rating(policy, elo, tallies[policy], coefficient))
    return _rank(rated)


def _rank(rated: list[Rating]) -> tuple[Rating, ...]:
    return tuple(sorted(rated, key=lambda rating: (-rating.elo.value, rating.policy)))


def rate_online(verdicts: "pd.DataFrame", baseline: str, *, seed: int, passes: int = PASSES) -> Ratings:
    """Return Elo ratings after `passes` shuffled passes through the verdicts, averaged over 50 trials, as in the paper.

    r ← r + K·(outcome − 1/(1 + 10^((r_opponent − r)/400))). In each trial all start at 1200 and are scaled at its end,
    not shifted, so that the baseline stands at 1000. Ratings depend on the order of the verdicts; that of a policy that
    never wins falls with every further verdict.

    Raises:
        ValueError: the baseline is none of the policies.
    """
    unrated = find_unconnected(verdicts, baseline)
    random, tallies = np.random.default_rng(seed), count_outcomes(verdicts)
    rows = list(zip(*(verdicts[name].tolist() for name in ("left", "right", "outcome")), strict=True))
    scaled: dict[str, list[float]] = {policy: [] for policy in tallies}
    for _ in range(TRIALS):
        points = dict.fromkeys(tallies, INITIAL)
        for _ in range(passes):
            update_in_turn([rows[place] for place in random.permutation(len(rows)).tolist()], points, K_FACTOR)
        for policy, value in points.items():
            scaled[policy].append(value / points[baseline] * START)
    rated = []
    for policy, tally in tallies.items():
        if policy not in unrated:
            n = tally.wins + tally.ties + tally.losses
            elo = Estimate(float(np.mean(scaled[policy])), math.nan, math.nan, n)
            rated.append(Rating(policy, elo, tally, spread=float(np.std(scaled[policy]))))
    return Ratings(baseline, _rank(rated), unrated)


def update_in_turn(rows: Iterable[tuple[str, str, float]], points: dict[str, float], k_factor: float) -> None:
    """Update the points of the policies by the verdicts (left, right, outcome) in order."""
    for left, right, outcome in rows:
        change = k_factor * (outcome - 1 / (1 + 10 ** ((points[right] - points[left]) / 400)))
        points[left] += change
        points[right] -= change
