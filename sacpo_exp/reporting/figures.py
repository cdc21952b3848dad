"""The trade-off figure: helpfulness against harmlessness of every policy of a group."""

import io
from collections.abc import Sequence

import matplotlib.style
import numpy as np
import seaborn
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sacpo_exp.reporting.families import Family, find_families
from sacpo_exp.reporting.labelling import label_points
from sacpo_exp.reporting.numbers import shorten
from sacpo_exp.reporting.scores import GroupScores, PolicyScores
from sacpo_exp.scoring.intervals import Estimate

DPI = 150
MARGIN = 0.08  # of the span of the data, around it
LONGEST_NAME = 36  # characters in the legend, which takes its width from the axes
BASELINE = 0.5  # a policy against itself: all ties


def draw_trade_off(scores: GroupScores) -> dict[str, bytes]:
    """The figure as content of a `png` and of an `svg` file, the same bytes for the same scores.

    x and y are win rates against the baseline in [0, 1] with their intervals; a policy that lacks one of the two is
    left out.
    """
    style = {"svg.hashsalt": "sacpo_exp", "grid.color": "0.9", "axes.edgecolor": "0.6"}
    # "default" first: the reader's own matplotlibrc must not change the bytes.
    with matplotlib.style.context(["default", dict(seaborn.axes_style("whitegrid")), style]):
        figure = draw_figure(scores)
        return {"png": _save(figure, "png", {}), "svg": _save(figure, "svg", {"Date": None})}


def draw_figure(scores: GroupScores) -> Figure:
    """The figure, with its layout fixed and its labels placed for that layout."""
    figure = Figure(figsize=(8, 5), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    names = [row.policy.name for row in scores.policies if row.policy.is_baseline] or ["baseline"]
    name = shorten(names[0], LONGEST_NAME)
    axes.plot(BASELINE, BASELINE, "x", color="black", markersize=9, markeredgewidth=2, label=name, zorder=5)
    families = find_families(scores.policies)
    for family in families:
        _draw_family(axes, family)
    _frame(axes, [row for family in families for row in family.rows])
    _explain(figure, axes, scores)
    # The layout has to be final before texts can be measured against it.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    label_points(axes, families, (BASELINE, BASELINE))
    return figure


def _draw_family(axes: Axes, family: Family) -> None:
    colour, marker = family.style.colour, family.style.marker
    for row in family.rows:
        x, y = row.helpfulness, row.harmlessness
        axes.errorbar(x.value, y.value, _bar(y), _bar(x), "none", ecolor=colour, elinewidth=1, alpha=0.45, zorder=2)
        axes.plot(*_values(row.seeds), marker, color=colour, ms=4, markeredgewidth=0, alpha=0.4, zorder=2)
    for line in family.lines:
        axes.plot(*_values(line), family.style.line, color=colour, linewidth=0.8, zorder=3)
    name = shorten(family.name, LONGEST_NAME)
    axes.plot(*_values(family.rows), marker, color=colour, ms=8, markeredgecolor="white", label=name, zorder=4)


def _values(rows: Sequence[PolicyScores]) -> tuple[list[float], list[float]]:
    return [row.helpfulness.value for row in rows], [row.harmlessness.value for row in rows]


def _bar(estimate: Estimate) -> list[list[float]]:
    """Lengths below and above, none without an interval; shape (2, 1)."""
    lengths = (estimate.value - estimate.low, estimate.high - estimate.value)
    return [[float(np.nan_to_num(max(0.0, length)))] for length in lengths]


def _frame(axes: Axes, rows: Sequence[PolicyScores]) -> None:
    """Limits that hold every point and error bar with a margin, and no tick where no win rate can be."""
    seeds = [seed for row in rows for seed in row.seeds]
    for axis, set_limits, estimates, single in (
        (axes.xaxis, axes.set_xlim, [row.helpfulness for row in rows], [row.helpfulness.value for row in seeds]),
        (axes.yaxis, axes.set_ylim, [row.harmlessness for row in rows], [row.harmlessness.value for row in seeds]),
    ):
        found = [*single, *(end for e in estimates for end in (e.value, e.low, e.high))]
        ends = [BASELINE, *(end for end in found if not np.isnan(end))]
        margin = max(0.05, MARGIN * (max(ends) - min(ends)))
        low, high = min(ends) - margin, max(ends) + margin
        set_limits(low, high)
        ticks = [round(tick, 6) for tick in MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)]
        axis.set_ticks([tick for tick in ticks if max(low, 0) <= tick <= min(high, 1)])


def _explain(figure: Figure, axes: Axes, scores: GroupScores) -> None:
    axes.set_xlabel("helpfulness: win rate against the baseline (share of benign prompts)")
    axes.set_ylabel("harmlessness: win rate against the baseline\n(share of risky prompts)")
    axes.set_title(shorten(scores.group.heading, 90), loc="left", fontsize=9)
    title = f"bars: {100 * scores.confidence:g} % intervals"
    title += "\nsmall: single seeds" if any(row.seeds for row in scores.policies) else ""
    figure.legend(loc="outside right upper", title=title, fontsize=9, title_fontsize=9, frameon=False, alignment="left")


def _save(figure: Figure, kind: str, metadata: dict[str, None]) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format=kind, metadata=metadata)
    return content.getvalue()
