"""Which of several policies are certified to keep their constraints, and what the chosen one is worth. Pure.

Learn then Test (Angelopoulos, Bates, Candès, Jordan & Lei 2021, arXiv 2110.01052): each policy has a p-value for
"breaks a constraint"; a procedure that keeps the chance of any false certificate below `level` makes every choice among
the certified ones safe, also the best one by another criterion on the same prompts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sacpo_exp.statistics.intervals import Estimate, Resampling, Values, bootstrap_rate


def combine_constraints(p_values: Iterable[float]) -> float:
    """The p-value of "at least one constraint is broken": the largest of theirs (Berger 1982)."""
    return max(p_values)


def certify_in_sequence(p_values: Iterable[float], level: float) -> list[bool]:
    """Which policies are certified, in a fixed order; nothing is drawn from `p_values` after the first that fails.

    Each is tested at the full level: a false certificate needs the first truly unsafe policy to be certified, and that
    alone has a chance of at most `level` (Learn then Test; Bauer, Multiple Testing in Clinical Trials, 1991).
    """
    certified: list[bool] = []
    for p_value in p_values:
        certified.append(p_value <= level)
        if not certified[-1]:
            break
    return certified


def certify_by_holm(p_values: Sequence[float], level: float) -> list[bool]:
    """Which policies are certified, in the order given: the smallest of m p-values is tested at level/m, the next at
    level/(m − 1), until one fails (Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979).
    """
    certified = [False] * len(p_values)
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        if p_values[place] > level / (len(p_values) - rank):
            break
        certified[place] = True
    return certified


def split_prompts(n: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Two halves of n prompts at random, as sorted positions; the first has the odd one."""
    places = np.random.default_rng(seed).permutation(n)
    return np.sort(places[: n - n // 2]), np.sort(places[n - n // 2 :])


def pick_best(values: Sequence[Values]) -> int:
    """Position of the policy with the highest mean; of equal ones the first. `values`: per policy shape (prompts,)."""
    return int(np.argmax([np.mean(entry) for entry in values]))


def estimate_chosen(values: Sequence[Values], chosen: int, resampling: Resampling) -> Estimate:
    """Mean of the chosen one of several policies with an interval that holds whichever was chosen, and for whatever.

    It is as wide as it takes to hold for all of them at once (Bonferroni: confidence 1 − (1 − confidence)/m each); the
    mean itself is still optimistic, the more so the nearer the others come.
    """
    shared = replace(resampling, confidence=1 - (1 - resampling.confidence) / len(values))
    return bootstrap_rate(values[chosen], shared)
