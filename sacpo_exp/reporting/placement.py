"""Where labels go beside points so that they don't cover one another. Pure; all lengths in pixels."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pair = tuple[float, float]

RINGS = 24
STEP = 7.0  # between two rings
DIRECTIONS = 24
SPACING = 6.0  # between the boxes that stand for a slanting line


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


def around(place: Pair, reach: float) -> Box:
    """The square from `reach` left of to `reach` right of `place`."""
    return Box(place[0] - reach, place[1] - reach, place[0] + reach, place[1] + reach)


def dots(start: Pair, end: Pair) -> list[Box]:
    """A slanting line as a row of small boxes."""
    steps = 1 + int(math.dist(start, end) / SPACING)
    shares = [step / steps for step in range(steps + 1)]
    return [around((start[0] + s * (end[0] - start[0]), start[1] + s * (end[1] - start[1])), 2.0) for s in shares]


def place_labels(
    anchors: Sequence[Pair], sizes: Sequence[Pair], obstacles: Sequence[Box], bounds: Box, gap: float
) -> list[Box]:
    """A box for each label, one label after the other, each at the cheapest of a fixed set of places around its point.

    Dearest is to cover another label, or that the way from a label to its point leads over one; then to cover a marker
    or line; then to be far away. The same input gives the same places, within `bounds` if there are any.

    Args:
        anchors: the points, (x, y).
        sizes: of the labels, (width, height).
        obstacles: markers and lines.
        gap: least distance between a point and its label, in x or in y.
    """
    placed: list[Box] = []
    # As arrays: each of thousands of places is compared with all of them.
    covered, labels, ways = _as_array(obstacles), _as_array([]), _as_array([])
    for anchor, size in zip(anchors, sizes, strict=True):
        least, best = math.inf, Box(*anchor, *anchor)
        for distance, box in _options(anchor, size, gap):
            if distance >= least:  # nothing further out can be cheaper
                break
            cost = distance + 3 * _overlap([box], covered) + 1e6 * _overlap([box], labels)
            cost += 50 * (_overlap(_way(anchor, box, gap), labels) + _overlap([box], ways))
            cost += 0.0 if bounds.holds(box) else 1e9
            if cost < least:
                least, best = cost, box
        placed.append(best)
        labels = np.vstack([labels, _as_array([best])])
        ways = np.vstack([ways, _as_array(_way(anchor, best, gap))])
    return placed


def _as_array(boxes: Sequence[Box]) -> NDArray[np.float64]:
    """Left, bottom, right and top of each; shape (boxes, 4)."""
    rows = [(box.left, box.bottom, box.right, box.top) for box in boxes]
    return np.array(rows, np.float64).reshape(-1, 4)


def _overlap(boxes: Sequence[Box], others: NDArray[np.float64]) -> float:
    """Area that any of `boxes` covers of any of `others`, summed over all pairs."""
    if not boxes or not len(others):
        return 0.0
    own = _as_array(boxes)[:, None]
    sides = np.minimum(own[..., 2:], others[:, 2:]) - np.maximum(own[..., :2], others[:, :2])
    return float(np.prod(np.maximum(sides, 0.0), axis=2).sum())


def _way(anchor: Pair, box: Box, gap: float) -> list[Box]:
    """Where a line from the label to its point runs, without its two ends."""
    return [dot for dot in dots(anchor, box.centre) if dot.distance(anchor) > gap and not dot.overlap(box)]


def _options(anchor: Pair, size: Pair, gap: float) -> Iterator[tuple[float, Box]]:
    """(distance, box) in rings around the point, each from the upper right on, where a reader looks first."""
    (x, y), (width, height) = anchor, size
    for distance in (gap + ring * STEP for ring in range(RINGS)):
        for turn in range(DIRECTIONS):
            angle = math.pi / 4 + 2 * math.pi * turn / DIRECTIONS
            # Left or right of the point, above or below it, or at a corner, as the direction says.
            middle_x = x + math.cos(angle) * distance + _clamp(1.5 * math.cos(angle)) * width / 2
            middle_y = y + math.sin(angle) * distance + _clamp(1.5 * math.sin(angle)) * height / 2
            yield (
                distance,
                Box(middle_x - width / 2, middle_y - height / 2, middle_x + width / 2, middle_y + height / 2),
            )


def _clamp(value: float) -> float:
    return max(-1.0, min(1.0, value))
