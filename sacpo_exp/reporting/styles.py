"""Colour, marker and line of each family, by its name alone: the same in every panel, figure, page and report.

What the paper draws in one panel differs in colour and marker; any two families differ in marker at least, where people
with a colour vision deficiency can't tell their colours apart.
"""

import hashlib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import seaborn

from sacpo_exp.config.schema import Criterion, MergeMethod
from sacpo_exp.reporting.family_names import FamilyName, read_family

Colour = tuple[float, float, float]
Place = tuple[int, str]

BLUE, ORANGE, GREEN, RED, PURPLE, TAN, PINK, GREY, YELLOW, SKY, INK = range(11)  # in seaborn's `colorblind`, INK apart
INK_COLOUR: Final = (0.25, 0.25, 0.25)
MARKERS: Final = "osD^v<>PXph*dH"

#: Place in the palette, and marker, by how is merged, the losses of the stages, and whether helpfulness is first. The
#: pale colours go to the rarest.
TABLE: Final[dict[tuple[MergeMethod | None, str, bool], Place]] = {
    (None, "dpo", True): (BLUE, "o"),
    (None, "dpo", False): (PURPLE, "s"),
    (None, "kto", True): (TAN, "p"),
    (None, "kto", False): (PINK, "h"),
    (None, "dpo dpo", True): (RED, "^"),
    (None, "dpo kto", True): (ORANGE, "D"),
    (None, "kto dpo", True): (GREEN, "P"),
    (None, "kto kto", True): (YELLOW, "*"),
    (None, "dpo dpo", False): (SKY, "v"),
    (None, "dpo kto", False): (ORANGE, ">"),
    (None, "kto dpo", False): (GREY, "<"),
    (None, "kto kto", False): (BLUE, "H"),
    (MergeMethod.linear, "dpo dpo", True): (GREEN, "X"),
    (MergeMethod.linear, "dpo kto", True): (SKY, "X"),
    (MergeMethod.linear, "kto dpo", True): (PURPLE, "X"),
    (MergeMethod.linear, "kto kto", True): (TAN, "X"),
    (MergeMethod.linear, "dpo dpo", False): (ORANGE, "*"),
    (MergeMethod.linear, "dpo kto", False): (RED, "*"),
    (MergeMethod.linear, "kto dpo", False): (PINK, "*"),
    (MergeMethod.linear, "kto kto", False): (GREY, "*"),
    (MergeMethod.naive, "dpo dpo", True): (GREY, "d"),
    (MergeMethod.naive, "dpo dpo", False): (TAN, "d"),
    (MergeMethod.naive, "kto kto", True): (YELLOW, "d"),
    (MergeMethod.naive, "kto kto", False): (PINK, "d"),
}
#: What the table leaves: for families with an adapter, and in quieter colours for those made elsewhere.
ADAPTED: Final = [
    place
    for place in itertools.product((BLUE, ORANGE, GREEN, RED, PURPLE, SKY), MARKERS)
    if place not in TABLE.values()
]
ELSEWHERE: Final = [
    place for place in itertools.product((INK, TAN, PINK, GREY, YELLOW), MARKERS) if place not in TABLE.values()
]


@dataclass(frozen=True)
class Style:
    """Colour as three channels in [0, 1]; marker and line in matplotlib's letters."""

    colour: Colour
    marker: str
    line: str


def find_styles(names: Iterable[str]) -> dict[str, Style]:
    """The style of each family of those that are drawn together.

    One that the table does not have gets one of the other places by the hash of its name. Only where two of them meet
    there does the later in the alphabet move on to the next.
    """
    palette = [*seaborn.color_palette("colorblind", 10), INK_COLOUR]
    styles: dict[str, Style] = {}
    taken: set[Place] = set()
    for name in sorted(set(names)):
        family = read_family(name)
        place = TABLE.get(_key(family)) if family and not family.adapter else None
        if place is None:
            places = ADAPTED if family else ELSEWHERE
            start = int(hashlib.sha256(name.encode("utf-8", "replace")).hexdigest(), 16) % len(places)
            turned = places[start:] + places[:start]
            place = next((place for place in turned if place not in taken), turned[0])
            taken.add(place)
        styles[name] = Style(palette[place[0]], place[1], _choose_line(family))
    return styles


def _key(family: FamilyName) -> tuple[MergeMethod | None, str, bool]:
    losses = " ".join(loss for loss, _ in family.stages)
    return family.merge, losses, family.stages[0][1] is Criterion.helpfulness


def _choose_line(family: FamilyName | None) -> str:
    """Helpfulness first, the other order, and the two kinds of merges."""
    if family is None or family.merge is None:
        return "--" if family and family.order == "safety_first" else "-"
    return {MergeMethod.linear: ":", MergeMethod.naive: "-."}[family.merge]
