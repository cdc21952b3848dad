"""Standard errors, bootstrap intervals over prompts, paired p-values, Wilson's interval for yes/no rates. Pure."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sacpo_exp.statistics import Interval

Floats = NDArray[np.float64]
Values = Sequence[float] | Floats
Bounds = tuple[float, float]

RATE: Final[Bounds] = (0.0, 1.0)
DIFFERENCE: Final[Bounds] = (-1.0, 1.0)

#: Numbers drawn at a time (8 MB), so that memory does not grow with the rounds.
CHUNK = 2**20

#: Values that differ by less are equal: verdicts are halves and thirds.
ROUNDING: Final = 1e-12

#: Up to so many differences other than 0 all 2^n signs are tried.
MAX_ENUMERATED = 16


@dataclass(frozen=True)
class Estimate:
    """A value with its interval, in the unit of what was estimated; all NaN where `n`, the number of prompts, is 0."""

    value: float
    low: float
    high: float
    n: int

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside of the interval; never so without an interval."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Resampling:
    """How bootstrap intervals are drawn: number of resamples, confidence in (0, 1), seed, kind of interval."""

    rounds: int
    confidence: float
    seed: int
    method: Interval = Interval.percentile


def standard_error(values: Values) -> float:
    """Of the mean of `values`, shape (prompts,): s/√n with n − 1 degrees of freedom; NaN below two prompts."""
    sample = np.asarray(values, dtype=np.float64)
    return float(sample.std(ddof=1) / math.sqrt(len(sample))) if len(sample) > 1 else math.nan


def bootstrap_mean(values: Values, resampling: Resampling) -> Estimate:
    """Mean of `values`, shape (prompts,), with the percentile or BCa interval of its bootstrap distribution.

    Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13. Its limits: below about 20 prompts it is too
    narrow; where all values are equal it has no width; a single value gives no interval, so `low` and `high` are NaN.
    """
    sample = np.asarray(values, dtype=np.float64)
    n = len(sample)
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    mean = float(sample.mean())
    if n == 1:
        return Estimate(mean, math.nan, math.nan, 1)
    random = np.random.default_rng(resampling.seed)
    resampled = [sample[random.integers(0, n, (size, n))].mean(axis=1) for size in _chunks(resampling.rounds, n)]
    # Leaving x out moves the mean by (x − mean)/(n − 1) downwards; acceleration does not depend on the factor.
    return Estimate(mean, *bootstrap_interval(np.concatenate(resampled), mean, sample - mean, resampling), n)


def bootstrap_rate(values: Values, resampling: Resampling, bounds: Bounds = RATE) -> Estimate:
    """As `bootstrap_mean`, for values within `bounds`; where all are equal, with the interval of `estimate_constant`.

    Two prompts that were both won do not make it certain that the next one is.
    """
    sample = np.asarray(values, dtype=np.float64)
    if len(sample) and np.ptp(sample) < ROUNDING:
        return estimate_constant(float(sample[0]), len(sample), resampling.confidence, bounds)
    return bootstrap_mean(sample, resampling)


def estimate_constant(value: float, n: int, confidence: float, bounds: Bounds) -> Estimate:
    """The mean of values within `bounds` of which `n` were seen, all equal to `value`.

    None of the n was another one, so by Wilson's limit at most a share of u = z²/(n + z²) is, and that share may lie at
    either bound. Of a rate at 0 or 1 that is Wilson's interval; without finite bounds there is none.
    """
    unseen = wilson(0, n, confidence).high
    low, high = (value + unseen * (bound - value) for bound in bounds)
    return Estimate(value, low, high, n) if math.isfinite(high - low) else Estimate(value, math.nan, math.nan, n)


def bootstrap_interval(
    resampled: Floats, value: float, influence: Floats, resampling: Resampling
) -> tuple[float, float]:
    """Percentile or BCa interval of a bootstrap distribution.

    BCa (Efron, Better Bootstrap Confidence Intervals, JASA 82, 1987, with the acceleration of the jackknife) corrects
    the two quantiles for bias and skewness. It is undefined where `influence` is all 0 or no resample lies on one side
    of `value`; then the percentile interval is given.

    Args:
        resampled: the statistic of every resample, shape (rounds,).
        value: the statistic of the sample itself.
        influence: what each observation adds: mean of the leave-one-out statistics minus the one without it, up to
            a common factor, shape (n,).
    """
    tail = (1 - resampling.confidence) / 2
    tails = (tail, 1 - tail)
    if resampling.method is Interval.bca:
        tails = _correct(tails, resampled, value, influence)
    low, high = np.quantile(resampled, tails)
    return float(low), float(high)


def bootstrap_paired_difference(values: Values, reference: Values, resampling: Resampling) -> Estimate:
    """Mean of `values` − `reference`, rates of shape (prompts,) in the same order; whole pairs are drawn.

    Pairing takes out what the two have in common, that some prompts are easier than others.

    Raises:
        ValueError: the two differ in length.
    """
    if len(values) != len(reference):
        raise ValueError(f"paired values must have the same length, but have {len(values)} and {len(reference)}")
    differences = np.asarray(values, np.float64) - np.asarray(reference, np.float64)
    return bootstrap_rate(differences, resampling, DIFFERENCE)


def paired_p_value(differences: Values, seed: int, rounds: int) -> float:
    """Two-sided p-value for a mean difference of 0, differences of shape (prompts,), by turning their signs.

    Under the hypothesis each difference is as likely with the other sign. With up to 16 differences other than 0 all
    signs are tried; beyond, `rounds` random ones, and p = (b + 1)/(rounds + 1), which is never 0 (Phipson & Smyth,
    Permutation P-values Should Never Be Zero, SAGMB 9, 2010). 1 if all differences are 0, NaN if there are none.
    """
    sample = np.asarray(differences, dtype=np.float64)
    if len(sample) == 0:
        return math.nan
    moving = sample[sample != 0]
    threshold = abs(moving.sum()) - 1e-9 * np.abs(moving).sum()  # sums that differ by rounding only are equal
    if len(moving) <= MAX_ENUMERATED:
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=len(moving))))
        return float(np.mean(np.abs(signs @ moving) >= threshold))
    random = np.random.default_rng(seed)
    beyond = 0
    for size in _chunks(rounds, len(moving)):
        signs = random.integers(0, 2, (size, len(moving)), dtype=np.int8) * 2.0 - 1.0
        beyond += int(np.count_nonzero(np.abs(signs @ moving) >= threshold))
    return (beyond + 1) / (rounds + 1)


def wilson(successes: float, n: int, confidence: float) -> Estimate:
    """Share of `successes` among `n` with its score interval; it keeps a width at 0 and 1, and lies within them.

    Wilson, Probable Inference, the Law of Succession, and Statistical Inference, JASA 22, 1927. For values in [0, 1] of
    which some lie between, as ties do, it is wider than need be: none has a greater variance than yes and no.
    """
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    # At the ends the limit is exact, and must not miss it by rounding.
    low = centre - half if successes > 0 else 0.0
    high = centre + half if successes < n else 1.0
    return Estimate(share, low, high, n)


def subtract_shares(share: Estimate, other: Estimate) -> Estimate:
    """`share` − `other`, of different prompts, with Newcombe's interval from those of the two; n is the smaller one.

    Newcombe, Interval Estimation for the Difference Between Independent Proportions, Statistics in Medicine 17, 1998,
    method 10, for Wilson's intervals. With other intervals it is Zou & Donner's, Statistics in Medicine 27, 2008.
    """
    value = share.value - other.value
    low = value - math.hypot(share.value - share.low, other.high - other.value)
    high = value + math.hypot(share.high - share.value, other.value - other.low)
    return Estimate(value, low, high, min(share.n, other.n))


def _chunks(rounds: int, n: int) -> Iterator[int]:
    """Sizes that add up to `rounds`, each of at most CHUNK numbers; the stream of random numbers is the same."""
    step = max(1, CHUNK // n)
    return (min(step, rounds - start) for start in range(0, rounds, step))


def _correct(tails: tuple[float, float], resampled: Floats, value: float, influence: Floats) -> tuple[float, float]:
    """The two quantiles of the BCa interval (Efron 1987, equation 3.9), or `tails` where it is undefined."""
    normal = NormalDist()
    # Resamples equal to the value count half, or verdicts of few values would seem biased.
    below = float(np.mean(resampled < value) + np.mean(resampled == value) / 2)
    spread = float(np.sum(influence**2))
    if spread == 0 or not 0 < below < 1:
        return tails
    bias = normal.inv_cdf(below)
    acceleration = float(np.sum(influence**3)) / (6 * spread**1.5)
    shifted = [bias + normal.inv_cdf(tail) for tail in tails]
    if any(acceleration * shift >= 1 for shift in shifted):
        return tails
    low, high = (normal.cdf(bias + shift / (1 - acceleration * shift)) for shift in shifted)
    return low, high
