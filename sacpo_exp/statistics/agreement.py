"""How well two raters agree, a judge and people, say. Pure."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from sacpo_exp.statistics.intervals import Estimate, Floats, Resampling, bootstrap_interval, wilson


@dataclass(frozen=True)
class Agreement:
    """Agreement on the same items.

    Attributes:
        rate: share of equal labels with Wilson's interval.
        kappa: Cohen's κ, in [−1, 1]: agreement beyond that of chance, 1 if perfect. NaN where both gave one and the
            same label only, since chance then agrees as well.
    """

    rate: Estimate
    kappa: Estimate


def measure_agreement(ours: Sequence[Hashable], theirs: Sequence[Hashable], resampling: Resampling) -> Agreement:
    """Share of equal labels, and κ = (p_observed − p_chance)/(1 − p_chance).

    Cohen, A Coefficient of Agreement for Nominal Scales, Educational and Psychological Measurement 20, 1960. Its
    interval is bootstrapped over items; resamples in which κ is undefined are left out.

    Args:
        ours, theirs: one label per item, in the same order; items without a label are to be left out before.

    Raises:
        ValueError: the two differ in length.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"both must have labels for the same items, but have {len(ours)} and {len(theirs)}")
    table = _count_labels(ours, theirs)
    rate = wilson(int(np.trace(table)), len(ours), resampling.confidence)
    return Agreement(rate, _estimate_kappa(table, resampling))


def _count_labels(ours: Sequence[Hashable], theirs: Sequence[Hashable]) -> Floats:
    """How often each label of ours (row) met each of theirs (column)."""
    positions = {label: index for index, label in enumerate(dict.fromkeys([*ours, *theirs]))}
    table = np.zeros((len(positions), len(positions)))
    for own, other in zip(ours, theirs, strict=True):
        table[positions[own], positions[other]] += 1
    return table


def _estimate_kappa(table: Floats, resampling: Resampling) -> Estimate:
    n = int(table.sum())
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    value = float(_kappa(table))
    # Drawing items with replacement is drawing cells of the table.
    draws = np.random.default_rng(resampling.seed).multinomial(n, table.ravel() / n, resampling.rounds)
    resampled = _kappa(draws.reshape(-1, *table.shape).astype(np.float64))
    resampled = resampled[np.isfinite(resampled)]
    if math.isnan(value) or n == 1 or len(resampled) == 0:
        return Estimate(value, math.nan, math.nan, n)
    return Estimate(value, *bootstrap_interval(resampled, value, _influence(table), resampling), n)


def _influence(table: Floats) -> Floats:
    """What each item adds to κ, shape (items,), 0 where it is undefined without it."""
    cells = np.flatnonzero(table)
    without = np.stack([table.ravel()] * len(cells))
    without[np.arange(len(cells)), cells] -= 1
    left_out = np.repeat(_kappa(without.reshape(-1, *table.shape)), table.ravel()[cells].astype(np.int64))
    defined = np.isfinite(left_out)
    return np.where(defined, left_out[defined].mean() - left_out if defined.any() else 0.0, 0.0)


def _kappa(tables: Floats) -> Floats:
    """κ of tables of shape (…, labels, labels); NaN where chance alone agrees everywhere."""
    totals = tables.sum(axis=(-2, -1))
    observed = np.trace(tables, axis1=-2, axis2=-1) / totals
    chance = (tables.sum(axis=-1) * tables.sum(axis=-2)).sum(axis=-1) / totals**2
    with np.errstate(divide="ignore", invalid="ignore"):
        kappa: Floats = np.where(chance < 1, (observed - chance) / (1 - chance), math.nan)
    return kappa
