"""What every trade-off figure is made of: points with intervals, joined within families; limits; files."""

import io
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib.style
import numpy as np
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sacpo_exp.reporting.families import Drawn, Family
from sacpo_exp.statistics.intervals import Estimate

MARGIN = 0.08  # of the span of the data, around it
LONGEST_NAME = 36  # characters in a legend
BASELINE = 0.5  # a policy against itself: all ties
POINT = 8.0  # size of a marker, points


def plain_style(*further: dict[str, Any]) -> AbstractContextManager[None]:
    """Settings of matplotlib under which the same numbers give the same bytes."""
    style = {"svg.hashsalt": "sacpo_exp", "grid.color": "0.9", "axes.edgecolor": "0.6", "text.parse_math": False}
    # "default" first: the reader's own matplotlibrc must not change the bytes.
    context: AbstractContextManager[None] = matplotlib.style.context(
        ["default", dict(seaborn.axes_style("whitegrid")), style, *further]
    )
    return context


def draw_baseline(axes: Axes, size: float = POINT, **further: Any) -> None:
    """A cross where the baseline is."""
    cross: dict[str, Any] = {"color": "black", "markersize": size + 1, "markeredgewidth": size / 4, "zorder": 5}
    axes.plot(BASELINE, BASELINE, "x", **cross, **further)


def draw_family(axes: Axes, family: Family, size: float = POINT, **further: Any) -> None:
    """Points, their intervals, single seeds of means, and what joins them."""
    style, width = family.style, size / 10
    for row in family.rows:
        x, y = family.x(row), family.y(row)
        bars: dict[str, Any] = {"ecolor": style.colour, "elinewidth": 1.25 * width, "alpha": 0.45, "zorder": 2}
        axes.errorbar(x.value, y.value, _bar(y), _bar(x), "none", **bars)
        if row.seeds:
            small: dict[str, Any] = {"ms": size / 2, "markeredgewidth": 0, "alpha": 0.4, "zorder": 2}
            axes.plot(*_values(family, row.seeds), style.marker, color=style.colour, **small)
    for line in family.lines:
        axes.plot(*_values(family, line), style.line, color=style.colour, linewidth=width, zorder=3)
    axes.plot(*_values(family, family.rows), style.marker, ms=size, zorder=4, **colour_marker(family, size), **further)


def draw_hollow(axes: Axes, family: Family, size: float = POINT) -> None:
    """Points alone, of policies that others have measured."""
    axes.plot(
        *_values(family, family.rows), family.style.marker, ms=size, zorder=3.5, **colour_marker(family, size, True)
    )


def join(axes: Axes, family: Family, one: Drawn, other: Drawn) -> None:
    """A thin line between two that are the same policy."""
    axes.plot(*_values(family, [one, other]), color="0.35", linewidth=0.4, zorder=2.5)


def colour_marker(family: Family, size: float, is_hollow: bool = False) -> dict[str, Any]:
    """Face and edge of a family's markers: white around full ones, so that one over another is seen."""
    colour = family.style.colour
    edge, face = (colour, "white") if is_hollow else ("white", colour)
    return {"color": colour, "markeredgecolor": edge, "markerfacecolor": face, "markeredgewidth": size / 12}


def _values(family: Family, rows: Sequence[Drawn]) -> tuple[list[float], list[float]]:
    return [family.x(row).value for row in rows], [family.y(row).value for row in rows]


def _bar(estimate: Estimate) -> list[list[float]]:
    """Lengths below and above, none without an interval; shape (2, 1)."""
    lengths = (estimate.value - estimate.low, estimate.high - estimate.value)
    return [[float(np.nan_to_num(max(0.0, length)))] for length in lengths]


def set_limits(axes: Axes, families: Sequence[Family], ticks: int = 7) -> None:
    """Limits that hold every point and error bar with a margin, and no tick where no win rate can be."""
    rows = [(family, row) for family in families for row in family.rows]
    for place, axis in enumerate((axes.xaxis, axes.yaxis)):
        estimates = [row.rate(family.axes[place]) for family, row in rows]
        found = [seed.rate(family.axes[place]).value for family, row in rows for seed in row.seeds]
        found += [end for estimate in estimates for end in (estimate.value, estimate.low, estimate.high)]
        ends = [BASELINE, *(end for end in found if not np.isnan(end))]
        margin = max(0.05, MARGIN * (max(ends) - min(ends)))
        low, high = min(ends) - margin, max(ends) + margin
        (axes.set_ylim if place else axes.set_xlim)(low, high)
        ticks_inside = [
            round(tick, 6) for tick in MaxNLocator(nbins=ticks, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        ]
        axis.set_ticks([tick for tick in ticks_inside if max(low, 0) <= tick <= min(high, 1)])


def save_figure(figure: Figure, kind: str, metadata: dict[str, None]) -> bytes:
    """The content of a file of this kind."""
    content = io.BytesIO()
    figure.savefig(content, format=kind, metadata=metadata)
    return content.getvalue()
