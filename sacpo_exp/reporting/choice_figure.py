"""The figure of a choice: constraints with their confidence bounds, and the maximised rate, of every tested policy."""

import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sacpo_exp.reporting.choices import Choice, Finding
from sacpo_exp.reporting.figures import DPI, plain_style, save_figure
from sacpo_exp.reporting.numbers import shorten

CONSTRAINED, MAXIMISED = seaborn.color_palette("colorblind", 2)
TITLES = {"q": "merge ratio q", "β": "KL strength β of the last stage", "": ""}
LONGEST_NAME = 28  # characters below a policy


def draw_choice(choice: Choice) -> dict[str, bytes]:
    """Return the figure as content of a `png` and of an `svg` file, the same bytes for the same choice."""
    with plain_style():
        return save_figure(draw_figure(choice), "png", "svg")


def draw_figure(choice: Choice) -> Figure:
    """Return a panel for each constraint, and one for the maximised criterion; x is q, β, or the policies in order."""
    constraints = len(choice.tested[0].findings)
    figure = Figure(figsize=(8, 3.5 + 2 * constraints), dpi=DPI, layout="constrained")
    panels = figure.subplots(1 + constraints, 1, sharex=True)
    places = [place if row.number is None else row.number for place, row in enumerate(choice.tested)]
    for number, panel in enumerate(panels[:-1]):
        _draw_findings(panel, choice, places, [row.findings[number] for row in choice.tested])
    _draw_rates(panels[-1], choice, places)
    title = "no policy is certified"
    for place, row in zip(places, choice.tested, strict=True):
        if row.policy_id == choice.chosen:
            title = f"chosen: {row.title} (grey)"
            for panel in panels:
                panel.axvline(place, color="0.85", linewidth=6, zorder=0)
    if not choice.axis:
        panels[-1].set_xticks(
            places, [shorten(row.title, LONGEST_NAME) for row in choice.tested], rotation=20, ha="right"
        )
    elif choice.axis == "β":
        panels[-1].set_xscale("log")
        panels[-1].minorticks_off()
        panels[-1].set_xticks(places, [f"{place:g}" for place in places])
    panels[-1].set_xlabel(TITLES[choice.axis])
    figure.suptitle(title, x=0.01, ha="left", fontsize="medium")
    return figure


def _draw_findings(axes: Axes, choice: Choice, places: list[float], findings: list[Finding]) -> None:
    """Draw one finding of every policy, filled if the policy is certified."""
    first, bounds = findings[0], [finding.bound for finding in findings]
    axes.vlines(places, [finding.value for finding in findings], bounds, color=CONSTRAINED)
    label = f"lower {_percent(choice)} bound, each by itself"
    axes.plot(places, bounds, "_", color=CONSTRAINED, ms=12, label=label)
    for is_certified, fill, name in ((True, CONSTRAINED, "certified"), (False, "white", "not certified")):
        shown = [place for place, row in enumerate(choice.tested) if row.is_certified == is_certified]
        points = [places[place] for place in shown], [findings[place].value for place in shown]
        axes.plot(*points, "o", color=CONSTRAINED, markerfacecolor=fill, label=name if shown else None)
    axes.axhline(first.threshold, color="black", linewidth=1, linestyle="--", label=f"threshold {first.threshold:g}")
    axes.set_ylabel(f"{first.name.split(' (')[0]}\n({first.n} prompts)")
    axes.legend()


def _draw_rates(axes: Axes, choice: Choice, places: list[float]) -> None:
    """Draw the win rate for the maximised criterion with its interval."""
    rows = [(place, row.rate) for place, row in zip(places, choice.tested, strict=True) if row.rate.n]
    for place, rate in rows:
        axes.vlines(place, rate.low, rate.high, color=MAXIMISED)
        axes.plot(place, rate.value, "s", color=MAXIMISED)
        axes.set_ylabel(f"{choice.question['maximise']} win rate\n({rate.n} prompts)")
    axes.set_title(f"bars: {_percent(choice)} intervals, each by itself", loc="left")


def _percent(choice: Choice) -> str:
    return f"{100 * choice.question['confidence']:g} %"
