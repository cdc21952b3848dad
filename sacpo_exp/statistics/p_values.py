"""Valid p-values for "on average at most `threshold`", from one value per prompt in [0, 1], 1 being safe. Pure.

A p-value p(X) is valid if P(p ≤ level) ≤ level whenever the mean over the population of prompts is at most `threshold`.
Prompts are taken to be independent draws; whatever was judged several times for one prompt is averaged before.
"""

from enum import Enum
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Shares of ties that are tried, from none to all that a threshold allows; denser near none, where the maximum lies.
TIES_TRIED = 128
#: A bet never risks more than this share of the capital (c in Waudby-Smith & Ramdas 2024, who take 1/2 or 3/4).
MOST_AT_RISK = 0.75


class Outcome(Enum):
    """What values a prompt can have. It follows from how is judged, never from the values seen."""

    yes_no = "yes_no"  # 0 or 1
    tie_or_not = "tie_or_not"  # 0, 1/2 or 1: one verdict per prompt
    bounded = "bounded"  # anything in [0, 1]: means of several judgments, scores


def find_p_value(values: Floats, threshold: float, level: float, outcome: Outcome) -> float:
    """p-value for a mean of at most `threshold`; 1 where there is no value.

    Args:
        values: shape (prompts,), in an order that does not hang on them.
        level: at which the answer will be used; bets are sized for it, and the p-value is valid whatever it is.
    """
    if len(values) == 0:
        return 1.0
    if outcome == Outcome.bounded:
        return float(bet(values, threshold, level))
    halves = round(2 * float(values.sum()))
    if outcome == Outcome.yes_no:
        return float(count_tails(len(values), threshold)[halves // 2])
    return float(count_halves(len(values), threshold)[halves])


def find_lower_bound(values: Floats, level: float, outcome: Outcome) -> float:
    """The greatest threshold that the values refute at `level`: a lower confidence bound of the mean, in [0, 1]."""
    low, high = 0.0, float(values.mean()) if len(values) else 0.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (middle, high) if find_p_value(values, middle, level, outcome) <= level else (low, middle)
    return low


@lru_cache(maxsize=64)
def count_tails(n: int, threshold: float) -> Floats:
    """P(at least k of n) for k = 0 … n, each with probability `threshold`: the exact binomial p-values; shape (n + 1,).

    The p-value of Learn then Test for yes/no risks (Angelopoulos et al. 2021, arXiv 2110.01052).
    """
    from scipy.stats import binom

    tails: Floats = binom.sf(np.arange(-1, n), n, threshold)
    return tails


@lru_cache(maxsize=64)
def count_halves(n: int, threshold: float) -> Floats:
    """The greatest P(sum ≥ k/2) for k = 0 … 2n over all laws on {0, 1/2, 1} with mean `threshold`; shape (2n + 1,).

    The law is free in one number, the share of ties, over which the maximum is taken (exact unconditional test, as
    Barnard, Significance Tests for 2 × 2 Tables, Biometrika 34, 1947). A law with a smaller mean lies below one with
    this mean, so the maximum covers it. Without ties it is the binomial's tail, up to what few ties could add.
    """
    ties = 2 * min(threshold, 1 - threshold) * np.linspace(0, 1, TIES_TRIED) ** 2
    won, lost = threshold - ties / 2, 1 - threshold - ties / 2
    size = 2 * n + 1
    roots = np.exp(-2j * np.pi * np.arange(size) / size)
    # The distribution of a sum is a power of one prompt's, taken where it is a product: by Fourier transform.
    spectrum = (lost[:, None] + ties[:, None] * roots + won[:, None] * roots**2) ** n
    chances = np.fft.ifft(spectrum, axis=1).real.clip(0, 1)
    tails: Floats = np.cumsum(chances[:, ::-1], axis=1)[:, ::-1].max(axis=0).clip(0, 1)
    return tails


def bet(values: Floats, threshold: float, level: float) -> Floats:
    """1 / the greatest capital of a gambler who bets prompt by prompt that the mean is above `threshold`.

    Were it not, the capital would be a supermartingale that starts at 1, and exceed 1/p with a chance of at most p
    (Ville). Waudby-Smith & Ramdas, Estimating Means of Bounded Random Variables by Betting, JRSS-B 86, 2024, with their
    predictable bets for a number of draws that is fixed before. Values that vary little, as means of several judgments
    do, make it strong.

    Args:
        values: shape (…, prompts), in [0, 1].

    Returns:
        p-values of shape (…).
    """
    n = values.shape[-1]
    counts = np.arange(1, n + 1)
    means = (0.5 + np.cumsum(values, axis=-1)) / (counts + 1)
    variances = (0.25 + np.cumsum((values - means) ** 2, axis=-1)) / (counts + 1)
    before = np.concatenate([np.full((*values.shape[:-1], 1), 0.25), variances[..., :-1]], axis=-1)
    most = MOST_AT_RISK / max(threshold, 1e-9)
    bets = np.minimum(np.sqrt(2 * np.log(1 / level) / (n * before)), most)
    capital = np.cumsum(np.log1p(bets * (values - threshold)), axis=-1).max(axis=-1)
    p_values: Floats = np.exp(-np.maximum(capital, 0))
    return p_values
