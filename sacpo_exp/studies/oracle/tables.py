"""Results of an experiment as Markdown, CSV and JSON."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sacpo_exp.config.studies import OracleConfig
from sacpo_exp.reporting.tables import to_markdown
from sacpo_exp.store import content_hash
from sacpo_exp.studies.oracle.experiment import Results

if TYPE_CHECKING:
    import pandas as pd

#: Settings that do not change a result.
PLACES = ("paths", "tracker")
#: What tells the rows of the table apart; each is a mean over seeds.
KEYS = ["losses", "order", "stage", "q", "λ", "rows"]
FLAG = " †"


def write_results(config: OracleConfig, results: Results) -> list[Path]:
    """Write results, table, rows and figures into a folder of this configuration, and return their paths."""
    from sacpo_exp.studies.oracle.figures import draw_divergence, draw_trade_off

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
    return "\n".join([*_explain(results), "", *table, "", *_list_errors(results)])


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


def _list_errors(results: Results) -> Iterator[str]:
    yield "Sampling error: KL to the optimum of exact fits to as many pairs, median and middle 95 % of 200 draws"
    for entry in results.sampling_error:
        band = f"{entry['median']:.4f} [{entry['low']:.4f}, {entry['high']:.4f}]"
        yield f"- {entry['order']} {entry['stage']}, {entry['rows']} rows: {band}"
