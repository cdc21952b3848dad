"""Online Elo, for comparison with older work; it hangs on the order of the verdicts, Bradley–Terry does not. Pure."""

import statistics
from typing import Final

import numpy as np

from sacpo_exp.statistics.comparisons import Comparisons, count_outcomes
from sacpo_exp.statistics.connectivity import find_unconnected
from sacpo_exp.statistics.ratings import START, OnlineRating, OnlineRatings

#: As in the SACPO paper's repository (line/sacpo, src/evaluate/compute_scores.py).
K_FACTOR: Final = 32.0
INITIAL: Final = 1200.0
TRIALS: Final = 50
PASSES: Final = 10


def rate_online(
    comparisons: Comparisons,
    baseline: str,
    *,
    seed: int,
    trials: int = TRIALS,
    passes: int = PASSES,
    k_factor: float = K_FACTOR,
) -> OnlineRatings:
    """Elo ratings after `passes` shuffled passes through the verdicts, averaged over `trials`, as in the SACPO paper.

    Elo, The Rating of Chessplayers, 1978: r ← r + K·(outcome − 1/(1 + 10^((r_opponent − r)/400))). In each trial all
    start at 1200 and are scaled at its end, not shifted, so that the baseline stands at 1000. Policies that no chain of
    comparisons connects with the baseline are named without a number. One that never wins has a number here, but it
    means little: it falls with every further verdict.

    Args:
        seed: of the shuffles.
        trials, passes: at least 1.
        k_factor: greatest change by one verdict, in points.

    Raises:
        ValueError: the baseline is none of the policies.
    """
    unrated = find_unconnected(comparisons, baseline)
    start = comparisons.policies.index(baseline)
    random = np.random.default_rng(seed)
    scaled = []
    for _ in range(trials):
        points = [INITIAL] * len(comparisons.policies)
        for _ in range(passes):
            update_in_turn(comparisons.select(random.permutation(len(comparisons))), points, k_factor)
        scaled.append([each / points[start] * START for each in points])  # of the baseline exactly START
    tallies = count_outcomes(comparisons)
    rated = [
        OnlineRating(policy, statistics.fmean(found), statistics.pstdev(found), tally)
        for policy, tally, found in zip(comparisons.policies, tallies, zip(*scaled, strict=True), strict=True)
        if policy not in unrated
    ]
    ranked = tuple(sorted(rated, key=lambda rating: (-rating.elo, rating.policy)))
    return OnlineRatings(baseline, ranked, unrated)


def update_in_turn(comparisons: Comparisons, points: list[float], k_factor: float) -> None:
    """Move the points of the policies by the verdicts as they stand."""
    columns = (comparisons.left.tolist(), comparisons.right.tolist(), comparisons.outcome.tolist())
    for left, right, outcome in zip(*columns, strict=True):
        change = k_factor * (outcome - 1 / (1 + 10 ** ((points[right] - points[left]) / 400)))
        points[left] += change
        points[right] -= change
