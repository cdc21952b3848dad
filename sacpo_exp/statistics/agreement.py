"""Agreement of a judge with itself, in other orders and repeats."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sacpo_exp.statistics.intervals import Bounds, Estimate, Floats, Resampling, bootstrap_rate, wilson

if TYPE_CHECKING:
    import pandas as pd

#: Bounds of the deviation of outcomes between 0 and 1: at most that of two that disagree.
DEVIATION: Final[Bounds] = (0.0, math.sqrt(0.5))


@dataclass(frozen=True)
class PositionBias:
    """Shares in [0, 1], averaged per prompt and then over prompts; `n` counts the prompts that have a value.

    Attributes:
        flip_rate: pairs of verdicts, one per order, in which the winner changes with the order.
        half_flip_rate: such pairs with a winner in one order and a tie in the other; never counted as flips.
        first_rate: single verdicts for the response shown first, ties half; 0.5 if the order has no effect.
        tie_rate: single verdicts that are ties.
        repeat_deviation: standard deviation (n − 1) of the verdict between repeats of one question: 0.71 for two
            repeats that disagree.
    """

    flip_rate: Estimate
    half_flip_rate: Estimate
    first_rate: Estimate
    tie_rate: Estimate
    repeat_deviation: Estimate


def measure_positions(verdicts: Iterable[tuple[str, str, int, float, int]], resampling: Resampling) -> PositionBias:
    """Measure position bias and consistency of a judge from single verdicts.

    Measures without verdicts in both orders or without repeats are NaN with n = 0.

    Args:
        verdicts: prompt, unit, shown, outcome and repeat of each. Prompts are the clusters of the bootstrap. A unit is
            judged in both orders and several times: a prompt of one match, of several a prompt in a match. `shown` is
            +1 where the policy's response was shown first, −1 where it was second, 0 where there is no order. The
            outcome is 1 if the policy wins, 0.5 for a tie. A unit has at most one verdict per order and repeat.
    """
    import pandas as pd

    types: dict[str, Any] = {"prompt": str, "unit": str, "shown": np.int64, "outcome": np.float64, "repeat": np.int64}
    rows = pd.DataFrame(list(verdicts), columns=list(types)).astype(types)
    ordered = rows[rows["shown"] != 0]
    sides = [ordered[ordered["shown"] == side] for side in (1, -1)]
    pairs = sides[0].merge(sides[1], on=["prompt", "unit", "repeat"], suffixes=("_first", "_second"))
    first, second = pairs["outcome_first"] - 0.5, pairs["outcome_second"] - 0.5
    for_first = ordered["outcome"].where(ordered["shown"] > 0, 1 - ordered["outcome"])
    deviations = rows.groupby(["prompt", "unit", "shown"])["outcome"].std().dropna().reset_index()
    return PositionBias(
        flip_rate=_share(pairs["prompt"], first * second < 0, resampling),
        half_flip_rate=_share(pairs["prompt"], (first == 0) != (second == 0), resampling),
        first_rate=_share(ordered["prompt"], for_first, resampling),
        tie_rate=_share(rows["prompt"], rows["outcome"] == 0.5, resampling),
        repeat_deviation=bootstrap_rate(_average(deviations["prompt"], deviations["outcome"]), resampling, DEVIATION),
    )


def _share(prompts: "pd.Series[Any]", values: "pd.Series[Any]", resampling: Resampling) -> Estimate:
    """Estimate a share over prompts; Wilson's interval where every prompt is wholly one thing or the other."""
    shares = _average(prompts, values)
    if np.isin(shares, (0, 1)).all():
        return wilson(int(shares.sum()), len(shares), resampling.confidence)
    return bootstrap_rate(shares, resampling)


def _average(prompts: "pd.Series[Any]", values: "pd.Series[Any]") -> Floats:
    """Return the mean of each prompt, sorted by prompt."""
    means: Floats = values.astype(float).groupby(prompts).mean().to_numpy()
    return means
