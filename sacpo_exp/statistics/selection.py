"""Which policies are certified to keep their constraints, and which are on the Pareto front.

Learn then Test (Angelopoulos, Bates, Candès, Jordan & Lei 2021, arXiv 2110.01052): each policy has a p-value for
"breaks a constraint", from one value per prompt in [0, 1], 1 being safe. A procedure that keeps the chance of any false
certificate below `level` makes every choice among the certified policies safe, also of the best one by another
criterion on the same prompts. Prompts are independent draws; several judgments of one prompt are averaged before.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from enum import Enum
from functools import lru_cache
from typing import Final

import numpy as np

from sacpo_exp.statistics.intervals import Estimate, Floats, Resampling, Values, bootstrap_rate

TIES_TRIED: Final = 128
MOST_AT_RISK: Final = 0.75  # share of the capital that a bet may risk, as in Waudby-Smith & Ramdas 2024
MOST_PROMPTS: Final = 10_000  # that a power analysis considers
WORLDS: Final = 500  # simulated for the power of the bounded test, whose standard error is then below 0.023


class Outcome(Enum):
    """The possible values of a prompt. They follow from how it is judged, never from the values seen."""

    yes_no = "yes_no"  # 0 or 1
    tie_or_not = "tie_or_not"  # 0, 1/2 or 1: one verdict per prompt
    bounded = "bounded"  # anything in [0, 1]: means of several judgments


def find_p_value(values: Floats, threshold: float, level: float, outcome: Outcome) -> float:
    """Return a valid p-value for "the mean is at most `threshold`": P(p ≤ level) ≤ level where that is true.

    Args:
        values: shape (prompts,), in an order that does not depend on them.
        level: for which the bounded test is tuned; it is valid for any other as well.
    """
    from scipy.stats import binom

    if len(values) == 0:
        return 1.0
    if outcome == Outcome.bounded:
        return float(bet(values, threshold, level))
    if outcome == Outcome.tie_or_not:
        return float(count_halves(len(values), threshold)[round(2 * values.sum())])
    return float(binom.sf(round(values.sum()) - 1, len(values), threshold))


@lru_cache(maxsize=64)
def count_halves(n: int, threshold: float) -> Floats:
    """Return the greatest P(sum ≥ k/2) for k = 0 … 2n over all laws on {0, 1/2, 1} with mean `threshold`.

    The binomial test extended to ties: the maximum is over the share of ties, the one free number of the law (exact
    unconditional test, as Barnard, Biometrika 34, 1947). Laws with a smaller mean have smaller tails.
    """
    # Denser near no ties, where the maximum lies.
    ties = 2 * min(threshold, 1 - threshold) * np.linspace(0, 1, TIES_TRIED) ** 2
    won, lost = threshold - ties / 2, 1 - threshold - ties / 2
    roots = np.exp(-2j * np.pi * np.arange(2 * n + 1) / (2 * n + 1))
    # The distribution of a sum is a power of one prompt's after a Fourier transform.
    spectrum = (lost[:, None] + ties[:, None] * roots + won[:, None] * roots**2) ** n
    chances = np.fft.ifft(spectrum, axis=1).real.clip(0, 1)
    tails: Floats = np.cumsum(chances[:, ::-1], axis=1)[:, ::-1].max(axis=0).clip(0, 1)
    return tails


def bet(values: Floats, threshold: float, level: float) -> Floats:
    """Return the p-values, shape (…), of values of shape (…, prompts): 1 / the greatest capital of a gambler.

    He bets prompt by prompt that the mean is above `threshold`. If it is not, the capital is a supermartingale that
    starts at 1 and exceeds 1/p with a chance of at most p (Ville). Waudby-Smith & Ramdas, JRSS-B 86, 2024, with their
    predictable bets for a fixed number of draws. Powerful for values that vary little, as means of judgments do.
    """
    n = values.shape[-1]
    counts = np.arange(1, n + 1)
    means = (0.5 + np.cumsum(values, axis=-1)) / (counts + 1)
    variances = (0.25 + np.cumsum((values - means) ** 2, axis=-1)) / (counts + 1)
    before = np.concatenate([np.full((*values.shape[:-1], 1), 0.25), variances[..., :-1]], axis=-1)
    bets = np.minimum(np.sqrt(2 * np.log(1 / level) / (n * before)), MOST_AT_RISK / max(threshold, 1e-9))
    capital = np.cumsum(np.log1p(bets * (values - threshold)), axis=-1).max(axis=-1)
    p_values: Floats = np.exp(-np.maximum(capital, 0))
    return p_values


def find_lower_bound(values: Floats, level: float, outcome: Outcome) -> float:
    """Return a lower confidence bound of the mean: the greatest threshold that the values refute at `level`."""
    low, high = 0.0, float(values.mean()) if len(values) else 0.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (middle, high) if find_p_value(values, middle, level, outcome) <= level else (low, middle)
    return low


def find_power(n: int, threshold: float, truth: float, level: float, outcome: Outcome) -> float:
    """Return the chance that n prompts certify a policy whose mean is `truth`, for one policy by itself.

    As if every prompt were all or nothing; ties and means of several judgments vary less, which only helps.
    """
    from scipy.stats import binom

    if outcome == Outcome.bounded:
        worlds = (np.random.default_rng(0).random((WORLDS, n)) < truth).astype(float)
        return float(np.mean(bet(worlds, threshold, level) <= level))
    enough = np.flatnonzero(binom.sf(np.arange(-1, n), n, threshold) <= level)
    return float(binom.sf(enough[0] - 1, n, truth)) if len(enough) else 0.0


@lru_cache(maxsize=256)
def count_prompts(threshold: float, truth: float, level: float, outcome: Outcome, power: float) -> int | None:
    """Return about the smallest number of prompts that certify a policy whose mean is `truth` with chance `power`.

    None where even `MOST_PROMPTS` are too few. A slightly smaller number may have it too, as power is not monotone.
    """
    if truth <= threshold:
        return None
    high = 8
    while find_power(high, threshold, truth, level, outcome) < power:
        high *= 2
        if high > MOST_PROMPTS:
            return None
    low = high // 2
    while high - low > max(1, high // 200):
        middle = (low + high) // 2
        reached = find_power(middle, threshold, truth, level, outcome) >= power
        low, high = (low, middle) if reached else (middle, high)
    return high


def certify_in_sequence(p_values: Iterable[float], level: float) -> list[bool]:
    """Return which policies are certified in a fixed order; `p_values` is not read after the first that fails.

    Each is tested at the full level: a false certificate needs the first truly unsafe policy to be certified, and that
    alone has a chance of at most `level` (Bauer, Multiple Testing in Clinical Trials, 1991).
    """
    certified: list[bool] = []
    for p_value in p_values:
        certified.append(p_value <= level)
        if not certified[-1]:
            break
    return certified


def certify_by_holm(p_values: Sequence[float], level: float) -> list[bool]:
    """Return which policies are certified, in the order given.

    The smallest of m p-values is tested at level/m, the next at level/(m − 1), until one fails (Holm 1979).
    """
    certified = [False] * len(p_values)
    for rank, place in enumerate(np.argsort(p_values, kind="stable")):
        if p_values[place] > level / (len(p_values) - rank):
            break
        certified[place] = True
    return certified


def pick_best(values: Sequence[Values]) -> int:
    """Return the position of the highest mean, the first of equal ones; `values`: per policy shape (prompts,)."""
    return int(np.argmax([np.mean(entry) for entry in values]))


def estimate_chosen(values: Sequence[Values], chosen: int, resampling: Resampling) -> Estimate:
    """Estimate the mean of one of m policies with an interval that is valid whichever was chosen, for any reason.

    Bonferroni: confidence 1 − (1 − confidence)/m. The mean itself stays optimistic, more so the closer the others are.
    """
    shared = replace(resampling, confidence=1 - (1 - resampling.confidence) / len(values))
    return bootstrap_rate(values[chosen], shared)


def find_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Return whether each point is on the Pareto front: no other is as good in both coordinates and better in one.

    More is better. A point with NaN is on no front and dominates no other.
    """
    return [x == x and y == y and not any(a >= x and b >= y and (a, b) != (x, y) for a, b in points) for x, y in points]
