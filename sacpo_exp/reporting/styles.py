"""Colour, marker and line of each family: the same in every panel, figure, page and report.

What the paper draws in one panel differs in colour and marker; any two families differ in marker at least, where people
with a colour vision deficiency can't tell their colours apart.
"""

import hashlib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import seaborn

from sacpo_exp.method.policy import Merged, Policy

Colour = tuple[float, float, float]
Place = tuple[int, str]

BLUE, ORANGE, GREEN, RED, PURPLE, TAN, PINK, GREY, YELLOW, SKY, INK = range(11)  # in seaborn's `colorblind`, INK apart
INK_COLOUR: Final = (0.25, 0.25, 0.25)
MARKERS: Final = "osD^v<>PXph*dH"

#: Place in the palette, and marker, of the families that the paper draws.
PAPER: Final[dict[str, Place]] = {
    "DPO(H)": (BLUE, "o"),
    "DPO(S)": (PURPLE, "s"),
    "KTO(H)": (TAN, "p"),
    "DPO(H)→DPO(S)": (RED, "^"),
    "DPO(H)→KTO(S)": (ORANGE, "D"),
    "KTO(H)→DPO(S)": (GREEN, "P"),
    "DPO(S)→DPO(H)": (SKY, "v"),
    "P-SACPO DPO(H)→DPO(S)": (GREEN, "X"),
    "naive DPO(H)+DPO(S)": (GREY, "d"),
}
#: For all others that were trained here, and in quieter colours for those made elsewhere.
TRAINED: Final = [
    place
    for place in itertools.product((BLUE, ORANGE, GREEN, RED, PURPLE, SKY), MARKERS)
    if place not in PAPER.values()
]
ELSEWHERE: Final = [
    place for place in itertools.product((INK, TAN, PINK, GREY, YELLOW), MARKERS) if place not in PAPER.values()
]


@dataclass(frozen=True)
class Style:
    """Colour as three channels in [0, 1]; marker and line in matplotlib's letters."""

    colour: Colour
    marker: str
    line: str


def find_styles(policies: Iterable[Policy]) -> dict[str, Style]:
    """The style of each family of those that are drawn together, by its name.

    One that the paper does not have gets one of the other places by the hash of its name. Only where two of them meet
    there does the later in the alphabet move on to the next.
    """
    palette = [*seaborn.color_palette("colorblind", 10), INK_COLOUR]
    styles: dict[str, Style] = {}
    taken: set[Place] = set()
    for name, policy in sorted({policy.family: policy for policy in policies}.items()):
        place = PAPER.get(name)
        if place is None:
            places = TRAINED if policy.parents else ELSEWHERE
            start = int(hashlib.sha256(name.encode("utf-8", "replace")).hexdigest(), 16) % len(places)
            turned = places[start:] + places[:start]
            place = next((place for place in turned if place not in taken), turned[0])
            taken.add(place)
        styles[name] = Style(palette[place[0]], place[1], _choose_line(policy))
    return styles


def _choose_line(policy: Policy) -> str:
    """The two kinds of merges, and stages whose criteria are in the order of the alphabet or in another."""
    if isinstance(policy, Merged):
        return "-." if policy.is_naive else ":"
    return "-" if list(policy.criteria) == sorted(policy.criteria) else "--"
