"""Which policies can be rated beside the baseline, and why the others cannot. Pure."""

import numpy as np
from numpy.typing import NDArray

from sacpo_exp.statistics.comparisons import Comparisons, count_outcomes


def find_unrated(comparisons: Comparisons, baseline: str) -> dict[str, str]:
    """Policy → reason, for those whose strength relative to the baseline has no finite maximum of the likelihood.

    Finite are those from which a chain of wins leads to the baseline and to which one leads from it, a tie being a win
    of both (Ford, Solution of a Ranking Problem from Binary Comparisons, American Mathematical Monthly 64, 1957). What
    the others have met can be left out: at the maximum it is predicted perfectly and moves nothing else.

    Raises:
        ValueError: the baseline is none of the policies.
    """
    start = _find(baseline, comparisons)
    unrated = find_unconnected(comparisons, baseline)
    beats = _find_wins(comparisons)
    loses_to_it, wins_to_it = _reach(beats, start), _reach(beats.T, start)
    for index, (policy, tally) in enumerate(zip(comparisons.policies, count_outcomes(comparisons), strict=True)):
        if policy in unrated or (loses_to_it[index] and wins_to_it[index]):
            continue
        if tally.wins + tally.ties == 0:
            unrated[policy] = "never wins"
        elif tally.losses + tally.ties == 0:
            unrated[policy] = "never loses"
        else:
            missing = "losses" if wins_to_it[index] else "wins"
            unrated[policy] = f"no chain of {missing} leads to the baseline"
    return unrated


def find_unconnected(comparisons: Comparisons, baseline: str) -> dict[str, str]:
    """Policy → reason, for those that have met neither the baseline nor, over any chain, a policy that has.

    Raises:
        ValueError: the baseline is none of the policies.
    """
    beats = _find_wins(comparisons)
    connected = _reach(beats | beats.T, _find(baseline, comparisons))
    tallies = count_outcomes(comparisons)
    return {
        policy: "no chain of comparisons leads to the baseline" if tallies[index].comparisons else "has no verdicts"
        for index, policy in enumerate(comparisons.policies)
        if not connected[index]
    }


def _find(baseline: str, comparisons: Comparisons) -> int:
    if baseline not in comparisons.policies:
        raise ValueError(f"the baseline {baseline!r} is none of {list(comparisons.policies)}")
    return comparisons.policies.index(baseline)


def _find_wins(comparisons: Comparisons) -> NDArray[np.bool_]:
    """Whether the policy of the row has won or tied against that of the column at least once."""
    beats = np.zeros((len(comparisons.policies),) * 2, dtype=np.bool_)
    left, right, outcome = comparisons.left, comparisons.right, comparisons.outcome
    beats[left[outcome > 0], right[outcome > 0]] = True
    beats[right[outcome < 1], left[outcome < 1]] = True
    return beats


def _reach(graph: NDArray[np.bool_], start: int) -> NDArray[np.bool_]:
    """The vertices that a path leads to from `start`, itself among them."""
    reached = np.zeros(len(graph), dtype=np.bool_)
    reached[start] = True
    while True:
        further = reached | graph[reached].any(axis=0)
        if (further == reached).all():
            return reached
        reached = further
