"""How likely a policy that is safe enough is to be certified, and how many prompts that takes. Pure."""

import math
from functools import lru_cache

import numpy as np

from sacpo_exp.statistics.p_values import Outcome, bet, count_tails

#: Beyond so many prompts nobody asks.
MOST_PROMPTS = 20_000
#: Drawn for a bounded outcome, where no formula is known; the power's own standard error is then below 0.016.
WORLDS = 1000


def find_power(n: int, threshold: float, truth: float, level: float, outcome: Outcome) -> float:
    """Chance that n prompts certify a policy whose mean is `truth`, for one policy by itself, in [0, 1].

    As if every prompt were all or nothing: ties, or means of several judgments, vary less, which only helps.
    """
    from scipy.stats import binom

    if outcome == Outcome.bounded:
        random = np.random.default_rng(0)
        hits = [
            np.count_nonzero(bet((random.random((size, n)) < truth).astype(float), threshold, level) <= level)
            for size in _parts(WORLDS, n)
        ]
        return float(sum(hits)) / WORLDS
    enough = np.flatnonzero(count_tails(n, threshold) <= level)
    return float(binom.sf(enough[0] - 1, n, truth)) if len(enough) else 0.0


@lru_cache(maxsize=256)
def count_prompts(threshold: float, truth: float, level: float, outcome: Outcome, power: float) -> int | None:
    """About the smallest number of prompts with which a policy whose mean is `truth` is certified with chance `power`.

    None where even `MOST_PROMPTS` are too few, as for a policy that is not above the threshold. The chance goes up in
    teeth, for rates are whole numbers of prompts; what is returned has it, though a few less may have it too.
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


def count_least_prompts(threshold: float, level: float) -> int:
    """The number of prompts below which nothing can be certified, not even if all are safe: threshold^n > level."""
    return math.ceil(math.log(level) / math.log(threshold)) if 0 < threshold < 1 else 1


def _parts(worlds: int, n: int) -> list[int]:
    """Sizes that add up to `worlds`, each of at most a million numbers."""
    step = max(1, 2**20 // n)
    return [min(step, worlds - start) for start in range(0, worlds, step)]
