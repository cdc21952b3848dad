"""The oracle's two figures: trained policies on the exact trade-off, and how far they are from the optimum."""

import io
import itertools
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib.style
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sacpo_exp.method.losses import LOSSES
from sacpo_exp.studies.oracle.experiment import name_order
from sacpo_exp.studies.oracle.results import Finding, stage_names
from sacpo_exp.studies.oracle.world import measure

if TYPE_CHECKING:
    from sacpo_exp.studies.oracle.experiment import Results

DPI = 110
#: Of losses, in the order of the configuration; told apart by the colour-blind (Okabe and Ito 2008).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
#: Of orders.
MARKERS = "osD^vP"


@dataclass(frozen=True)
class Look:
    """How the findings of a loss and an order look."""

    colour: str
    marker: str
    name: str


def choose_looks(findings: Iterable[Finding]) -> dict[tuple[str, tuple[str, ...]], Look]:
    """Looks by loss and order."""
    kinds = list(dict.fromkeys((each.trial.loss, each.trial.order) for each in findings))
    colours = dict(zip(dict.fromkeys(loss for loss, _ in kinds), itertools.cycle(COLOURS), strict=False))
    markers = dict(zip(dict.fromkeys(order for _, order in kinds), itertools.cycle(MARKERS), strict=False))
    return {
        (loss, order): Look(colours[loss], markers[order], f"{LOSSES[loss].title}, {name_order(order)}")
        for loss, order in kinds
    }


def draw_trade_off(results: "Results") -> bytes:
    """E[r] and the first constraint's E[g] of exact optima over λ, and of last policies with the most pairs, as png."""
    with _style():
        figure = Figure(figsize=(8, 4.6), dpi=DPI, layout="constrained")
        axes = figure.subplots()
        shown = list(results.world.values)[:2]
        optima, merges = ([entry["values"] for entry in results.curves[name]] for name in ("optima", "merges"))
        axes.plot(*_places(optima, shown), color="black", linewidth=1.2, label="exact optima over λ", zorder=1)
        if merges:
            label = f"exact merges, {name_order(shown[::-1])}"
            axes.plot(*_places(merges, shown), color="black", linewidth=1, linestyle=":", label=label, zorder=1)
        most = max(finding.trial.pairs for finding in results.findings)
        stages = (stage_names(list(results.world.values))[-1], "merged")
        kept = [each for each in results.findings if each.trial.pairs == most and each.stage in stages]
        start = _places([measure(results.world, results.world.reference).values], shown)
        axes.plot(*start, "x", color="black", markersize=7, label="reference policy", zorder=3)
        for kind, look in choose_looks(results.findings).items():
            _scatter(axes, look, [each for each in kept if (each.trial.loss, each.trial.order) == kind], shown)
        if results.threshold is not None:
            label = f"E[g] ≥ {results.threshold['threshold']:g}"
            axes.axhline(results.threshold["threshold"], color="0.5", linewidth=0.8, linestyle="--", label=label)
        axes.set_xlabel(f"E[r], {shown[0]}")
        axes.set_ylabel(f"E[g], {shown[1]}")
        figure.legend(loc="outside right upper", fontsize=8, frameon=False)
        return _save(figure)


def _scatter(axes: Axes, look: Look, findings: list[Finding], shown: list[str]) -> None:
    """Stages filled, merges hollow, each joined with where the theory has it."""
    for is_merge in (False, True):
        found = [each for each in findings if (each.stage == "merged") == is_merge]
        for each in found:
            ends = _places([each.trained.values, each.exact.values], shown)
            axes.plot(*ends, color=look.colour, linewidth=0.6, alpha=0.6, zorder=2)
        if found:
            axes.plot(
                *_places([each.trained.values for each in found], shown),
                look.marker,
                color=look.colour,
                markerfacecolor="white" if is_merge else look.colour,
                markersize=6,
                label=f"{look.name}, merged" if is_merge else look.name,
                zorder=3,
            )


def draw_divergence(results: "Results") -> bytes:
    """KL(trained ‖ optimum) against the number of pairs, a panel per stage, as png."""
    with _style():
        stages = stage_names(list(results.world.values))
        figure = Figure(figsize=(4 * len(stages), 3.8), dpi=DPI, layout="constrained")
        for axes, stage in zip(figure.subplots(1, len(stages), sharey=True), stages, strict=True):
            _draw_stage(axes, results, stage)
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper", fontsize=8, frameon=False)
        return _save(figure)


def _draw_stage(axes: Axes, results: "Results", stage: str) -> None:
    multipliers = results.findings[0].trial.multipliers  # trials over numbers of pairs come first
    found = [each for each in results.findings if each.stage == stage and each.trial.multipliers == multipliers]
    orders = list(dict.fromkeys(each.trial.order for each in found))
    for order in orders:
        errors = [
            entry for entry in results.sampling_error if (tuple(entry["order"]), entry["stage"]) == (order, stage)
        ]
        ends = ([entry["pairs"] for entry in errors], [e["low"] for e in errors], [e["high"] for e in errors])
        label = "exact fits to as many pairs,\n95 % of 200 draws" if order == orders[0] else None
        axes.fill_between(*ends, color="0.6", alpha=0.25, linewidth=0, label=label)
    for kind, look in choose_looks(found).items():
        points = sorted((e.trial.pairs, e.kl) for e in found if (e.trial.loss, e.trial.order) == kind)
        line = zip(*points, strict=True)
        axes.plot(*line, color=look.colour, marker=look.marker, markersize=5, linewidth=1, label=look.name)
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


def _places(outcomes: list[dict[str, float]], shown: list[str]) -> list[list[float]]:
    """What each outcome is worth, for each criterion that is shown."""
    return [[outcome[name] for outcome in outcomes] for name in shown]


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
