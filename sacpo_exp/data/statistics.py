"""What a dataset holds, counted. Pure; all results can be written as JSON."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from sacpo_exp.config.data import DataSchema
from sacpo_exp.data.preferences import Preferences, Row, make_view, prompt_text, undesirable_weight
from sacpo_exp.data.selection import content_of, is_tie
from sacpo_exp.method.criteria import Criterion
from sacpo_exp.method.losses import View

QUANTILES = {"50%": 0.5, "90%": 0.9, "99%": 0.99}


def describe(data: Preferences, criterion: Criterion | None) -> dict[str, Any]:
    """Counts of rows of any form, and of labels for a criterion.

    Returns:
        `rows`, `prompts`, `duplicates`, `ties`; with a criterion `labels`: its name, `desirable`, `undesirable` and the
        paper's `undesirable_weight` of KTO, null where one label is absent. Of pku rows also `better_is_not_safer`,
        `both_safe`, `both_unsafe`, `mixed` and, if known, `categories` (rows of each) and `severity` (responses of
        each level).
    """
    form, rows = data.form, data.rows
    counts: dict[str, Any] = {
        "rows": len(rows),
        "prompts": len({prompt_text(row["prompt"]) for row in rows}),
        "duplicates": len(rows) - len({content_of(form, row) for row in rows}),
        "ties": sum(is_tie(form, row) for row in rows),
        "labels": describe_labels(data, criterion),
    }
    return counts | (_describe_safety(rows) if form == DataSchema.pku else {})


def describe_labels(data: Preferences, criterion: Criterion | None) -> dict[str, Any]:
    """`labels` of `describe`: those that a loss on single completions reads."""
    if criterion is None:
        return {}
    labels = [row["label"] for row in make_view(data, View.labels, criterion)]
    is_whole = 0 < sum(labels) < len(labels)
    counts = {
        "desirable": sum(labels),
        "undesirable": len(labels) - sum(labels),
        "undesirable_weight": undesirable_weight(labels) if is_whole else None,
    }
    return {criterion.name: counts}


def _describe_safety(rows: Sequence[Row]) -> dict[str, Any]:
    safe = Counter(row["is_response_0_safe"] + row["is_response_1_safe"] for row in rows)
    categories = Counter(category for row in rows for category in row.get("categories", ()))
    severity = Counter(level for row in rows for level in row.get("severity", ()))
    counts: dict[str, Any] = {
        "better_is_not_safer": sum(row["better_response_id"] != row["safer_response_id"] for row in rows),
        "both_safe": safe[2],
        "both_unsafe": safe[0],
        "mixed": safe[1],
    }
    if categories:
        counts["categories"] = dict(sorted(categories.items(), key=lambda item: (-item[1], item[0])))
    if severity:
        counts["severity"] = {str(level): severity[level] for level in sorted(severity)}
    return counts


def length_quantiles(lengths: Sequence[int]) -> dict[str, float]:
    """min, 50%, 90%, 99%, max and mean; quantiles are interpolated linearly. Empty for no lengths."""
    if not lengths:
        return {}
    ordered = sorted(lengths)
    quantiles = {name: _quantile(ordered, share) for name, share in QUANTILES.items()}
    return {"min": ordered[0], **quantiles, "max": ordered[-1], "mean": sum(ordered) / len(ordered)}


def _quantile(ordered: Sequence[int], share: float) -> float:
    place = share * (len(ordered) - 1)
    below, above = ordered[math.floor(place)], ordered[math.ceil(place)]
    return below + (above - below) * (place - math.floor(place))
