"""Families: policies trained in the same way with different β or q, which a figure draws alike and joins."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from sacpo_exp.reporting.groups import Evaluation
from sacpo_exp.reporting.styles import Style, find_styles
from sacpo_exp.scoring.intervals import Estimate


class Drawn(Protocol):
    """A policy with what a figure needs to know: its two win rates, and of a mean those of its seeds."""

    @property
    def policy(self) -> Evaluation: ...
    @property
    def helpfulness(self) -> Estimate: ...
    @property
    def harmlessness(self) -> Estimate: ...
    @property
    def seeds(self) -> "Sequence[Drawn]": ...


@dataclass(frozen=True)
class Family:
    """Policies that share their style, in the order of the tables: by β, then q."""

    name: str
    rows: list[Drawn]
    style: Style

    @property
    def lines(self) -> list[list[Drawn]]:
        """Points to join: those that differ in q alone, or where q does not vary, in β alone."""
        has_ratios = len({row.policy.merge_ratio for row in self.rows}) > 1
        lines = defaultdict(list)
        for row in self.rows:
            fixed = row.policy.beta if has_ratios else row.policy.merge_ratio
            lines[fixed, row.policy.labels.get("seed")].append(row)
        return list(lines.values())

    def label(self, row: Drawn) -> str:
        """q of a merged policy, with β where that varies too; β of any other."""
        policy = row.policy
        has_betas = policy.merge_ratio is None or len({other.policy.beta for other in self.rows}) > 1
        numbers = (("q", policy.merge_ratio), ("β", policy.beta if has_betas else None))
        return " ".join(f"{letter}={value:g}" for letter, value in numbers if value is not None) + policy.tag


def find_families(rows: Sequence[Drawn], beside: Iterable[Drawn] = ()) -> list[Family]:
    """The families of what can be drawn: policies with both win rates, without the baseline.

    Args:
        beside: what else is drawn in the same figure.
    """
    by_name = defaultdict(list)
    for row in rows:
        is_drawable = not (math.isnan(row.helpfulness.value) or math.isnan(row.harmlessness.value))
        if is_drawable and not row.policy.is_baseline:
            by_name[row.policy.labels["family"]].append(row)
    styles = find_styles([*by_name, *(row.policy.labels["family"] for row in beside)])
    return [Family(name, members, styles[name]) for name, members in by_name.items()]
