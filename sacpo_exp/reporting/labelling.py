"""Labels with β and q beside the points of a drawn figure."""

import itertools
from collections.abc import Sequence
from typing import cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sacpo_exp.reporting.families import Drawn, Family
from sacpo_exp.reporting.placement import Box, Pair, around, dots, place_labels

FONT_SIZE = 8.0
DARKER = 0.7  # factor on a family's colour, so that small text in it can be read
# In sizes of the text:
REACH = 0.75  # half the side of a marker, with some air around it
LEADER = 1.6  # a label further away from its point than this gets a line to it
PADDING = 0.2  # around a text


def label_points(axes: Axes, families: Sequence[Family], marks: Sequence[Pair], size: float = FONT_SIZE) -> None:
    """Write β, or q, beside every point, in its family's colour. The layout of the figure must be final.

    Args:
        marks: other points, which have no label and must not be covered.
        size: of the text, in points.
    """
    pixels = cast(Figure, axes.get_figure(root=True)).dpi / 72  # per point
    reach = REACH * size * pixels
    points = [(family, row) for family in families for row in family.rows]
    anchors = [_to_pixels(axes, family.point(row)) for family, row in points]
    sizes = [_measure(axes, family.label(row), size, PADDING * size * pixels) for family, row in points]
    inner = axes.get_window_extent()
    bounds = Box(inner.x0, inner.y0, inner.x1, inner.y1)
    obstacles = [around(place, reach) for place in [*anchors, *(_to_pixels(axes, mark) for mark in marks)]]
    obstacles += _find_lines(axes, families)
    boxes = place_labels(anchors, sizes, obstacles, bounds, reach)
    for (family, row), anchor, box in zip(points, anchors, boxes, strict=True):
        offset = (box.centre[0] - anchor[0]) / pixels, (box.centre[1] - anchor[1]) / pixels
        has_leader = box.distance(anchor) > LEADER * size * pixels
        _write(axes, family, row, offset, size, has_leader)


def _find_lines(axes: Axes, families: Sequence[Family]) -> list[Box]:
    """Error bars and joining lines, as boxes."""
    boxes = []
    for family in families:
        for row in family.rows:
            boxes += _bars(axes, family, row)
        for line in family.lines:
            corners = [_to_pixels(axes, family.point(row)) for row in line]
            for start, end in itertools.pairwise(corners):
                boxes += dots(start, end)
    return boxes


def _to_pixels(axes: Axes, point: Pair) -> Pair:
    x, y = axes.transData.transform(point)
    return float(x), float(y)


def _bars(axes: Axes, family: Family, row: Drawn) -> list[Box]:
    """The two error bars as thin boxes; none without intervals."""
    x, y = family.x(row), family.y(row)
    ends = [((x.low, y.value), (x.high, y.value)), ((x.value, y.low), (x.value, y.high))]
    boxes = []
    for start, end in ends:
        if not np.isnan([*start, *end]).any():
            (left, bottom), (right, top) = _to_pixels(axes, start), _to_pixels(axes, end)
            boxes.append(Box(left - 1, bottom - 1, right + 1, top + 1))
    return boxes


def _measure(axes: Axes, text: str, size: float, padding: float) -> Pair:
    """Width and height in pixels."""
    artist = axes.text(0, 0, text, fontsize=size)
    canvas = cast(FigureCanvasAgg, cast(Figure, axes.get_figure(root=True)).canvas)
    extent = artist.get_window_extent(canvas.get_renderer())
    artist.remove()
    return extent.width + 2 * padding, extent.height + 2 * padding


def _write(axes: Axes, family: Family, row: Drawn, offset: Pair, size: float, has_leader: bool) -> None:
    colour = [DARKER * channel for channel in family.style.colour]
    line = (
        {"arrowstyle": "-", "color": colour, "linewidth": size / 16, "shrinkA": 0, "shrinkB": 3} if has_leader else None
    )
    axes.annotate(
        family.label(row),
        family.point(row),
        offset,
        textcoords="offset points",
        color=colour,
        fontsize=size,
        ha="center",
        va="center",
        arrowprops=line,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.5},  # over bars and lines
        zorder=6,
    )
