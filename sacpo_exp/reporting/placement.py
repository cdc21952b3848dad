"""Where labels go beside points so that they don't cover one another. Pure; all lengths in pixels."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Pair = tuple[float, float]

RINGS = 16
STEP = 7.0  # between two rings
DIRECTIONS = 16


@dataclass(frozen=True)
class Box:
    """An upright rectangle."""

    left: float
    bottom: float
    right: float
    top: float

    @property
    def centre(self) -> Pair:
        return (self.left + self.right) / 2, (self.bottom + self.top) / 2

    def overlap(self, other: "Box") -> float:
        """Area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(0.0, width) * max(0.0, height)

    def distance(self, point: Pair) -> float:
        """From a point to the nearest edge; 0 inside."""
        x = max(self.left - point[0], 0.0, point[0] - self.right)
        y = max(self.bottom - point[1], 0.0, point[1] - self.top)
        return math.hypot(x, y)

    def holds(self, other: "Box") -> bool:
        """Whether all of `other` lies inside."""
        return (self.left <= other.left and other.right <= self.right) and (
            self.bottom <= other.bottom and other.top <= self.top
        )


def place_labels(
    anchors: Sequence[Pair], sizes: Sequence[Pair], obstacles: Sequence[Box], bounds: Box, gap: float
) -> list[Box]:
    """A box for each label, one label after the other, each at the cheapest of a fixed set of places around its point.

    Dearest is to cover another label, then to cover a marker or line, then to be far away; the same input gives the
    same places. Labels stay within `bounds` if there is any such place.

    Args:
        anchors: the points, (x, y).
        sizes: of the labels, (width, height).
        obstacles: markers and lines.
        gap: least distance between a point and its label, in x or in y.
    """
    placed: list[Box] = []

    def cost(option: tuple[float, Box]) -> float:
        distance, box = option
        on_labels = sum(box.overlap(other) for other in placed)
        on_marks = sum(box.overlap(other) for other in obstacles)
        return 1e6 * on_labels + on_marks + distance

    for anchor, size in zip(anchors, sizes, strict=True):
        options = list(_options(anchor, size, gap))
        placed.append(min([option for option in options if bounds.holds(option[1])] or options, key=cost)[1])
    return placed


def _options(anchor: Pair, size: Pair, gap: float) -> Iterator[tuple[float, Box]]:
    """(distance, box) in rings around the point, each from the upper right on, where a reader looks first."""
    (x, y), (width, height) = anchor, size
    for distance in (gap + ring * STEP for ring in range(RINGS)):
        for turn in range(DIRECTIONS):
            angle = math.pi / 4 + 2 * math.pi * turn / DIRECTIONS
            left = x + math.cos(angle) * (distance + width / 2) - width / 2
            bottom = y + math.sin(angle) * (distance + height / 2) - height / 2
            yield distance, Box(left, bottom, left + width, bottom + height)
