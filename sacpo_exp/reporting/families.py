"""The families of policies that a figure shows, and their colours, markers and lines."""

import math
import zlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import seaborn

from sacpo_exp.method.policy import Merged, Policy, write
from sacpo_exp.reporting.collect import Evaluation
from sacpo_exp.reporting.scores import GroupScores
from sacpo_exp.statistics.intervals import Estimate
from sacpo_exp.statistics.selection import find_front

#: Without pink, grey and yellow, which are too light for small markers.
PALETTE: Final = [seaborn.color_palette("colorblind", 10).as_hex()[index] for index in (0, 1, 2, 3, 4, 5, 9)]
ELSEWHERE: Final = "#404040"  # policies that were not trained here
MARKERS: Final = "osD^v<>PXpd"
#: Start value of the checksum with which the paper's families have colours and markers of their own.
SEED: Final = 90900


@dataclass(frozen=True)
class Style:
    """Colour as `#rrggbb`; marker and line in matplotlib's notation."""

    colour: str
    marker: str
    line: str


@dataclass(frozen=True)
class Point:
    """A policy in the figure.

    Attributes:
        gid: of its marker in an SVG file: `policy-3` for the fourth policy of the group.
        seeds: x and y of single seeds, if it is a mean over seeds.
    """

    policy: Evaluation
    gid: str
    x: Estimate
    y: Estimate
    seeds: list[tuple[float, float]]


@dataclass(frozen=True)
class Family:
    """Policies that differ in β, merge weights or seed only; they share a style and are joined by lines."""

    name: str
    style: Style
    points: list[Point]
    is_published: bool

    @property
    def lines(self) -> list[list[Point]]:
        """Points to join: they differ in their weights only, or in β only if all weights are the same."""
        has_weights = len({point.policy.policy.weights for point in self.points}) > 1
        lines = defaultdict(list)
        for point in self.points:
            fixed = point.policy.beta if has_weights else point.policy.policy.weights
            lines[fixed, point.policy.labels.get("seed")].append(point)
        return list(lines.values())

    def label(self, point: Point) -> str:
        """Return q of a merged policy, with β if that varies too; β of any other."""
        policy = point.policy.policy
        has_betas = len({other.policy.beta for other in self.points}) > 1
        numbers = policy.numbers | ({"β": policy.beta} if has_betas and policy.beta is not None else {})
        return " ".join(f"{symbol}={write(value)}" for symbol, value in numbers.items()) + point.policy.tag

    @property
    def marker(self) -> dict[str, Any]:
        """matplotlib's settings of its markers: hollow if published, else with a white edge."""
        colour = self.style.colour
        edge, face = (colour, "white") if self.is_published else ("white", colour)
        return {"color": colour, "marker": self.style.marker, "markeredgecolor": edge, "markerfacecolor": face}


def find_families(scores: GroupScores, with_published: bool = False) -> list[Family]:
    """Return the families of the policies that have both win rates, without the baseline; published ones last."""
    rows = [*scores.policies, *(scores.published.published.rows if scores.published else ())]
    styles = find_styles(row.policy.policy for row in rows if not row.policy.is_baseline)
    families: dict[tuple[str, bool], Family] = {}
    for index, row in enumerate(rows if with_published else scores.policies):
        x, y = (row.rate(name) for name in scores.axes)
        if not row.policy.is_baseline and not math.isnan(x.value + y.value):
            name, is_published = row.policy.policy.family, index >= len(scores.policies)
            family = families.setdefault((name, is_published), Family(name, styles[name], [], is_published))
            seeds = [(seed.rate(scores.axes[0]).value, seed.rate(scores.axes[1]).value) for seed in row.seeds]
            family.points.append(Point(row.policy, f"policy-{index}", x, y, seeds))
    return list(families.values())


def find_front_points(scores: GroupScores) -> list[tuple[float, float]]:
    """Return x and y of the policies that no other beats, from left to right."""
    x, y = scores.axes
    points = [(row.rate(x).value, row.rate(y).value) for row in scores.policies]
    return sorted(point for point, is_on_front in zip(points, find_front(points), strict=True) if is_on_front)


def find_styles(policies: Iterable[Policy]) -> dict[str, Style]:
    """Return the style of each family by its name.

    The colour shows the order of the criteria and how the policies are merged, the marker the losses and the adapter.
    A family has the same style in every report, unless two families get the same checksum.
    """
    families = {policy.family: policy for policy in policies}
    lines = {name: _choose_line(policy) for name, policy in families.items()}
    outlines = {name: " ".join([lines[name], *policy.criteria]) for name, policy in families.items() if policy.parents}
    colours, markers = _number(outlines.values(), len(PALETTE)), _number(families, len(MARKERS))
    return {
        name: Style(
            PALETTE[colours[outlines[name]]] if name in outlines else ELSEWHERE, MARKERS[markers[name]], lines[name]
        )
        for name in families
    }


def _choose_line(policy: Policy) -> str:
    """Return one line for each kind of merge, and for stages in alphabetical and in another order of the criteria."""
    if isinstance(policy, Merged):
        return "-." if policy.is_naive else ":"
    return "-" if list(policy.criteria) == sorted(policy.criteria) else "--"


def _number(names: Iterable[str], count: int) -> dict[str, int]:
    """Return a number below `count` for each name: its checksum, or the next one that is free."""
    numbers: dict[str, int] = {}
    for name in sorted(set(names)):
        start = zlib.crc32(name.encode("utf-8", "replace"), SEED)
        options = [(start + step) % count for step in range(count)]
        numbers[name] = next((option for option in options if option not in numbers.values()), options[0])
    return numbers
