"""The oracle's two figures: trained policies on the exact trade-off, and how far they are from the optimum."""

import io
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import matplotlib.style
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sacpo_exp.config.oracle import Order
from sacpo_exp.config.schema import LossName
from sacpo_exp.oracle.results import Finding
from sacpo_exp.oracle.world import measure

if TYPE_CHECKING:
    from sacpo_exp.oracle.experiment import Results

DPI = 110
COLOURS = {LossName.dpo: "#0072b2", LossName.kto: "#d55e00"}  # told apart by the colour-blind (Okabe and Ito 2008)
MARKERS = {Order.helpful_first: "o", Order.safety_first: "s"}
ORDERS = {Order.helpful_first: "helpfulness first", Order.safety_first: "safety first"}


def draw_trade_off(results: "Results") -> bytes:
    """E[r] and E[g] of exact optima over λ, and of the last policies trained with the most pairs, as png."""
    with _style():
        figure = Figure(figsize=(8, 4.6), dpi=DPI, layout="constrained")
        axes = figure.subplots()
        optima, merges = results.curves["optima"], results.curves["safety_first_merges"]
        axes.plot(*_outcomes(optima), color="black", linewidth=1.2, label="exact optima over λ", zorder=1)
        label = "exact merges, safety first"
        axes.plot(*_outcomes(merges), color="black", linewidth=1, linestyle=":", label=label, zorder=1)
        most = max(finding.trial.pairs for finding in results.findings)
        kept = [each for each in results.findings if each.trial.pairs == most and each.stage != "first"]
        start = measure(results.world, results.world.reference)
        axes.plot(start.reward, start.safety, "x", color="black", markersize=7, label="reference policy", zorder=3)
        for loss, order in dict.fromkeys((finding.trial.loss, finding.trial.order) for finding in kept):
            found = [each for each in kept if (each.trial.loss, each.trial.order) == (loss, order)]
            _scatter(axes, loss, order, found)
        if results.threshold is not None:
            label = f"E[g] ≥ {results.threshold['threshold']:g}"
            axes.axhline(results.threshold["threshold"], color="0.5", linewidth=0.8, linestyle="--", label=label)
        axes.set_xlabel("E[r], reward")
        axes.set_ylabel("E[g], safety")
        figure.legend(loc="outside right upper", fontsize=8, frameon=False)
        return _save(figure)


def _scatter(axes: Axes, loss: LossName, order: Order, findings: list[Finding]) -> None:
    """Stages filled, merges hollow, each joined with where the theory has it."""
    colour, name = COLOURS[loss], f"{loss.value.upper()}, {ORDERS[order]}"
    for is_merge in (False, True):
        found = [each for each in findings if (each.stage == "merged") == is_merge]
        for each in found:
            (x, y), (exact_x, exact_y) = ((outcome.reward, outcome.safety) for outcome in (each.trained, each.exact))
            axes.plot([x, exact_x], [y, exact_y], color=colour, linewidth=0.6, alpha=0.6, zorder=2)
        axes.plot(
            [each.trained.reward for each in found],
            [each.trained.safety for each in found],
            MARKERS[order],
            color=colour,
            markerfacecolor="white" if is_merge else colour,
            markersize=6,
            label=f"{name}, merged" if is_merge else name,
            zorder=3,
        )


def draw_divergence(results: "Results") -> bytes:
    """KL(trained ‖ optimum) against the number of pairs, a panel per stage, as png."""
    with _style():
        figure = Figure(figsize=(8, 3.8), dpi=DPI, layout="constrained")
        for axes, stage in zip(figure.subplots(1, 2, sharey=True), ("first", "second"), strict=True):
            _draw_stage(axes, results, stage)
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper", fontsize=8, frameon=False)
        return _save(figure)


def _draw_stage(axes: Axes, results: "Results", stage: str) -> None:
    multiplier = results.findings[0].trial.multiplier  # trials over numbers of pairs come first
    found = [each for each in results.findings if each.stage == stage and each.trial.multiplier == multiplier]
    orders = list(dict.fromkeys(each.trial.order for each in found))
    for order in orders:
        errors = [entry for entry in results.sampling_error if (entry["order"], entry["stage"]) == (order.value, stage)]
        ends = ([entry["pairs"] for entry in errors], [e["low"] for e in errors], [e["high"] for e in errors])
        label = "exact fits to as many pairs,\n95 % of 200 draws" if order == orders[0] else None
        axes.fill_between(*ends, color="0.6", alpha=0.25, linewidth=0, label=label)
    for loss, order in dict.fromkeys((each.trial.loss, each.trial.order) for each in found):
        points = sorted((e.trial.pairs, e.kl) for e in found if (e.trial.loss, e.trial.order) == (loss, order))
        line, name = zip(*points, strict=True), f"{loss.value.upper()}, {ORDERS[order]}"
        axes.plot(*line, color=COLOURS[loss], marker=MARKERS[order], markersize=5, linewidth=1, label=name)
    for order in orders:
        start = next(each.kl_start for each in found if each.trial.order == order)
        label = "reference policy" if order == orders[0] else None
        axes.axhline(start, color="black", linestyle="--", linewidth=0.8, label=label)
    pairs = sorted({each.trial.pairs for each in found})
    axes.set(xscale="log", yscale="log", xlabel="rows of preference data per stage", title=f"{stage} stage")
    axes.set_xticks(pairs, labels=[str(count) for count in pairs])
    axes.minorticks_off()
    if stage == "first":
        axes.set_ylabel("KL(trained ‖ exact), nats")


def _outcomes(entries: Iterable[dict[str, float]]) -> tuple[list[float], list[float]]:
    entries = list(entries)
    return [entry["reward"] for entry in entries], [entry["safety"] for entry in entries]


def _style() -> AbstractContextManager[None]:
    """As in the report; "default" first: the reader's own matplotlibrc must not change the bytes."""
    style = {"grid.color": "0.9", "axes.edgecolor": "0.6"}
    whole: AbstractContextManager[None] = matplotlib.style.context(
        ["default", dict(seaborn.axes_style("whitegrid")), style]
    )
    return whole


def _save(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()
