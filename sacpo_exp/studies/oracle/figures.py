"""The oracle's two figures: trained policies on the exact trade-off, and their KL divergence from the optimum."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sacpo_exp.reporting.figures import plain_style, save_figure
from sacpo_exp.studies.oracle.experiment import name_order
from sacpo_exp.studies.oracle.results import METHOD, Finding, stage_names
from sacpo_exp.studies.oracle.world import measure

if TYPE_CHECKING:
    from sacpo_exp.studies.oracle.experiment import Results

DPI: Final = 110
#: The colour shows the loss, the marker the order.
LOOK: Final[dict[str, Any]] = {"hue": "loss", "style": "policies", "palette": "colorblind", "zorder": 3}


def draw_trade_off(results: "Results") -> bytes:
    """Return E[r] and the first constraint's E[g] of exact optima over λ and of last policies, as png.

    Only policies that were trained with the most pairs are shown, each joined with the policy that the theory predicts.
    """
    shown = list(results.world.values)[:2]
    most = max(finding.trial.pairs for finding in results.findings)
    stages = (stage_names(list(results.world.values))[-1], "merged", METHOD)
    findings = [each for each in results.findings if each.trial.pairs == most and each.stage in stages]
    with plain_style({"lines.markersize": 6}):
        figure = Figure(figsize=(8, 4.6), dpi=DPI, layout="constrained")
        axes = figure.subplots()
        for curve, line, label in (
            ("optima", "-", "exact optima over λ"),
            ("merges", ":", f"exact merges, {name_order(shown[::-1])}"),
        ):
            if outcomes := [entry["values"] for entry in results.curves[curve]]:
                axes.plot(*_values(outcomes, shown), line, color="black", linewidth=1.2, label=label, zorder=1)
        start = _values([measure(results.world, results.world.reference).values], shown)
        axes.plot(*start, "x", color="black", label="reference policy", zorder=3)
        if results.threshold is not None:
            label = f"E[g] ≥ {results.threshold['threshold']:g}"
            axes.axhline(results.threshold["threshold"], color="0.5", linestyle="--", label=label)
        for each in findings:
            axes.plot(*_values([each.trained.values, each.exact.values], shown), color="0.6", zorder=2)
        x, y = _values([each.trained.values for each in findings], shown)
        seaborn.scatterplot({"x": x, "y": y} | _columns(findings), x="x", y="y", s=45, ax=axes, **LOOK)
        axes.set(xlabel=f"E[r], {shown[0]}", ylabel=f"E[g], {shown[1]}")
        return _save(figure)


def draw_divergence(results: "Results") -> bytes:
    """Return KL(trained ‖ optimum) against the number of pairs, a panel per stage, as png."""
    stages = stage_names(list(results.world.values))
    with plain_style({"lines.markersize": 5, "lines.linewidth": 1, "text.parse_math": True}):
        figure = Figure(figsize=(4 * len(stages), 3.8), dpi=DPI, layout="constrained")
        panels = figure.subplots(1, len(stages), sharey=True)
        for axes, stage in zip(panels, stages, strict=True):
            _draw_stage(axes, results, stage)
        panels[0].set_ylabel("KL(trained ‖ exact), nats")
        return _save(figure)


def _draw_stage(axes: Axes, results: "Results", stage: str) -> None:
    multipliers = results.findings[0].trial.multipliers  # trials over numbers of pairs come first
    findings = [each for each in results.findings if each.stage == stage and each.trial.multipliers == multipliers]
    for place, order in enumerate(dict.fromkeys(each.trial.order for each in findings)):
        band = [each for each in results.sampling_error if (tuple(each["order"]), each["stage"]) == (order, stage)]
        pairs, low, high = ([each[key] for each in band] for key in ("pairs", "low", "high"))
        label = None if place else "exact fits to as many pairs,\n95 % of 200 draws"
        axes.fill_between(pairs, low, high, color="0.6", alpha=0.25, linewidth=0, label=label)
        start = next(each.kl_start for each in findings if each.trial.order == order)
        axes.axhline(start, color="black", linestyle="--", label=None if place else "reference policy")
    columns = {"x": [each.trial.pairs for each in findings], "y": [each.kl for each in findings]} | _columns(findings)
    seaborn.lineplot(columns, x="x", y="y", estimator=None, markers=True, dashes=False, ax=axes, **LOOK)
    axes.set(xscale="log", yscale="log", xlabel="preference rows per stage", title=f"{stage} stage")
    ticks = sorted({each.trial.pairs for each in findings})
    axes.set_xticks(ticks, labels=[str(count) for count in ticks])
    axes.minorticks_off()


def _columns(findings: Sequence[Finding]) -> dict[str, list[str]]:
    return {
        "loss": [each.trial.title for each in findings],
        "policies": [name_order(each.trial.order) + ", merged" * (each.stage == "merged") for each in findings],
    }


def _values(outcomes: Sequence[dict[str, float]], shown: Sequence[str]) -> list[list[float]]:
    """Return the values of each shown criterion."""
    return [[outcome[name] for outcome in outcomes] for name in shown]


def _save(figure: Figure) -> bytes:
    """Replace the legends of the panels by one beside them, and return the figure as png."""
    handles, labels = figure.axes[-1].get_legend_handles_labels()
    for axes in figure.axes:
        if legend := axes.get_legend():
            legend.remove()
    figure.legend(handles, labels, loc="outside right upper", frameon=False)
    return save_figure(figure, "png")["png"]
