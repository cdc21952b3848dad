"""What a dataset holds, counted. Pure; all results can be written as JSON."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from sacpo_exp.config.schema import Criterion, DataSchema
from sacpo_exp.data.preferences import Row, prompt_text, undesirable_weight, unpaired_view
from sacpo_exp.data.selection import content_of, is_tie

QUANTILES = {"50%": 0.5, "90%": 0.9, "99%": 0.99}


def describe(form: DataSchema, rows: Sequence[Row], criterion: Criterion | None) -> dict[str, Any]:
    """Counts of rows of any form; `criterion` is what their labels are about, None for pku rows.

    Returns:
        `rows`, `prompts`, `duplicates`, `ties`; `labels`: per criterion that the rows have labels for `desirable`,
        `undesirable` and the paper's `undesirable_weight` of KTO, null where one label is absent. Of pku rows also
        `better_is_not_safer`, `both_safe`, `both_unsafe`, `mixed` and, if known, `categories` (rows of each) and
        `severity` (responses of each level).
    """
    counts: dict[str, Any] = {
        "rows": len(rows),
        "prompts": len({prompt_text(row["prompt"]) for row in rows}),
        "duplicates": len(rows) - len({content_of(form, row) for row in rows}),
        "ties": sum(is_tie(form, row) for row in rows),
        "labels": describe_labels(form, rows, criterion),
    }
    return counts | (_describe_safety(rows) if form == DataSchema.pku else {})


def describe_labels(form: DataSchema, rows: Sequence[Row], criterion: Criterion | None) -> dict[str, Any]:
    """`labels` of `describe`."""
    criteria = [criterion] if criterion else list(Criterion)
    return {each.value: balance(labels_of(form, rows, each)) for each in criteria}


def labels_of(form: DataSchema, rows: Sequence[Row], criterion: Criterion) -> list[bool]:
    """The labels that KTO would read."""
    if form == DataSchema.pku:
        return [entry["label"] for entry in unpaired_view(rows, criterion)]
    if form == DataSchema.pairs:
        return [True, False] * len(rows)
    return [row["label"] for row in rows]


def balance(labels: Sequence[bool]) -> dict[str, Any]:
    """How many completions are desirable, how many are not, and KTO's weight for the latter (null: one is absent)."""
    desirable = sum(labels)
    is_whole = 0 < desirable < len(labels)
    return {
        "desirable": desirable,
        "undesirable": len(labels) - desirable,
        "undesirable_weight": undesirable_weight(labels) if is_whole else None,
    }


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
