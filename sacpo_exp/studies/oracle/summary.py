"""Sum up results of the oracle over seeds, as tables in Markdown."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sacpo_exp.config.oracle import OracleConfig
from sacpo_exp.studies.oracle.experiment import name_order, settings_of
from sacpo_exp.studies.oracle.results import METHOD, stage_names
from sacpo_exp.studies.oracle.trials import Trial


def summarise(config: OracleConfig) -> str:
    """Return tables over all stored results that differ from this configuration in nothing but the seed.

    They are written into `summary.md` beside the results too.
    """
    folder, wanted = Path(config.paths.outputs) / "oracle", settings_of(config)
    found = [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*/results.json"))]
    runs = [run for run in found if run["config"] | {"seed": None} == wanted | {"seed": None}]
    seeds = ", ".join(str(run["config"]["seed"]) for run in sorted(runs, key=lambda run: int(run["config"]["seed"])))
    findings = [finding for run in runs for finding in run["findings"]]
    bands = [entry for run in runs for entry in run["sampling_error"]]
    shown = (stage_names(config.criteria)[-1], "merged", METHOD)
    text = "\n".join([f"Seeds {seeds}: mean [range]", *_rows([f for f in findings if f["stage"] in shown], bands)])
    (folder / "summary.md").write_text(text + "\n", "utf-8")
    return text


def _rows(findings: Sequence[dict[str, Any]], bands: Sequence[dict[str, Any]]) -> Iterator[str]:
    names = list(findings[0]["exact"]["values"])
    values = [f"E[{name}] (optimum)" for name in names]
    columns = ["loss or method", "order", "rows", "λ", "q", "KL to optimum, nats", *values, "violation", "outside"]
    yield "| " + " | ".join(columns) + " |"
    yield "|" + "---|" * len(columns)
    groups: dict[str, list[dict[str, Any]]] = {}
    for finding in findings:
        groups.setdefault(json.dumps(finding["trial"]), []).append(finding)
    for key, group in groups.items():
        trial = _read_trial(json.loads(key))
        flag = "" if trial.is_method or trial.row.is_consistent else " (not consistent)"
        cells = [trial.title + flag, name_order(trial.order), trial.pairs, ", ".join(map(str, trial.multipliers))]
        cells += ["" if trial.ratio is None else trial.ratio, _spread([each["kl"] for each in group])]
        for name in names:
            pairs = [(each["trained"]["values"][name], each["exact"]["values"][name]) for each in group]
            cells.append("{:.2f} ({:.2f})".format(*np.mean(pairs, axis=0)))
        lacking = [_violation(each, names[1:]) for each in group]
        cells += [_spread(lacking), _spread([each["outside"] for each in group])]
        yield "| " + " | ".join(map(str, cells)) + " |"
    for order, stage, rows in dict.fromkeys((tuple(each["order"]), each["stage"], each["pairs"]) for each in bands):
        same = [each for each in bands if (tuple(each["order"]), each["stage"], each["pairs"]) == (order, stage, rows)]
        median, low, high = (np.mean([each[name] for each in same]) for name in ("median", "low", "high"))
        yield f"Exact fits to {rows} rows, {name_order(order)}, {stage} stage: {median:.3f} [{low:.3f}, {high:.3f}]"


def _read_trial(values: dict[str, Any]) -> Trial:
    lists = {name: tuple(values[name]) for name in ("order", "multipliers")}
    return Trial(**(values | lists))


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} [{min(values):.3f}, {max(values):.3f}]"


def _violation(finding: dict[str, Any], constraints: Sequence[str]) -> float:
    """Return by how much the constraint that is furthest below its value at the optimum misses it; 0 if none does."""
    gaps = (finding["exact"]["values"][name] - finding["trained"]["values"][name] for name in constraints)
    return float(max(0.0, *gaps))
