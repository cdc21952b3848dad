"""The figure of win rates for two criteria, a point per policy, and the figure of a choice."""

import io
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

import matplotlib.style
import numpy as np
import seaborn
from adjustText import adjust_text
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from sacpo_exp.reporting.choices import Choice, Finding
from sacpo_exp.reporting.families import Family, Point, find_families, find_front_points
from sacpo_exp.reporting.scores import GroupScores
from sacpo_exp.reporting.tables import shorten

DPI: Final = 150
BASELINE: Final = 0.5  # win rate of a policy against itself
LONGEST_NAME: Final = 36  # characters in a legend
#: Steps of label placement. A limit on steps rather than on time, so that the same input gives the same picture.
STEPS: Final = 200
#: Without the date, the same figure gives the same bytes.
METADATA: Final[Mapping[str, dict[str, None]]] = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
DASHES: Final = (0, (5, 4))  # of the Pareto front
CONSTRAINED, MAXIMISED = seaborn.color_palette("colorblind", 2)
#: What `Choice.axis` is called in its figure.
CHOICE_AXES: Final = {"q": "merge ratio q", "β": "KL strength β of the last stage", "": ""}
LONGEST_TICK: Final = 28  # characters of a policy's name below an axis


def draw_trade_off(scores: GroupScores) -> dict[str, bytes]:
    """Return the figure as content of a `png` and of an `svg` file, the same bytes for the same scores.

    x and y are win rates against the baseline in [0, 1]; a policy without one of the two is left out.
    """
    with plain_style():
        return save_figure(draw_figure(scores), "png", "svg")


def draw_figure(scores: GroupScores) -> Figure:
    """Return the figure with all families in one panel, and the Pareto front."""
    figure = Figure(figsize=(8, 5), dpi=DPI, layout="constrained")
    axes, families = figure.subplots(), find_families(scores)
    draw_families(axes, scores, families)
    handles = [axes.lines[0]]
    front = find_front_points(scores)
    if len(front) > 1:
        size = 1.6 * rcParams["lines.markersize"]
        ring: dict[str, Any] = {"color": "0.25", "marker": "o", "ms": size, "mew": 0.8, "mfc": "none", "lw": 0.8}
        axes.plot(*zip(*front, strict=True), linestyle=DASHES, label="Pareto front", zorder=3.5, **ring)
        handles.append(axes.lines[-1])
    kinds = {each.name: " and ".join(each.prompt_kinds) or "all" for each in scores.group.criteria}
    x, y = (f"{name}: win rate on {kinds[name]} prompts" for name in scores.axes)
    axes.set(xlabel=x, ylabel=y)
    axes.set_title(shorten(scores.group.heading, 90), loc="left")
    note = f"bars: {scores.percent} intervals"
    note += "\nsmall: single seeds" if any(row.seeds for row in scores.policies) else ""
    legend: dict[str, Any] = {"loc": "outside right upper", "alignment": "left", "frameon": False, "title": note}
    figure.legend(handles=[*handles, *map(make_handle, families)], **legend)
    fix_layout(figure)
    label_points(axes, families)
    return figure


def draw_families(axes: Axes, scores: GroupScores, families: Sequence[Family]) -> None:
    """Draw the baseline, and points with their intervals and seeds, joined by lines; published points alone."""
    size = rcParams["lines.markersize"]
    name = next((row.policy.name for row in scores.policies if row.policy.is_baseline), "baseline")
    axes.plot(BASELINE, BASELINE, "x", color="black", mew=size / 4, zorder=5, label=shorten(name, LONGEST_NAME))
    for family in families:
        colour, shape = family.style.colour, family.style.marker
        for point in family.points:
            axes.plot(point.x.value, point.y.value, zorder=4, gid=point.gid, **family.marker)
        if not family.is_published:
            bars: dict[str, Any] = {"ecolor": colour, "elinewidth": size / 8, "alpha": 0.45, "zorder": 2}
            axes.errorbar(*values_of(family.points), _bars(family, "y"), _bars(family, "x"), "none", **bars)
            for seed in (seed for point in family.points for seed in point.seeds):
                axes.plot(*seed, shape, color=colour, ms=size / 2, mew=0, alpha=0.4, zorder=2)
            for line in family.lines:
                axes.plot(*values_of(line), family.style.line, color=colour, zorder=3)


