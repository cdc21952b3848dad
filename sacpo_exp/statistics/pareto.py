"""Which of several points no other is better than. Pure."""

from collections.abc import Sequence


def find_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Whether a point is on the Pareto front: no other is as good in both coordinates and better in one.

    More is better. A point with NaN is on no front and keeps no other from it.
    """
    return [x == x and y == y and not any(_beats(other, (x, y)) for other in points) for x, y in points]


def _beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] >= other[0] and one[1] >= other[1] and one != other
