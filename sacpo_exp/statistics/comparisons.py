"""Single verdicts between two policies each, as columns, and which policies they connect with the baseline."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Comparisons:
    """Verdicts, one per judgment; all arrays have the shape (verdicts,).

    Attributes:
        policies: ids; `left` and `right` are positions in it.
        outcome: 1 left wins, 0.5 tie, 0 right wins.
        shown: +1 left was shown first, −1 right was, 0 unknown.
        prompt: number of the prompt, which is one cluster.
    """

    policies: tuple[str, ...]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    outcome: NDArray[np.float64]
    shown: NDArray[np.int8]
    prompt: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.left)

    def select(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> "Comparisons":
        """Return the verdicts of a mask or of positions, in that order, among the same policies."""
        columns = ("left", "right", "outcome", "shown", "prompt")
        return replace(self, **{name: getattr(self, name)[rows] for name in columns})


@dataclass(frozen=True)
class Tally:
    """Numbers of verdicts of one policy."""

    comparisons: int
    wins: int
    ties: int
    losses: int


def gather_comparisons(
    left: Sequence[str], right: Sequence[str], outcome: Sequence[float], shown: Sequence[int], prompts: Sequence[Any]
) -> Comparisons:
    """Return columns of ids as columns of numbers, the policies sorted by id; arguments as in `Comparisons`."""
    policies, sides = np.unique([*left, *right], return_inverse=True)
    return Comparisons(
        tuple(policies.tolist()),
        sides[: len(left)],
        sides[len(left) :],
        np.asarray(outcome, dtype=np.float64),
        np.asarray(shown, dtype=np.int8),
        np.unique(prompts, return_inverse=True)[1],
    )


def count_outcomes(comparisons: Comparisons) -> tuple[Tally, ...]:
    """Return one tally per policy, in the order of `comparisons.policies`."""
    sides = np.concatenate([comparisons.left, comparisons.right])
    own = np.concatenate([comparisons.outcome, 1 - comparisons.outcome])
    size = len(comparisons.policies)
    wins, ties, losses = (np.bincount(sides[own == value], minlength=size).tolist() for value in (1, 0.5, 0))
    return tuple(Tally(won + tied + lost, won, tied, lost) for won, tied, lost in zip(wins, ties, losses, strict=True))


def find_unconnected(comparisons: Comparisons, baseline: str) -> dict[str, str]:
    """Return policy → reason for those that no chain of comparisons connects with the baseline."""
    return dict.fromkeys(_list_outside(comparisons, baseline, "weak"), "no chain of comparisons leads to the baseline")


def find_unrated(comparisons: Comparisons, baseline: str) -> dict[str, str]:
    """Return policy → reason for those whose strength relative to the baseline has no finite maximum of the likelihood.

    It is finite where chains of wins lead to the baseline and from it, a tie being a win of both (Ford, American
    Mathematical Monthly 64, 1957). Verdicts on the others can be left out of the fit.
    """
    tallies = dict(zip(comparisons.policies, count_outcomes(comparisons), strict=True))
    unrated = dict.fromkeys(
        _list_outside(comparisons, baseline, "strong"), "no chain of wins and losses leads to the baseline and back"
    )
    unrated |= {policy: "never wins" for policy in unrated if tallies[policy].wins + tallies[policy].ties == 0}
    unrated |= {policy: "never loses" for policy in unrated if tallies[policy].losses + tallies[policy].ties == 0}
    return unrated | find_unconnected(comparisons, baseline)


def _list_outside(comparisons: Comparisons, baseline: str, connection: str) -> list[str]:
    """Return the policies outside the baseline's component of the graph "has won or tied against"."""
    from scipy.sparse.csgraph import connected_components

    beats = np.zeros((len(comparisons.policies),) * 2, dtype=np.bool_)
    left, right, outcome = comparisons.left, comparisons.right, comparisons.outcome
    beats[left[outcome > 0], right[outcome > 0]] = True
    beats[right[outcome < 1], left[outcome < 1]] = True
    component = dict(zip(comparisons.policies, connected_components(beats, connection=connection)[1], strict=True))
    return [policy for policy in comparisons.policies if component[policy] != component[baseline]]
