"""The oracle's two figures: trained policies on the exact trade-off, and their KL divergence from the optimum."""

from typing import TYPE_CHECKING, Any, Final

import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sacpo_exp.reporting.figures import plain_style, save_figure
from sacpo_exp.studies.oracle.results import expect_all, stage_names

if TYPE_CHECKING:
    from sacpo_exp.studies.oracle.experiment import Results

DPI: Final = 110
#: The colour shows the losses or the method, the marker the order.
LOOK: Final[dict[str, Any]] = {"hue": "losses", "style": "policies", "palette": "colorblind", "zorder": 3}


def draw_trade_off(results: "Results") -> bytes:
    """Return E[r] and the first constraint's E[g] of exact optima over λ and of last policies, as png.

    Only policies that were trained with the most rows are shown, each joined with the policy that the theory predicts.
    """
    shown = list(results.world.values)[:2]
    x, y = (f"E[{name}]" for name in shown)
    frame = results.frame
    last = [stage_names(list(results.world.values))[-1], "merged", "method"]
    frame = frame[(frame["rows"] == frame["rows"].max()) & frame["stage"].isin(last)]
    frame = frame.assign(policies=frame["order"] + frame["stage"].map(lambda stage: ", merged" * (stage == "merged")))
    with plain_style({"lines.markersize": 6}):
        figure = Figure(figsize=(8, 4.6), dpi=DPI, layout="constrained")
        axes = figure.subplots()
        curve = ([entry[name] for entry in results.curve] for name in shown)
        axes.plot(*curve, color="black", linewidth=1.2, label="exact optima over λ", zorder=1)
        start = expect_all(results.world, results.world.reference)
        axes.plot(*(start[name] for name in shown), "x", color="black", label="reference policy", zorder=3)
        if results.threshold is not None:
            threshold = results.threshold["threshold"]
            axes.axhline(threshold, color="0.5", linestyle="--", label=f"E[g] ≥ {threshold:g}")
        for _, row in frame.iterrows():
            axes.plot([row[x], row[f"exact {x}"]], [row[y], row[f"exact {y}"]], color="0.6", linewidth=0.8, zorder=2)
        seaborn.scatterplot(frame, x=x, y=y, s=45, ax=axes, **LOOK)
        axes.set(xlabel=x, ylabel=y)
        return _save(figure)


def draw_divergence(results: "Results") -> bytes:
    """Return KL(trained ‖ optimum) against the rows, geometric mean and range of seeds, a panel per stage, as png."""
    stages = stage_names(list(results.world.values))
    with plain_style({"lines.markersize": 5, "lines.linewidth": 1, "text.parse_math": True}):
        figure = Figure(figsize=(4 * len(stages), 3.8), dpi=DPI, layout="constrained")
        panels = figure.subplots(1, len(stages), sharey=True)
        for axes, stage in zip(panels, stages, strict=True):
            _draw_stage(axes, results, stage)
        panels[0].set_ylabel("KL(trained ‖ exact), nats")
        return _save(figure)


def _draw_stage(axes: Axes, results: "Results", stage: str) -> None:
    frame = results.frame
    usual = frame["λ"] == frame["λ"].iloc[0]  # trials over numbers of rows come first
    frame = frame[(frame["stage"] == stage) & usual].assign(policies=lambda each: each["order"])
    for place, order in enumerate(frame["order"].unique()):
        band = [each for each in results.sampling_error if (each["order"], each["stage"]) == (order, stage)]
        rows, low, high = ([each[key] for each in band] for key in ("rows", "low", "high"))
        label = None if place else "exact fits to as many pairs,\n95 % of 200 draws"
        axes.fill_between(rows, low, high, color="0.6", alpha=0.25, linewidth=0, label=label)
        start = frame[frame["order"] == order]["kl_start"].iloc[0]
        axes.axhline(start, color="black", linestyle="--", label=None if place else "reference policy")
    if len(frame):  # of methods alone only the last policies are known
        bars = {"errorbar": ("pi", 100), "err_style": "bars", "markers": True, "dashes": False}
        seaborn.lineplot(frame, x="rows", y="kl", ax=axes, **bars, **LOOK)
    ticks = sorted(frame["rows"].unique())
    axes.set(xscale="log", yscale="log", xlabel="preference rows per stage", title=f"{stage} stage")
    axes.set_xticks(ticks, labels=[str(count) for count in ticks])
    axes.minorticks_off()


def _save(figure: Figure) -> bytes:
    """Replace the legends of the panels by one beside them, and return the figure as png."""
    handles, labels = figure.axes[-1].get_legend_handles_labels()
    for axes in figure.axes:
        if legend := axes.get_legend():
            legend.remove()
    figure.legend(handles, labels, loc="outside right upper", frameon=False)
    return save_figure(figure, "png")["png"]
