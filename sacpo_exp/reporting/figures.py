"""The trade-off figure: two criteria against one another for every policy of a group."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sacpo_exp.reporting.drawing import (
    BASELINE,
    LONGEST_NAME,
    POINT,
    draw_baseline,
    draw_family,
    plain_style,
    save_figure,
    set_limits,
)
from sacpo_exp.reporting.families import find_families
from sacpo_exp.reporting.labelling import label_points
from sacpo_exp.reporting.numbers import shorten
from sacpo_exp.reporting.scores import GroupScores
from sacpo_exp.statistics.selection import find_front

DPI = 150


def draw_trade_off(scores: GroupScores) -> dict[str, bytes]:
    """The figure as content of a `png` and of an `svg` file, the same bytes for the same scores.

    x and y are win rates against the baseline in [0, 1] with their intervals; a policy that lacks one of the two is
    left out.
    """
    with plain_style():
        figure = draw_figure(scores)
        return {"png": save_figure(figure, "png", {}), "svg": save_figure(figure, "svg", {"Date": None})}


def draw_figure(scores: GroupScores) -> Figure:
    """The figure, with its layout fixed and its labels placed for that layout."""
    figure = Figure(figsize=(8, 5), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    draw_baseline(axes, label=shorten(name_baseline(scores), LONGEST_NAME))
    families = find_families(scores.policies, scores.axes)
    for family in families:
        draw_family(axes, family, label=shorten(family.name, LONGEST_NAME))
    _draw_front(axes, scores)
    set_limits(axes, families)
    _explain(figure, axes, scores)
    # The layout has to be final before texts can be measured against it.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    label_points(axes, families, [(BASELINE, BASELINE)])
    return figure


def name_baseline(scores: GroupScores) -> str:
    """What the policy is called that all are compared with."""
    return next((row.policy.name for row in scores.policies if row.policy.is_baseline), "baseline")


def find_points(scores: GroupScores) -> list[tuple[float, float]]:
    """x and y of every policy, NaN where one is not known."""
    x, y = scores.axes
    return [(row.rate(x).value, row.rate(y).value) for row in scores.policies]


def _draw_front(axes: Axes, scores: GroupScores) -> None:
    """Rings around the policies that no other beats, joined from left to right."""
    points = find_points(scores)
    front = sorted(point for point, is_on_front in zip(points, find_front(points), strict=True) if is_on_front)
    if len(front) > 1:
        ring: dict[str, Any] = {"color": "0.25", "markerfacecolor": "none", "markersize": 1.6 * POINT, "linewidth": 0.8}
        axes.plot(*zip(*front, strict=True), "o", linestyle=(0, (5, 4)), label="Pareto front", zorder=3.5, **ring)


def _explain(figure: Figure, axes: Axes, scores: GroupScores) -> None:
    kinds = {each.name: " and ".join(each.prompt_kinds) or "all" for each in scores.group.criteria}
    x, y = scores.axes
    axes.set_xlabel(f"{x}: win rate against the baseline (share of {kinds[x]} prompts)")
    axes.set_ylabel(f"{y}: win rate against the baseline\n(share of {kinds[y]} prompts)")
    axes.set_title(shorten(scores.group.heading, 90), loc="left", fontsize=9)
    title = f"bars: {100 * scores.confidence:g} % intervals"
    title += "\nsmall: single seeds" if any(row.seeds for row in scores.policies) else ""
    figure.legend(loc="outside right upper", title=title, fontsize=9, title_fontsize=9, frameon=False, alignment="left")
