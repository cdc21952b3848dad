"""Estimates with intervals: bootstrap over prompts, Wilson's interval for yes/no rates, paired p-values."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sacpo_exp.statistics import Interval

Floats = NDArray[np.float64]
Values = Sequence[float] | Floats
Bounds = tuple[float, float]

RATE: Final[Bounds] = (0.0, 1.0)
DIFFERENCE: Final[Bounds] = (-1.0, 1.0)

CHUNK: Final = 2**20  # numbers that are drawn at a time (8 MB)
ROUNDING: Final = 1e-12  # values that differ by less are equal: verdicts are halves and thirds


@dataclass(frozen=True)
class Estimate:
    """A value with its interval, in the unit of what was estimated; all NaN where `n`, the number of prompts, is 0."""

    value: float
    low: float
    high: float
    n: int

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside the interval; False without an interval."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Resampling:
    """Settings of the bootstrap: number of resamples, confidence in (0, 1), seed, kind of interval."""

    rounds: int
    confidence: float
    seed: int
    method: Interval = Interval.percentile


def standard_error(values: Values) -> float:
    """Return the standard error of the mean, s/√n; NaN below two prompts."""
    sample = np.asarray(values, dtype=np.float64)
    return float(sample.std(ddof=1) / math.sqrt(len(sample))) if len(sample) > 1 else math.nan


def is_constant(sample: Floats) -> bool:
    """Return whether there are values and all are equal."""
    return bool(len(sample) and np.ptp(sample) < ROUNDING)


def bootstrap_statistic(
    samples: Sequence[NDArray[Any]], statistic: Callable[..., Any], resampling: Resampling, method: str = "percentile"
) -> Estimate:
    """Estimate a function of samples of shape (prompts,), which are drawn together, by `scipy.stats.bootstrap`.

    `statistic` takes the samples and an `axis`. A single prompt has no interval.
    """
    from scipy.stats import bootstrap

    n = len(samples[0])
    value = float(statistic(*samples, axis=0)) if n else math.nan
    if n < 2:
        return Estimate(value, math.nan, math.nan, n)
    interval = bootstrap(
        samples,
        statistic,
        paired=len(samples) > 1,
        n_resamples=resampling.rounds,
        batch=max(1, CHUNK // n),
        confidence_level=resampling.confidence,
        method=method,
        rng=resampling.seed,
    ).confidence_interval
    return Estimate(value, float(interval.low), float(interval.high), n)


def bootstrap_mean(values: Values, resampling: Resampling) -> Estimate:
    """Estimate the mean of `values`, shape (prompts,), with a percentile or BCa interval.

    Below about 20 prompts the interval is too narrow; where all values are equal it has no width.
    """
    sample = np.asarray(values, dtype=np.float64)
    is_bca = resampling.method is Interval.bca and not is_constant(sample)  # undefined for equal values
    return bootstrap_statistic((sample,), np.mean, resampling, "BCa" if is_bca else "percentile")


def bootstrap_rate(values: Values, resampling: Resampling, bounds: Bounds = RATE) -> Estimate:
    """As `bootstrap_mean`, for values within `bounds`; equal values get the interval of `estimate_constant`.

    Winning both of two prompts does not make winning the next one certain.
    """
    sample = np.asarray(values, dtype=np.float64)
    if is_constant(sample):
        return estimate_constant(float(sample[0]), len(sample), resampling.confidence, bounds)
    return bootstrap_mean(sample, resampling)


def estimate_constant(value: float, n: int, confidence: float, bounds: Bounds) -> Estimate:
    """Estimate the mean of `n` values that all equal `value`, from a population within `bounds`.

    By Wilson's limit at most a share u = z²/(n + z²) of the population differs from `value`, and may lie at either
    bound. For a rate of 0 or 1 this is Wilson's interval; without finite bounds there is no interval.
    """
    unseen = wilson(0, n, confidence).high
    low, high = (value + unseen * (bound - value) for bound in bounds)
    return Estimate(value, low, high, n) if math.isfinite(high - low) else Estimate(value, math.nan, math.nan, n)


def paired_p_value(differences: Values, seed: int, rounds: int) -> float:
    """Return the two-sided p-value for a mean difference of 0, by flipping signs (`scipy.stats.permutation_test`).

    All signs are tried if there are no more than `rounds` combinations; otherwise p = (b + 1)/(rounds + 1) of random
    ones. 1 if all differences are 0, NaN if there are none.
    """
    from scipy.stats import permutation_test

    sample = np.asarray(differences, dtype=np.float64)
    moving = sample[sample != 0]  # zeros change no sum
    if len(moving) < 2:
        return 1.0 if len(sample) else math.nan
    result = permutation_test(
        (moving,),
        lambda values, axis: np.abs(values.sum(axis=axis)).round(9),  # equal sums may differ by rounding
        permutation_type="samples",
        alternative="greater",
        n_resamples=rounds,
        batch=max(1, CHUNK // len(moving)),
        vectorized=True,
        rng=seed,
    )
    return float(result.pvalue)


def adjust_by_holm(p_values: Sequence[Any]) -> list[float]:
    """Return p-values for m comparisons: the smallest times m, the next times m − 1, …, never falling (Holm 1979)."""
    from statsmodels.stats.multitest import multipletests

    return [float(value) for value in multipletests(p_values, method="holm")[1]] if p_values else []


def wilson(successes: float, n: int, confidence: float) -> Estimate:
    """Estimate the share of `successes` among `n` with Wilson's score interval, which keeps a width at 0 and 1.

    Ties may count as half successes; the interval is then wider than it has to be.
    """
    from statsmodels.stats.proportion import proportion_confint

    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    low, high = proportion_confint(successes, n, alpha=1 - confidence, method="wilson")
    # The library misses 0 and 1 by rounding.
    return Estimate(successes / n, float(low) if successes > 0 else 0.0, float(high) if successes < n else 1.0, n)


def subtract_shares(share: Estimate, other: Estimate) -> Estimate:
    """Estimate `share` − `other`, measured on different prompts, from their intervals; `n` is the smaller one.

    Newcombe, Interval Estimation for the Difference Between Independent Proportions, Statistics in Medicine 17, 1998,
    method 10, for Wilson's intervals; with other intervals that of Zou & Donner, Statistics in Medicine 27, 2008.
    """
    value = share.value - other.value
    low = value - math.hypot(share.value - share.low, other.high - other.value)
    high = value + math.hypot(share.high - share.value, other.value - other.low)
    return Estimate(value, low, high, min(share.n, other.n))
