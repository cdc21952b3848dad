"""Scores as CSV with full precision, for other programs; an empty cell where nothing was measured."""

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from sacpo_exp.reporting.scores import Difference, PolicyScores
from sacpo_exp.scoring.intervals import Estimate

Row = TypeVar("Row", PolicyScores, Difference)
Cell = str | float | int | None
LABELS = ("family", "name", "model", "dataset", "seed", "beta", "merge_ratio", "policy_id")


def policies_as_csv(scores: Sequence[PolicyScores]) -> str:
    """One line per policy; for each estimate its value, `_low`, `_high`, and `_n` prompts."""
    columns: dict[str, Callable[[PolicyScores], Cell]] = {
        **_label_columns(),
        **_estimate_columns("helpfulness_win_rate", lambda row: row.helpfulness),
        **_estimate_columns("harmlessness_win_rate", lambda row: row.harmlessness),
        **_estimate_columns("refusal_rate_risky", lambda row: row.refusals),
        **_estimate_columns("refusal_rate_benign", lambda row: row.over_refusals),
        **_estimate_columns("kl_nats", lambda row: row.kl),
        "mean_tokens": lambda row: row.tokens,
        "failed": lambda row: row.failed,
    }
    return _write(scores, columns)


def differences_as_csv(differences: Sequence[Difference]) -> str:
    """One line per policy and evaluated ancestor."""
    columns: dict[str, Callable[[Difference], Cell]] = {
        **_label_columns(),
        "minus": lambda row: row.reference.title,
        "minus_id": lambda row: row.reference.id,
        **_estimate_columns("helpfulness_difference", lambda row: row.helpfulness),
        "helpfulness_excludes_zero": lambda row: row.helpfulness.excludes_zero,
        **_estimate_columns("harmlessness_difference", lambda row: row.harmlessness),
        "harmlessness_excludes_zero": lambda row: row.harmlessness.excludes_zero,
    }
    return _write(differences, columns)


def _label_columns() -> dict[str, Callable[[Row], Cell]]:
    columns: dict[str, Callable[[Row], Cell]] = {"policy": lambda row: row.policy.title}
    for key in LABELS:
        columns[key] = lambda row, key=key: row.policy.labels.get(key)  # type: ignore[misc]
    return columns


def _estimate_columns(name: str, estimate: Callable[[Row], Estimate]) -> dict[str, Callable[[Row], Cell]]:
    return {
        name: lambda row: estimate(row).value,
        f"{name}_low": lambda row: estimate(row).low,
        f"{name}_high": lambda row: estimate(row).high,
        f"{name}_n": lambda row: estimate(row).n,
    }


def _write(rows: Sequence[Row], columns: Mapping[str, Callable[[Row], Cell]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        cells = [cell(row) for cell in columns.values()]
        writer.writerow([None if isinstance(cell, float) and math.isnan(cell) else cell for cell in cells])
    return text.getvalue()
