"""The trade-off figure: helpfulness against harmlessness of every policy of a group."""

import io
from collections import defaultdict
from collections.abc import Sequence

import matplotlib.style
import numpy as np
import seaborn  # type: ignore[import-untyped]
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sacpo_exp.reporting.labelling import label_points
from sacpo_exp.reporting.scores import GroupScores, PolicyScores
from sacpo_exp.scoring.intervals import Estimate

DPI = 150
MARKERS = "osD^vPXp"  # with the ten colours of the palette: 40 families before two look alike
MARGIN = 0.08  # of the span of the data, around it
BASELINE = 0.5  # a policy against itself: all ties


def draw_trade_off(scores: GroupScores) -> dict[str, bytes]:
    """The figure as content of a `png` and of an `svg` file, the same bytes for the same scores.

    x and y are win rates against the baseline in [0, 1] with their intervals; a policy that lacks one of the two is
    left out.
    """
    style = {"svg.hashsalt": "sacpo_exp", "grid.color": "0.9", "axes.edgecolor": "0.6"}
    # "default" first: the reader's own matplotlibrc must not change the bytes.
    with matplotlib.style.context(["default", dict(seaborn.axes_style("whitegrid")), style]):
        figure = _draw(scores)
        return {"png": _save(figure, "png", {}), "svg": _save(figure, "svg", {"Date": None})}


def _draw(scores: GroupScores) -> Figure:
    figure = Figure(figsize=(8, 5), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    shown = [row for row in scores.policies if row.helpfulness.n and row.harmlessness.n and not row.policy.is_baseline]
    names = [row.policy.name for row in scores.policies if row.policy.is_baseline] or ["baseline"]
    axes.plot(BASELINE, BASELINE, "x", color="black", markersize=9, markeredgewidth=2, label=names[0], zorder=5)
    families: dict[str, list[PolicyScores]] = defaultdict(list)
    for row in shown:
        families[row.policy.labels["family"]].append(row)
    palette = seaborn.color_palette("colorblind", 10)
    for place, (family, rows) in enumerate(families.items()):
        _draw_family(axes, family, rows, palette[place % len(palette)], MARKERS[place % len(MARKERS)])
    _frame(axes, shown)
    _explain(figure, axes, scores)
    # The layout has to be final before texts can be measured against it.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    lines = [line for rows in families.values() for line in _lines(rows)]
    label_points(axes, list(families.values()), lines, (BASELINE, BASELINE))
    return figure


def _draw_family(
    axes: Axes, family: str, rows: Sequence[PolicyScores], colour: tuple[float, float, float], marker: str
) -> None:
    for row in rows:
        x, y = row.helpfulness, row.harmlessness
        axes.errorbar(x.value, y.value, _bar(y), _bar(x), "none", ecolor=colour, elinewidth=1, alpha=0.45, zorder=2)
    for line in _lines(rows):
        axes.plot(*_values(line), color=colour, linewidth=0.8, zorder=3)
    axes.plot(*_values(rows), marker, color=colour, markersize=8, markeredgecolor="white", label=family, zorder=4)


def _values(rows: Sequence[PolicyScores]) -> tuple[list[float], list[float]]:
    return [row.helpfulness.value for row in rows], [row.harmlessness.value for row in rows]


def _bar(estimate: Estimate) -> list[list[float]]:
    """Lengths below and above, none without an interval; shape (2, 1)."""
    lengths = (estimate.value - estimate.low, estimate.high - estimate.value)
    return [[float(np.nan_to_num(max(0.0, length)))] for length in lengths]


def _lines(rows: Sequence[PolicyScores]) -> list[list[PolicyScores]]:
    """Points to join: those that differ in q alone, or where q does not vary, in β alone. `rows` are in that order."""
    has_ratios = len({row.policy.merge_ratio for row in rows}) > 1
    lines = defaultdict(list)
    for row in rows:
        fixed = row.policy.beta if has_ratios else row.policy.merge_ratio
        lines[fixed, row.policy.labels.get("seed")].append(row)
    return list(lines.values())


def _frame(axes: Axes, rows: Sequence[PolicyScores]) -> None:
    """Limits that hold every point and error bar with a margin, and no tick where no win rate can be."""
    for axis, set_limits, estimates in (
        (axes.xaxis, axes.set_xlim, [row.helpfulness for row in rows]),
        (axes.yaxis, axes.set_ylim, [row.harmlessness for row in rows]),
    ):
        ends = [BASELINE, *(end for e in estimates for end in (e.value, e.low, e.high) if not np.isnan(end))]
        margin = max(0.03, MARGIN * (max(ends) - min(ends)))
        low, high = min(ends) - margin, max(ends) + margin
        set_limits(low, high)
        ticks = MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        axis.set_ticks([tick for tick in ticks if max(low, -1e-9) <= tick <= min(high, 1 + 1e-9)])


def _explain(figure: Figure, axes: Axes, scores: GroupScores) -> None:
    axes.set_xlabel("helpfulness: win rate against the baseline (share of benign prompts)")
    axes.set_ylabel("harmlessness: win rate against the baseline\n(share of risky prompts)")
    axes.set_title(scores.group.heading, loc="left", fontsize=9)
    title = f"bars: {100 * scores.confidence:g} % intervals"
    figure.legend(loc="outside right upper", title=title, fontsize=9, title_fontsize=8, frameon=False)


def _save(figure: Figure, kind: str, metadata: dict[str, None]) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format=kind, metadata=metadata)
    return content.getvalue()
