"""Single verdicts between two policies each, as columns: what ratings are computed from. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Comparisons:
    """Verdicts, one per judgment; all arrays have the shape (verdicts,).

    Attributes:
        policies: ids; `left` and `right` are positions in it.
        outcome: 1 left wins, 0.5 tie, 0 right wins.
        shown: +1 left was shown first, −1 right was, 0 not known.
        prompt: number of the prompt; verdicts on one prompt hang together. None where there are no prompts.

    Raises:
        ValueError: lengths differ, a position or value is out of range, a policy meets itself.
    """

    policies: tuple[str, ...]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    outcome: NDArray[np.float64]
    shown: NDArray[np.int8]
    prompt: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        columns = (self.left, self.right, self.outcome, self.shown, *(() if self.prompt is None else (self.prompt,)))
        if len({len(column) for column in columns}) > 1:
            raise ValueError(f"columns must have the same length, but have {[len(column) for column in columns]}")
        sides = np.concatenate([self.left, self.right])
        if len(sides) and not (sides.min() >= 0 and sides.max() < len(self.policies)):
            raise ValueError(f"positions must lie in [0, {len(self.policies)}), but are {sides.min()} to {sides.max()}")
        if (self.left == self.right).any():
            raise ValueError("a policy must not be compared with itself")
        for name, column, allowed in (("outcome", self.outcome, (0, 0.5, 1)), ("shown", self.shown, (-1, 0, 1))):
            if not np.isin(column, allowed).all():
                raise ValueError(f"`{name}` must hold {allowed} only, but holds {np.setdiff1d(column, allowed)}")

    def __len__(self) -> int:
        return len(self.left)

    def select(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> "Comparisons":
        """The verdicts of a mask or of positions, in that order, among the same policies."""
        prompt = None if self.prompt is None else self.prompt[rows]
        return Comparisons(
            self.policies, self.left[rows], self.right[rows], self.outcome[rows], self.shown[rows], prompt
        )


@dataclass(frozen=True)
class Tally:
    """Verdicts of one policy, counted."""

    comparisons: int
    wins: int
    ties: int
    losses: int


def gather_comparisons(
    left: Sequence[str],
    right: Sequence[str],
    outcome: Sequence[float],
    shown: Sequence[int],
    prompts: Sequence[str] | None = None,
) -> Comparisons:
    """Columns of names to columns of numbers; the policies are sorted by id.

    Args:
        left, right: ids of the two policies, one per verdict.
        outcome, shown: as in `Comparisons`.
        prompts: ids of the prompts.
    """
    policies, sides = np.unique([*left, *right], return_inverse=True)
    return Comparisons(
        tuple(policies.tolist()),
        sides[: len(left)],
        sides[len(left) :],
        np.asarray(outcome, dtype=np.float64),
        np.asarray(shown, dtype=np.int8),
        None if prompts is None else np.unique(prompts, return_inverse=True)[1],
    )


def count_outcomes(comparisons: Comparisons) -> tuple[Tally, ...]:
    """One tally per policy, in the order of `comparisons.policies`."""
    sides = np.concatenate([comparisons.left, comparisons.right])
    own = np.concatenate([comparisons.outcome, 1 - comparisons.outcome])
    size = len(comparisons.policies)
    wins, ties, losses = (np.bincount(sides[own == value], minlength=size).tolist() for value in (1, 0.5, 0))
    return tuple(Tally(won + tied + lost, won, tied, lost) for won, tied, lost in zip(wins, ties, losses, strict=True))
