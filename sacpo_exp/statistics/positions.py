"""What single verdicts tell about the judge: whether it goes by the order, ties, wavers between repeats. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sacpo_exp.statistics.intervals import Bounds, Estimate, Floats, Resampling, bootstrap_rate, wilson

Positions = NDArray[np.int64]

#: What the deviation of outcomes between 0 and 1 can be: at most that of two that disagree.
DEVIATION: Final[Bounds] = (0.0, math.sqrt(0.5))


@dataclass(frozen=True)
class PositionBias:
    """Shares in [0, 1], first averaged per prompt, then over prompts; `n` counts the prompts that tell something.

    Attributes:
        flip_rate: pairs of verdicts, one per order, in which the winner changes with the order. 0 for a judge that
            looks at the responses only, 1 for one that looks at the order only.
        half_flip_rate: such pairs with a winner in one order and a tie in the other; never counted as flips.
        first_rate: single verdicts for the response shown first, ties half. 0.5 for a judge that does not see the order
            and was asked in both orders.
        tie_rate: single verdicts that are ties.
        repeat_deviation: standard deviation (n − 1 degrees of freedom) of the verdict between repeats of one question,
            averaged. In units of the verdict: of two repeats that disagree it is 0.71.
    """

    flip_rate: Estimate
    half_flip_rate: Estimate
    first_rate: Estimate
    tie_rate: Estimate
    repeat_deviation: Estimate


def measure_positions(
    prompts: Sequence[str],
    units: Sequence[str],
    shown: Sequence[int] | NDArray[np.int8],
    outcomes: Sequence[float] | Floats,
    repeats: Sequence[int] | Positions,
    resampling: Resampling,
) -> PositionBias:
    """Position bias and steadiness of a judge, from single verdicts; all columns have the shape (verdicts,).

    Intervals are over prompts: bootstrapped, or Wilson's where every prompt is wholly one thing or the other, so that a
    judge that always flips has a width. Without verdicts in both orders or without repeats the measures that need
    them are NaN with n = 0.

    Args:
        prompts: what is drawn as a whole.
        units: what is judged in both orders and several times, a prompt of a match; of one match, the prompts again.
        shown: +1 where the policy's response was shown first, −1 where it was second, 0 where there is no order.
        outcomes: 1 the policy wins, 0.5 tie, 0 it loses.
        repeats: number of the repeat; each unit has at most one verdict per order and repeat.
    """
    prompt, unit = (np.unique(np.asarray(column, dtype=str), return_inverse=True)[1] for column in (prompts, units))
    order, outcome, repeat = (
        np.asarray(shown, np.int64),
        np.asarray(outcomes, np.float64),
        np.asarray(repeats, np.int64),
    )
    first, second = _pair_orders(unit, repeat, order)
    winners = np.sign(outcome[first] - 0.5) * np.sign(outcome[second] - 0.5)
    is_half = (outcome[first] == 0.5) != (outcome[second] == 0.5)
    known = order != 0
    for_first = np.where(order > 0, outcome, 1 - outcome)
    asked, deviation = _deviate(unit * 3 + order + 1, outcome)
    return PositionBias(
        flip_rate=_share(prompt[first], winners < 0, resampling),
        half_flip_rate=_share(prompt[first], is_half, resampling),
        first_rate=_share(prompt[known], for_first[known], resampling),
        tie_rate=_share(prompt, outcome == 0.5, resampling),
        repeat_deviation=bootstrap_rate(_average(prompt[asked], deviation), resampling, DEVIATION),
    )


def _pair_orders(unit: Positions, repeat: Positions, order: Positions) -> tuple[Positions, Positions]:
    """Rows of the verdicts that the same unit and repeat have in both orders: the policy first, the policy second."""
    keys = unit * (repeat.max(initial=0) + 1) + repeat
    first, second = np.flatnonzero(order > 0), np.flatnonzero(order < 0)
    _, own, turned = np.intersect1d(keys[first], keys[second], return_indices=True)
    return first[own], second[turned]


def _deviate(question: Positions, outcome: Floats) -> tuple[Positions, Floats]:
    """For each question asked more than once: a row of it, and the standard deviation of its outcomes."""
    _, row, group, count = np.unique(question, return_index=True, return_inverse=True, return_counts=True)
    means = np.bincount(group, outcome) / count
    squares = np.bincount(group, (outcome - means[group]) ** 2)
    repeated = count > 1
    return row[repeated], np.sqrt(squares[repeated] / (count[repeated] - 1))


def _share(prompt: Positions, values: NDArray[np.float64] | NDArray[np.bool_], resampling: Resampling) -> Estimate:
    shares = _average(prompt, values)
    if np.isin(shares, (0, 1)).all():
        return wilson(int(shares.sum()), len(shares), resampling.confidence)
    return bootstrap_rate(shares, resampling)


def _average(prompt: Positions, values: NDArray[np.float64] | NDArray[np.bool_]) -> Floats:
    """Mean of each prompt that occurs, by its number."""
    _, group, count = np.unique(prompt, return_inverse=True, return_counts=True)
    means: Floats = np.bincount(group, values, minlength=len(count)) / count
    return means
