"""Labels with β and q beside the points of a drawn figure."""

from collections.abc import Sequence
from typing import cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sacpo_exp.reporting.placement import Box, Pair, place_labels
from sacpo_exp.reporting.scores import PolicyScores

FONT_SIZE = 8
# In points:
REACH = 6.0  # half the side of a marker, with some air around it
LEADER = 9.0  # a label further away from its point than this gets a line to it
PADDING = 1.5  # around a text


def label_points(
    axes: Axes, families: Sequence[Sequence[PolicyScores]], lines: Sequence[Sequence[PolicyScores]], baseline: Pair
) -> None:
    """Write β, or q, beside every point. The layout of the figure must be final.

    Args:
        families: the points, by family.
        lines: the points that are joined.
    """
    figure = cast(Figure, axes.get_figure(root=True))
    pixels = figure.dpi / 72  # per point
    rows = [row for family in families for row in family]
    texts = [_label(row, family) for family in families for row in family]
    anchors = [_to_pixels(axes, _point(row)) for row in rows]
    obstacles = [_around(place, REACH * pixels) for place in [*anchors, _to_pixels(axes, baseline)]]
    for row in rows:
        obstacles += _bars(axes, row)
    for line in lines:
        obstacles += _dots(np.array([_to_pixels(axes, _point(row)) for row in line]))
    inner = axes.get_window_extent()
    bounds = Box(inner.x0, inner.y0, inner.x1, inner.y1)
    sizes = [_measure(axes, text, PADDING * pixels) for text in texts]
    boxes = place_labels(anchors, sizes, obstacles, bounds, REACH * pixels)
    for row, text, anchor, box in zip(rows, texts, anchors, boxes, strict=True):
        offset = (box.centre[0] - anchor[0]) / pixels, (box.centre[1] - anchor[1]) / pixels
        is_far = box.distance(anchor) > LEADER * pixels
        _write(axes, text, _point(row), offset, is_far)


def _label(row: PolicyScores, family: Sequence[PolicyScores]) -> str:
    """q of a merged policy, with β where that varies too; β of any other."""
    policy = row.policy
    has_betas = policy.merge_ratio is None or len({other.policy.beta for other in family}) > 1
    numbers = (("q", policy.merge_ratio), ("β", policy.beta if has_betas else None))
    return " ".join(f"{letter}={value:g}" for letter, value in numbers if value is not None) + policy.tag


def _point(row: PolicyScores) -> Pair:
    return row.helpfulness.value, row.harmlessness.value


def _to_pixels(axes: Axes, point: Pair) -> Pair:
    x, y = axes.transData.transform(point)
    return float(x), float(y)


def _around(place: Pair, reach: float) -> Box:
    return Box(place[0] - reach, place[1] - reach, place[0] + reach, place[1] + reach)


def _bars(axes: Axes, row: PolicyScores) -> list[Box]:
    """The two error bars as thin boxes; none without intervals."""
    x, y = row.helpfulness, row.harmlessness
    ends = [((x.low, y.value), (x.high, y.value)), ((x.value, y.low), (x.value, y.high))]
    boxes = []
    for start, end in ends:
        if not np.isnan([*start, *end]).any():
            (left, bottom), (right, top) = _to_pixels(axes, start), _to_pixels(axes, end)
            boxes.append(Box(left - 1, bottom - 1, right + 1, top + 1))
    return boxes


def _dots(corners: np.ndarray) -> list[Box]:
    """A line through `corners`, shape (n, 2), as a row of small boxes."""
    boxes = []
    for start, end in zip(corners[:-1], corners[1:], strict=True):
        for share in np.linspace(0, 1, 2 + int(np.hypot(*(end - start)) / 6)):
            x, y = start + share * (end - start)
            boxes.append(_around((float(x), float(y)), 2.0))
    return boxes


def _measure(axes: Axes, text: str, padding: float) -> Pair:
    """Width and height in pixels."""
    artist = axes.text(0, 0, text, fontsize=FONT_SIZE)
    canvas = cast(FigureCanvasAgg, cast(Figure, axes.get_figure(root=True)).canvas)
    extent = artist.get_window_extent(canvas.get_renderer())  # type: ignore[no-untyped-call]
    artist.remove()
    return extent.width + 2 * padding, extent.height + 2 * padding


def _write(axes: Axes, text: str, point: Pair, offset: Pair, is_far: bool) -> None:
    line = {"arrowstyle": "-", "color": "0.4", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3} if is_far else None
    axes.annotate(
        text,
        point,
        offset,
        textcoords="offset points",
        fontsize=FONT_SIZE,
        ha="center",
        va="center",
        arrowprops=line,
        zorder=6,
    )
