"""Which policies the verdicts between two policies each connect with the baseline.

Verdicts are a frame with a row per judgment: the ids `left` and `right` of two policies, `outcome` (1 left wins, 0.5
tie, 0 right wins), and `prompt`, which is one cluster.
"""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Tally:
    """Numbers of verdicts of one policy."""

    wins: int
    ties: int
    losses: int


def count_outcomes(verdicts: "pd.DataFrame") -> dict[str, Tally]:
    """Return the tally of each policy, sorted by id."""
    counts: Counter[tuple[str, float]] = Counter()
    for left, right, outcome in zip(*(verdicts[name].tolist() for name in ("left", "right", "outcome")), strict=True):
        counts[left, outcome] += 1
        counts[right, 1 - outcome] += 1
    policies = sorted({policy for policy, _ in counts})
    return {policy: Tally(*(counts[policy, value] for value in (1, 0.5, 0))) for policy in policies}


def find_unconnected(verdicts: "pd.DataFrame", baseline: str) -> dict[str, str]:
    """Return policy → reason for those that no chain of comparisons connects with the baseline, or raise ValueError."""
    return dict.fromkeys(_list_outside(verdicts, baseline, "weak"), "no chain of comparisons leads to the baseline")


def find_unrated(verdicts: "pd.DataFrame", baseline: str) -> dict[str, str]:
    """Return policy → reason for those whose strength relative to the baseline has no finite maximum of the likelihood.

    It is finite where chains of wins lead to the baseline and from it, a tie being a win of both (Ford, American
    Mathematical Monthly 64, 1957). Verdicts on the others can be left out of the fit.

    Raises:
        ValueError: the baseline is none of the policies.
    """
    tallies = count_outcomes(verdicts)
    unrated = dict.fromkeys(
        _list_outside(verdicts, baseline, "strong"), "no chain of wins and losses leads to the baseline and back"
    )
    unrated |= {policy: "never wins" for policy in unrated if tallies[policy].wins + tallies[policy].ties == 0}
    unrated |= {policy: "never loses" for policy in unrated if tallies[policy].losses + tallies[policy].ties == 0}
    return unrated | find_unconnected(verdicts, baseline)


def _list_outside(verdicts: "pd.DataFrame", baseline: str, connection: str) -> list[str]:
    """Return the policies outside the baseline's component of the graph "has won or tied against"."""
    from scipy.sparse.csgraph import connected_components

    policies = sorted({*verdicts["left"], *verdicts["right"]})
    if baseline not in policies:
        raise ValueError(f"the baseline {baseline!r} is none of {policies}")
    left, right = (np.searchsorted(policies, verdicts[side].tolist()) for side in ("left", "right"))
    outcome = verdicts["outcome"].to_numpy()
    beats = np.zeros((len(policies),) * 2, dtype=np.bool_)
    beats[left[outcome > 0], right[outcome > 0]] = True
    beats[right[outcome < 1], left[outcome < 1]] = True
    component = dict(zip(policies, connected_components(beats, connection=connection)[1], strict=True))
    return [policy for policy in policies if component[policy] != component[baseline]]
