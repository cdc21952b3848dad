"""The figure of a choice: safety with its confidence bound, and helpfulness, of every policy that was tested."""

import numpy as np
import seaborn
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sacpo_exp.reporting.choices import Choice, Tested
from sacpo_exp.reporting.drawing import plain_style, save_figure
from sacpo_exp.reporting.figures import DPI
from sacpo_exp.reporting.numbers import shorten

SAFE, HELPFUL = seaborn.color_palette("colorblind", 10)[0], seaborn.color_palette("colorblind", 10)[1]
LONGEST_NAME = 28  # characters below a policy


def draw_choice(choice: Choice) -> dict[str, bytes]:
    """The figure as content of a `png` and of an `svg` file, the same bytes for the same choice."""
    with plain_style():
        figure = draw_figure(choice)
        return {"png": save_figure(figure, "png", {}), "svg": save_figure(figure, "svg", {"Date": None})}


def draw_figure(choice: Choice) -> Figure:
    """Safety above, helpfulness below, for their scales may differ; x is q, β, or the policies in order."""
    figure = Figure(figsize=(8, 5.5), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True)
    places = [row.number if row.number is not None else place for place, row in enumerate(choice.tested)]
    _draw_safety(above, choice, places)
    _draw_helpfulness(below, choice, places)
    for place, row in zip(places, choice.tested, strict=True):
        if row.policy_id == choice.chosen:
            for axes in (above, below):
                axes.axvline(place, color="0.75", linewidth=6, zorder=0)
    if choice.axis:
        below.set_xlabel({"q": "merge ratio q", "β": "KL strength β of the last stage"}[choice.axis])
        if choice.axis == "β":
            below.set_xscale("log")
            below.xaxis.set_minor_formatter("")
            below.set_xticks(places, [f"{place:g}" for place in places])
    else:
        below.set_xticks(places, [shorten(row.title, LONGEST_NAME) for row in choice.tested], rotation=20, ha="right")
    figure.suptitle(_title(choice), x=0.01, ha="left", fontsize=9)
    return figure


def _title(choice: Choice) -> str:
    chosen = next((row.title for row in choice.tested if row.policy_id == choice.chosen), None)
    return f"chosen: {chosen} (grey)" if chosen else "no policy is certified"


def _draw_safety(axes: Axes, choice: Choice, places: list[float]) -> None:
    """The finding that stands most against each policy; filled where it is certified."""
    findings = [row.tightest for row in choice.tested]
    values = np.array([finding.value for finding in findings])
    bounds = np.array([finding.bound for finding in findings])
    first = choice.tested[0].findings[0]
    side = "upper" if first.is_cost else "lower"
    axes.vlines(places, values, bounds, color=SAFE, linewidth=1.2)
    axes.plot(places, bounds, "_", color=SAFE, ms=12, label=f"{side} {_percent(choice)} bound, each by itself")
    for is_certified, fill, name in ((True, SAFE, "certified"), (False, "white", "not certified")):
        chosen = [place for place, row in enumerate(choice.tested) if row.is_certified == is_certified]
        if chosen:
            points = [places[place] for place in chosen]
            axes.plot(points, values[chosen], "o", color=SAFE, markerfacecolor=fill, ms=7, label=name)
    axes.axhline(first.threshold, color="black", linewidth=1, linestyle="--", label=f"threshold {first.threshold:g}")
    axes.set_ylabel(f"{first.name.split(' (')[0]}\n({first.n} prompts)")
    axes.legend(fontsize=8, frameon=True)


def _draw_helpfulness(axes: Axes, choice: Choice, places: list[float]) -> None:
    rows: list[tuple[float, Tested]] = [
        (place, row) for place, row in zip(places, choice.tested, strict=True) if row.helpfulness.n
    ]
    for place, row in rows:
        estimate = row.helpfulness
        axes.plot([place, place], [estimate.low, estimate.high], color=HELPFUL, linewidth=1.2)
    if rows:
        axes.plot([place for place, _ in rows], [row.helpfulness.value for _, row in rows], "s", color=HELPFUL, ms=7)
        axes.set_ylabel(f"helpfulness win rate\n({rows[0][1].helpfulness.n} prompts)")
    axes.annotate(
        f"bars: {_percent(choice)} intervals, each by itself", (0.01, 0.04), xycoords="axes fraction", fontsize=8
    )


def _percent(choice: Choice) -> str:
    return f"{100 * choice.question['confidence']:g} %"
