"""The figure of a choice: constraints with their confidence bounds, and the maximised rate, of every tested policy."""

import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sacpo_exp.reporting.choices import Choice, Finding
from sacpo_exp.reporting.figures import DPI, plain_style, save_figure
from sacpo_exp.reporting.tables import shorten

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
    last.set_xlabel(TITLES[choice.axis])
    if not choice.axis:
        last.set_xticks(positions, [shorten(row.title, LONGEST_NAME) for row in choice.tested], rotation=20, ha="right")
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