def values_of(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    """Return all x and all y."""
    return [point.x.value for point in points], [point.y.value for point in points]


def _bars(family: Family, side: str) -> NDArray[np.float64]:
    """Return lengths below and above each value, 0 without an interval; shape (2, points)."""
    estimates = [getattr(point, side) for point in family.points]
    lengths = np.array([[each.value - each.low, each.high - each.value] for each in estimates]).T
    lengths[~(lengths > 0)] = 0
    return lengths


def make_handle(family: Family) -> Line2D:
    """Return a family's entry of the legend."""
    is_joined = not family.is_published and any(len(line) > 1 for line in family.lines)
    line = family.style.line if is_joined else "none"
    return Line2D([], [], label=shorten(family.name, LONGEST_NAME), linestyle=line, **family.marker)


def fix_layout(figure: Figure) -> None:
    """Set ticks to values that a win rate can have, and compute the final layout, which labels are placed in."""
    axes = figure.axes[0]
    for axis in (axes.xaxis, axes.yaxis):
        low, high = axis.get_view_interval()
        axis.set_ticks([tick for tick in axis.get_ticklocs().round(6) if max(low, 0) <= tick <= min(high, 1)])
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def label_points(axes: Axes, families: Sequence[Family], without: Collection[str] = ()) -> None:
    """Write β or q beside each point, in a darker tone of its family; not beside those with the gids `without`."""
    size, texts = rcParams["font.size"], []
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.3}
    for family in families:
        look: dict[str, Any] = {"color": seaborn.dark_palette(family.style.colour, 4)[2], "size": 0.85 * size}
        for point in (point for point in family.points if point.gid not in without):
            texts.append(axes.text(point.x.value, point.y.value, family.label(point), bbox=box, zorder=3.8, **look))
    x, y = values_of([point for family in families for point in family.points])
    # Four points around each marker stand for its size.
    centres = axes.transData.transform(np.transpose([[*x, BASELINE], [*y, BASELINE]]))
    reach = 0.7 * rcParams["lines.markersize"] * axes.figure.dpi / 72
    ends = np.vstack([centres + reach * np.array(way) for way in ((1, 0), (-1, 0), (0, 1), (0, -1))])
    lines = {"arrowstyle": "-", "color": "0.5", "lw": size / 18}
    marks = axes.transData.inverted().transform(ends).T
    adjust_text(texts, *marks, ax=axes, iter_lim=STEPS, arrowprops=lines, min_arrow_len=2 * reach, zorder=1)


def plain_style(*further: dict[str, Any]) -> AbstractContextManager[None]:
    """Return matplotlib settings with which the same numbers give the same bytes."""
    style = {"svg.hashsalt": "sacpo_exp", "grid.color": "0.9", "axes.edgecolor": "0.6", "text.parse_math": False}
    style |= {"font.size": 9, "axes.titlesize": "medium", "lines.markersize": 8, "lines.linewidth": 0.8}
    style |= {"axes.xmargin": 0.08, "axes.ymargin": 0.08}
    # "default" first: the user's own matplotlibrc must not change the bytes.
    context: AbstractContextManager[None] = matplotlib.style.context(
        ["default", dict(seaborn.axes_style("whitegrid")), style, *further]
    )
    return context


def save_figure(figure: Figure, *kinds: str) -> dict[str, bytes]:
    """Return the content of a file of each kind: `png`, `svg`, `pdf`."""
    files = {}
    for kind in kinds:
        content = io.BytesIO()
        figure.savefig(content, format=kind, metadata=METADATA[kind])
        files[kind] = content.getvalue()
    return files


def draw_choice(choice: Choice) -> dict[str, bytes]:
    """Return the figure as content of a `png` and of an `svg` file, the same bytes for the same choice."""
    with plain_style():
        return save_figure(draw_tested(choice), "png", "svg")


def draw_tested(choice: Choice) -> Figure:
    """Return a panel for each constraint, and one for the maximised criterion; x is q, β, or the policies in order."""
    constraints = len(choice.tested[0].findings)
    figure = Figure(figsize=(8, 3.5 + 2 * constraints), dpi=DPI, layout="constrained")
    *panels, last = figure.subplots(1 + constraints, 1, sharex=True)
    level = f"{100 * choice.question['confidence']:g} %"
    positions = [index if row.number is None else row.number for index, row in enumerate(choice.tested)]
    for number, axes in enumerate(panels):
        _draw_findings(axes, choice, positions, [row.findings[number] for row in choice.tested], level)
    title = "no policy is certified"
    for x, row in zip(positions, choice.tested, strict=True):
        if row.rate.n:
            last.vlines(x, row.rate.low, row.rate.high, color=MAXIMISED)
            last.plot(x, row.rate.value, "s", color=MAXIMISED)
            last.set_ylabel(f"{choice.question['maximise']} win rate\n({row.rate.n} prompts)")
        if row.policy_id == choice.chosen:
            title = f"chosen: {row.title} (grey)"
            for axes in (*panels, last):
                axes.axvline(x, color="0.85", linewidth=6, zorder=0)
    last.set_title(f"bars: {level} intervals, each by itself", loc="left")
    last.set_xlabel(CHOICE_AXES[choice.axis])
    if not choice.axis:
        last.set_xticks(positions, [shorten(row.title, LONGEST_TICK) for row in choice.tested], rotation=20, ha="right")
    elif choice.axis == "β":
        last.set_xscale("log")
        last.minorticks_off()
        last.set_xticks(positions, [f"{x:g}" for x in positions])
    figure.suptitle(title, x=0.01, ha="left", fontsize="medium")
    return figure


def _draw_findings(axes: Axes, choice: Choice, positions: list[float], findings: list[Finding], level: str) -> None:
    """Draw one finding of every policy, filled if the policy is certified."""
    first, bounds = findings[0], [finding.bound for finding in findings]
    axes.vlines(positions, [finding.value for finding in findings], bounds, color=CONSTRAINED)
    axes.plot(positions, bounds, "_", color=CONSTRAINED, ms=12, label=f"lower {level} bound, each by itself")
    for is_certified, fill, name in ((True, CONSTRAINED, "certified"), (False, "white", "not certified")):
        shown = [index for index, row in enumerate(choice.tested) if row.is_certified == is_certified]
        points = [positions[index] for index in shown], [findings[index].value for index in shown]
        axes.plot(*points, "o", color=CONSTRAINED, markerfacecolor=fill, label=name if shown else None)
    axes.axhline(first.threshold, color="black", linewidth=1, linestyle="--", label=f"threshold {first.threshold:g}")
    axes.set_ylabel(f"{first.name.split(' (')[0]}\n({first.n} prompts)")
    axes.legend()
