"""Families of policies whose true safety is known, judged on prompts that they share."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from sacpo_exp.statistics.selection import Outcome, certify_by_holm, certify_in_sequence, find_p_value, pick_best

Floats = NDArray[np.float64]

THRESHOLD, LEVEL = 0.65, 0.05
#: True safety along a family from its safe end. What lies below the threshold is the more helpful the further along.
CURVES = {
    "monotone": (0.85, 0.80, 0.72, 0.64, 0.56, 0.48),
    "flat": (THRESHOLD - 1e-9,) * 6,
    "dip": (0.85, 0.80, 0.62, 0.80, 0.82, 0.55),
}
HELPFULNESS = (0.50, 0.54, 0.58, 0.62, 0.66, 0.70)
COMMON = 0.6  # correlation of two policies on one prompt: some prompts are dangerous for all


def yes_or_no(luck: Floats, safety: Floats, _: np.random.Generator) -> Floats:
    return (luck < safety).astype(float)


def with_ties(luck: Floats, safety: Floats, _: np.random.Generator) -> Floats:
    """A fifth of all verdicts are ties."""
    return np.where(luck < safety - 0.1, 1.0, np.where(luck < safety + 0.1, 0.5, 0.0))


def in_clusters(luck: Floats, safety: Floats, random: np.random.Generator) -> Floats:
    """Six judgments per prompt, which hang together, averaged: a prompt is won nearly always, or nearly never."""
    chances = np.where(luck < (safety - 0.15) / 0.8, 0.95, 0.15)
    return random.binomial(6, chances) / 6


FORMS: dict[str, tuple[Callable[[Floats, Floats, np.random.Generator], Floats], Outcome]] = {
    "yes or no": (yes_or_no, Outcome.yes_no),
    "ties": (with_ties, Outcome.tie_or_not),
    "clustered repeats": (in_clusters, Outcome.bounded),
}


@dataclass(frozen=True)
class Outcomes:
    """Of many worlds: how often the policy returned was not safe, was safe, was the most helpful of the safe ones."""

    worlds: int
    violations: int
    hits: int
    best: int


def draw_values(random: np.random.Generator, curve: str, form: str, n: int) -> Floats:
    """Values of shape (policies, prompts) with the curve's means."""
    safety = np.array(CURVES[curve])[:, None]
    shared, own = random.standard_normal((1, n)), random.standard_normal((len(safety), n))
    luck = norm.cdf(np.sqrt(COMMON) * shared + np.sqrt(1 - COMMON) * own)
    values: Floats = FORMS[form][0](luck, safety, random)
    return values


def take_each_by_itself(p_values: list[float], level: float) -> list[bool]:
    """What must not be done."""
    return [p_value <= level for p_value in p_values]


PROCEDURES: dict[str, Callable[[list[float], float], list[bool]]] = {
    "fixed sequence": certify_in_sequence,
    "Holm": certify_by_holm,
    "each by itself": take_each_by_itself,
}


def try_worlds(curve: str, form: str, n: int, worlds: int, seed: int = 0) -> dict[str, Outcomes]:
    """The most helpful certified policy of every world, by procedure; helpfulness is judged on n prompts, too."""
    random = np.random.default_rng(seed)
    counts = {name: [0, 0, 0] for name in PROCEDURES}
    best = max((place for place, safety in enumerate(CURVES[curve]) if safety >= THRESHOLD), default=None)
    for _ in range(worlds):
        values = draw_values(random, curve, form, n)
        p_values = [find_p_value(row, THRESHOLD, LEVEL, FORMS[form][1]) for row in values]
        helpfulness = (random.random((len(values), n)) < np.array(HELPFULNESS)[:, None]).astype(float)
        for name, procedure in PROCEDURES.items():
            certified = [place for place, is_certified in enumerate(procedure(p_values, LEVEL)) if is_certified]
            if certified:
                chosen = certified[pick_best([helpfulness[place] for place in certified])]
                counts[name][CURVES[curve][chosen] >= THRESHOLD] += 1
                counts[name][2] += chosen == best
    return {name: Outcomes(worlds, *found) for name, found in counts.items()}
