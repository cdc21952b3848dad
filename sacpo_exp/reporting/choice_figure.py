"""The figure of a choice: constraints with their confidence bounds, and the rate that chose, of every tested policy."""

import seaborn
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sacpo_exp.reporting.choices import Choice, Finding, Tested
from sacpo_exp.reporting.drawing import plain_style, save_figure
from sacpo_exp.reporting.figures import DPI
from sacpo_exp.reporting.numbers import shorten

CONSTRAINED, MAXIMISED = seaborn.color_palette("colorblind", 10)[0], seaborn.color_palette("colorblind", 10)[1]
LONGEST_NAME = 28  # characters below a policy


def draw_choice(choice: Choice) -> dict[str, bytes]:
    """The figure as content of a `png` and of an `svg` file, the same bytes for the same choice."""
    with plain_style():
        figure = draw_figure(choice)
        return {"png": save_figure(figure, "png", {}), "svg": save_figure(figure, "svg", {"Date": None})}


def draw_figure(choice: Choice) -> Figure:
    """A panel for each constraint, and one for the criterion that chooses: their scales may differ.

    x is q, β, or the policies in order.
    """
    constraints = len(choice.tested[0].findings)
    figure = Figure(figsize=(8, 3.5 + 2 * constraints), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1 + constraints, 1, sharex=True)
    places = [row.number if row.number is not None else place for place, row in enumerate(choice.tested)]
    for number, panel in enumerate(panels[:-1]):
        _draw_findings(panel, choice, places, [row.findings[number] for row in choice.tested])
    _draw_rates(panels[-1], choice, places)
    for place, row in zip(places, choice.tested, strict=True):
        if row.policy_id == choice.chosen:
            for panel in panels:
                panel.axvline(place, color="0.85", linewidth=6, zorder=0)
    _name_places(panels[-1], choice, places)
    figure.suptitle(_title(choice), x=0.01, ha="left", fontsize=9)
    return figure


def _name_places(axes: Axes, choice: Choice, places: list[float]) -> None:
    if not choice.axis:
        axes.set_xticks(places, [shorten(row.title, LONGEST_NAME) for row in choice.tested], rotation=20, ha="right")
        return
    axes.set_xlabel({"q": "merge ratio q", "β": "KL strength β of the last stage"}[choice.axis])
    if choice.axis == "β":
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter("")
        axes.set_xticks(places, [f"{place:g}" for place in places])


def _title(choice: Choice) -> str:
    chosen = next((row.title for row in choice.tested if row.policy_id == choice.chosen), None)
    return f"chosen: {chosen} (grey)" if chosen else "no policy is certified"


def _draw_findings(axes: Axes, choice: Choice, places: list[float], findings: list[Finding]) -> None:
    """One finding of every policy, filled where the policy is certified."""
    values, bounds = ([getattr(finding, name) for finding in findings] for name in ("value", "bound"))
    first = findings[0]
    axes.vlines(places, values, bounds, color=CONSTRAINED, linewidth=1.2)
    axes.plot(places, bounds, "_", color=CONSTRAINED, ms=12, label=f"lower {_percent(choice)} bound, each by itself")
    for is_certified, fill, name in ((True, CONSTRAINED, "certified"), (False, "white", "not certified")):
        shown = [place for place, row in enumerate(choice.tested) if row.is_certified == is_certified]
        points = ([places[place] for place in shown], [values[place] for place in shown])
        axes.plot(*points, "o", color=CONSTRAINED, markerfacecolor=fill, ms=7, label=name if shown else None)
    axes.axhline(first.threshold, color="black", linewidth=1, linestyle="--", label=f"threshold {first.threshold:g}")
    axes.set_ylabel(f"{first.name.split(' (')[0]}\n({first.n} prompts)")
    axes.legend(fontsize=8, frameon=True)


def _draw_rates(axes: Axes, choice: Choice, places: list[float]) -> None:
    rows: list[tuple[float, Tested]] = [
        (place, row) for place, row in zip(places, choice.tested, strict=True) if row.rate.n
    ]
    for place, row in rows:
        estimate = row.rate
        axes.plot([place, place], [estimate.low, estimate.high], color=MAXIMISED, linewidth=1.2)
    if rows:
        axes.plot([place for place, _ in rows], [row.rate.value for _, row in rows], "s", color=MAXIMISED, ms=7)
        axes.set_ylabel(f"{choice.question['maximise']} win rate\n({rows[0][1].rate.n} prompts)")
    axes.annotate(
        f"bars: {_percent(choice)} intervals, each by itself", (0.01, 0.04), xycoords="axes fraction", fontsize=8
    )


def _percent(choice: Choice) -> str:
    return f"{100 * choice.question['confidence']:g} %"
