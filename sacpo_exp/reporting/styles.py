"""Colour, marker and line of each family, derived from its policies: the same in every figure, page and report.

The colour comes from the order of the criteria, the marker from the losses; merges have the line and the marker of their
kind. Families that would look alike differ in marker at least, where people with a colour vision deficiency can't tell
colours apart.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import seaborn

from sacpo_exp.method.losses import LOSSES
from sacpo_exp.method.policy import Merged, Policy

Colour = tuple[float, float, float]
MARKERS: Final = "osD^v<>PXph*dH"


@dataclass(frozen=True)
class Style:
    """Colour as three channels in [0, 1]; marker and line in matplotlib's letters."""

    colour: Colour
    marker: str
    line: str


def find_styles(policies: Iterable[Policy]) -> dict[str, Style]:
    """The style of each family of those that are drawn together, by its name.

    A family keeps its style whatever is drawn beside it, unless two meet: then the later one in the alphabet moves on
    to the next marker.
    """
    palette = seaborn.color_palette("colorblind", 10)
    families = {policy.family: policy for policy in policies}
    styles: dict[str, Style] = {}
    taken: set[tuple[int, str]] = set()
    for name, policy in sorted(families.items()):
        colour = _number(" ".join(policy.criteria) + (policy.stages[-1].adapter if policy.stages else name)) % 10
        place = _choose_marker(policy)
        while (colour, MARKERS[place % len(MARKERS)]) in taken and place < 2 * len(MARKERS):
            place += 1
        taken.add((colour, MARKERS[place % len(MARKERS)]))
        styles[name] = Style(palette[colour], MARKERS[place % len(MARKERS)], _choose_line(policy))
    return styles


def _number(text: str) -> int:
    """A number that hangs on the text alone."""
    return int(hashlib.sha256(text.encode("utf-8", "replace")).hexdigest(), 16)


def _choose_marker(policy: Policy) -> int:
    """Place of the first marker to try: by the losses, and for merges by the kind of merge."""
    losses = [list(LOSSES).index(stage.loss) for stage in policy.aligned if stage.loss in LOSSES]
    if isinstance(policy, Merged):
        return MARKERS.index("d" if policy.is_naive else "X")
    return sum(losses) + 3 * max(0, len(losses) - 1)


def _choose_line(policy: Policy) -> str:
    """Stages in one line, and the two kinds of merges."""
    if isinstance(policy, Merged):
        return "-." if policy.is_naive else ":"
    return "-"
