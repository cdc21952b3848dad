"""Intervals: the percentile bootstrap over prompts for means, Wilson's interval for yes/no rates. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Values = Sequence[float] | NDArray[np.float64]


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
    """How bootstrap intervals are drawn: number of resamples, confidence in (0, 1), seed."""

    rounds: int
    confidence: float
    seed: int


def bootstrap_mean(values: Values, resampling: Resampling) -> Estimate:
    """Mean of `values`, shape (prompts,), with the percentile interval of its bootstrap distribution.

    Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13. Its limits: below about 20 prompts it is too
    narrow; where all values are equal it has no width; a single value gives no interval, so `low` and `high` are NaN.
    """
    sample = np.asarray(values, dtype=np.float64)
    n = len(sample)
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    if n == 1:
        return Estimate(float(sample[0]), math.nan, math.nan, 1)
    draws = np.random.default_rng(resampling.seed).integers(0, n, (resampling.rounds, n))
    tail = (1 - resampling.confidence) / 2
    low, high = np.quantile(sample[draws].mean(axis=1), (tail, 1 - tail))
    return Estimate(float(sample.mean()), float(low), float(high), n)


def bootstrap_paired_difference(values: Values, reference: Values, resampling: Resampling) -> Estimate:
    """Mean of `values` − `reference`, both of shape (prompts,) and in the same order; whole pairs are drawn.

    Pairing takes out what the two have in common, that some prompts are easier than others.

    Raises:
        ValueError: the two differ in length.
    """
    if len(values) != len(reference):
        raise ValueError(f"paired values must have the same length, but have {len(values)} and {len(reference)}")
    return bootstrap_mean(np.asarray(values, np.float64) - np.asarray(reference, np.float64), resampling)


def wilson(successes: int, n: int, confidence: float) -> Estimate:
    """Share of `successes` among `n` with its score interval; it keeps a width at 0 and 1, and lies within them.

    Wilson, Probable Inference, the Law of Succession, and Statistical Inference, JASA 22, 1927.
    """
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return Estimate(share, max(0.0, centre - half), min(1.0, centre + half), n)
