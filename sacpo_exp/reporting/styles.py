"""Colour, marker and line of each family of policies, derived from how its policies were trained."""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import seaborn

from sacpo_exp.method.policy import Merged, Policy

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


def find_styles(policies: Iterable[Policy]) -> dict[str, Style]:
    """Return the style of each family by its name.

    The colour shows the order of the criteria and how the policies are merged, the marker the losses and the adapter.
    A family has the same style in every report, unless two families get the same checksum.
    """
    families = {policy.family: policy for policy in policies}
    colours = _number((_outline(policy) for policy in families.values() if policy.parents), len(PALETTE))
    markers = _number(families, len(MARKERS))
    return {
        name: Style(
            PALETTE[colours[_outline(policy)]] if policy.parents else ELSEWHERE,
            MARKERS[markers[name]],
            _choose_line(policy),
        )
        for name, policy in families.items()
    }


def _outline(policy: Policy) -> str:
    """Return the criteria in order, and the kind of merge."""
    return " ".join([_choose_line(policy), *policy.criteria])


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
