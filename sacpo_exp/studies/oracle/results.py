"""Results of an experiment as Markdown, CSV, JSON and two figures: the exact trade-off, and the KL to the optimum."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sacpo_exp.config.studies import OracleConfig
from sacpo_exp.reporting.figures import plain_style, save_figure
from sacpo_exp.reporting.tables import to_markdown
from sacpo_exp.store import content_hash
from sacpo_exp.studies.oracle.experiment import Results, expect_all, stage_names

if TYPE_CHECKING:
    import pandas as pd

DPI: Final = 110
#: The colour shows the losses or the method, the marker the order.
LOOK: Final[dict[str, Any]] = {"hue": "losses", "style": "policies", "palette": "colorblind", "zorder": 3}
#: Settings that do not change a result.
PLACES = ("paths", "tracker")
#: What tells the rows of the table apart; each is a mean over seeds.
KEYS = ["losses", "order", "stage", "q", "λ", "rows"]
FLAG = " †"


def write_results(config: OracleConfig, results: Results) -> list[Path]:
    """Write results, table, rows and figures into a folder of this configuration, and return their paths."""
    settings = {key: value for key, value in asdict(config).items() if key not in PLACES}
    settings = json.loads(json.dumps(settings, default=_plain))
    folder = Path(config.paths.outputs) / "oracle" / content_hash(settings)[:10]
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "results.json": json.dumps({"config": settings} | asdict(results), default=_plain, indent=1).encode(),
        "results.csv": results.frame.to_csv(index=False).encode(),
        "results.md": format_results(results).encode(),
        "trade_off.png": draw_trade_off(results),
        "divergence.png": draw_divergence(results),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in contents]


def _plain(value: Any) -> Any:
    """Convert enums and arrays for JSON."""
    return value.value if isinstance(value, Enum) else value.tolist()


def format_results(results: Results) -> str:
    """Return the table in Markdown, a row per setting with mean [range] over the seeds, and what belongs beside it."""
    table = to_markdown(list(_list_cells(results)), len(KEYS) - 1)
    return "\n".join([*_explain(results), "", *table])


def _list_cells(results: Results) -> Iterator[list[str]]:
    values = [f"E[{name}]" for name in results.world.values]
    yield [*KEYS, "KL to optimum", "bound", "nearest λ, KL", *values, "violation", "bound", "outside", "seeds"]
    for (losses, *key), group in results.frame.groupby(KEYS, sort=False):
        yield [
            f"{losses}{'' if group['is_consistent'].all() else FLAG}",
            *map(str, key),
            f"{_spread(group['kl'], 3)} of {group['kl_start'].mean():.2f}",
            f"{group['kl_bound'].mean():.2f}",
            f"{group['nearest'].mean():.2g}, {group['kl_nearest'].mean():.3f}",
            *(f"{_spread(group[name], 2)} ({group[f'exact {name}'].mean():.2f})" for name in values),
            _spread(group["violation"], 2),
            f"{group['violation_bound'].mean():.2f}",
            _spread(group["outside"], 2),
            str(len(group)),
        ]


def _spread(column: "pd.Series[float]", digits: int) -> str:
    """Return mean and range over the seeds."""
    mean, *ends = (f"{value:.{digits}f}" for value in (column.mean(), column.min(), column.max()))
    return f"{mean} [{', '.join(ends)}]" if len(column) > 1 else mean


def _explain(results: Results) -> Iterator[str]:
    worst = max(results.nominal_kl.values())
    yield "KL in nats to the exact policy with the trained base as reference; mean [range] over seeds, exact values in"
    yield f"brackets. The bases are at most {worst:.4f} nats from the reference policy that they were to learn."
    if not results.frame["is_consistent"].all():
        yield f"Theorem 1 does not hold for what is marked{FLAG}: losses that are not consistent, and other methods."
    if results.threshold is not None:
        found = results.threshold
        by_merging = "" if found["ratio"] is None else f", with the reward first by merging at q = {found['ratio']:.4f}"
        values = ", ".join(f"E[{name}] = {found[name]:+.4f}" for name in results.world.values)
        yield f"E[g] ≥ {found['threshold']:g} takes λ* = {found['multiplier']:.4f}{by_merging}: {values}."


def draw_trade_off(results: Results) -> bytes:
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


def draw_divergence(results: Results) -> bytes:
    """Return KL(trained ‖ optimum) against the rows, geometric mean and range of seeds, a panel per stage, as png."""
    stages = stage_names(list(results.world.values))
    with plain_style({"lines.markersize": 5, "lines.linewidth": 1, "text.parse_math": True}):
        figure = Figure(figsize=(4 * len(stages), 3.8), dpi=DPI, layout="constrained")
        panels = figure.subplots(1, len(stages), sharey=True)
        for axes, stage in zip(panels, stages, strict=True):
            _draw_stage(axes, results, stage)
        panels[0].set_ylabel("KL(trained ‖ exact), nats")
        return _save(figure)


def _draw_stage(axes: Axes, results: Results, stage: str) -> None:
    frame = results.frame
    usual = frame["λ"] == frame["λ"].iloc[0]  # trials over numbers of rows come first
    frame = frame[(frame["stage"] == stage) & usual].assign(policies=lambda each: each["order"])
    for place, order in enumerate(frame["order"].unique()):
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
