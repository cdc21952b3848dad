"""What a rating is: a number per policy on the Elo scale, where the baseline stands at 1000. Pure."""

import math
from dataclasses import dataclass
from typing import Final

from sacpo_exp.statistics.comparisons import Tally
from sacpo_exp.statistics.intervals import Estimate

#: Where the baseline stands, and points per unit of log odds: 400 points are odds of 10 to 1 (Elo 1978).
START: Final = 1000.0
SCALE: Final = 400 / math.log(10)


@dataclass(frozen=True)
class Coefficient:
    """A log odds with its standard errors.

    Attributes:
        plain_error: from the inverse Fisher information, as if all verdicts were independent.
        clustered_error: from the sandwich over prompts; NaN without prompts, and with one only.
    """

    value: float
    plain_error: float
    clustered_error: float


@dataclass(frozen=True)
class Rating:
    """What one policy is worth against the baseline.

    Attributes:
        coefficient: log odds of winning against the baseline, whose own is 0 without error.
        elo: 1000 + 400/ln(10)·coefficient with its interval; `n` counts prompts, or verdicts where there are none.
        tally: all its verdicts, those against unrated policies too.
    """

    policy: str
    coefficient: Coefficient
    elo: Estimate
    tally: Tally


@dataclass(frozen=True)
class Ratings:
    """All ratings of one fit.

    Attributes:
        rated: the strongest first, the baseline among them.
        unrated: policy → why it has no number.
        order_effect: log odds with which the response shown first wins among equals; None if not in the fit.
        note: why it is not in the fit although asked for, or None.
    """

    baseline: str
    rated: tuple[Rating, ...]
    unrated: dict[str, str]
    order_effect: Coefficient | None
    note: str | None


@dataclass(frozen=True)
class OnlineRating:
    """Online Elo of one policy, scaled so that the baseline stands at 1000.

    Attributes:
        elo: mean over the trials, each of which goes through the verdicts in an order of its own.
        spread: standard deviation between the trials. It is no error of the rating.
    """

    policy: str
    elo: float
    spread: float
    tally: Tally


@dataclass(frozen=True)
class OnlineRatings:
    """All online ratings: `rated` with the strongest first, `unrated` as policy → why it has no number."""

    baseline: str
    rated: tuple[OnlineRating, ...]
    unrated: dict[str, str]
