"""Families: policies trained in the same way with different β or q, which a figure draws alike and joins."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from sacpo_exp.method.policy import write
from sacpo_exp.reporting.groups import Evaluation
from sacpo_exp.reporting.styles import Style, find_styles
from sacpo_exp.statistics.intervals import Estimate

Axes = tuple[str, str]


class Drawn(Protocol):
    """A policy with what a figure needs to know: its win rates, and of a mean those of its seeds."""

    @property
    def policy(self) -> Evaluation: ...
    def rate(self, criterion: str) -> Estimate: ...
    @property
    def seeds(self) -> "Sequence[Drawn]": ...


@dataclass(frozen=True)
class Family:
    """Policies that share their style, in the order of the tables: by β, then q.

    Attributes:
        axes: names of the criteria that are x and y.
    """

    name: str
    rows: list[Drawn]
    style: Style
    axes: Axes

    def x(self, row: Drawn) -> Estimate:
        """The win rate that is drawn from left to right."""
        return row.rate(self.axes[0])

    def y(self, row: Drawn) -> Estimate:
        """The win rate that is drawn from bottom to top."""
        return row.rate(self.axes[1])

    def point(self, row: Drawn) -> tuple[float, float]:
        """Where a policy is drawn."""
        return self.x(row).value, self.y(row).value

    @property
    def lines(self) -> list[list[Drawn]]:
        """Points to join: those that differ in weights (q) alone, or where these do not vary, in β alone."""
        has_ratios = len({row.policy.policy.weights for row in self.rows}) > 1
        lines = defaultdict(list)
        for row in self.rows:
            fixed = row.policy.beta if has_ratios else row.policy.policy.weights
            lines[fixed, row.policy.labels.get("seed")].append(row)
        return list(lines.values())

    def label(self, row: Drawn) -> str:
        """q of a merged policy, with β where that varies too; β of any other."""
        policy = row.policy.policy
        has_betas = len({other.policy.beta for other in self.rows}) > 1
        numbers = policy.numbers | ({"β": policy.beta} if has_betas and policy.beta is not None else {})
        return " ".join(f"{symbol}={write(value)}" for symbol, value in numbers.items()) + row.policy.tag


def find_families(rows: Sequence[Drawn], axes: Axes, beside: Iterable[Drawn] = ()) -> list[Family]:
    """The families of what can be drawn: policies with both win rates, without the baseline.

    Args:
        axes: names of the criteria that are x and y.
        beside: what else is drawn in the same figure.
    """
    by_name = defaultdict(list)
    for row in rows:
        is_drawable = not any(math.isnan(row.rate(name).value) for name in axes)
        if is_drawable and not row.policy.is_baseline:
            by_name[row.policy.policy.family].append(row)
    styles = find_styles(row.policy.policy for row in [*(row for own in by_name.values() for row in own), *beside])
    return [Family(name, members, styles[name], axes) for name, members in by_name.items()]
