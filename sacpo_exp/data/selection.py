"""Select rows: without duplicates or ties, of some harm categories, mixed, with flipped labels. Pure, seeded."""

import random
from collections.abc import Sequence
from typing import Any

from sacpo_exp.config.data import DataSchema, DatasetConfig
from sacpo_exp.data.preferences import Preferences, Row, key_of
from sacpo_exp.errors import DataError


def select_rows(data: Preferences, dataset: DatasetConfig) -> tuple[Preferences, dict[str, int]]:
    """Drop the rows that `dataset` leaves out; also return how many rows each option dropped, by its name."""
    rows: Sequence[Row] = data.rows
    dropped = {}
    if dataset.drop_duplicates:
        first: dict[Any, Row] = {}
        for row in rows:
            first.setdefault(content_of(data.form, row), row)
        dropped["drop_duplicates"] = len(rows) - len(first)
        rows = list(first.values())
    if dataset.drop_ties:
        kept = [row for row in rows if not is_tie(data.form, row)]
        if rows and not kept:
            raise DataError(f"`dataset.drop_ties=true` leaves no rows: all {len(rows)} have two equal responses.")
        dropped["drop_ties"] = len(rows) - len(kept)
        rows = kept
    if dataset.categories:
        known = {category for row in rows for category in row.get("categories", ())}
        if unknown := [category for category in dataset.categories if category not in known]:
            have = ", ".join(sorted(known)) or "none"
            raise DataError(f"`dataset.categories` has {unknown[0]!r}, but the harm categories of the rows are {have}.")
        kept = [row for row in rows if not set(dataset.categories).isdisjoint(row.get("categories", ()))]
        dropped["categories"] = len(rows) - len(kept)
        rows = kept
    return data.with_rows(rows), dropped


def content_of(form: DataSchema, row: Row) -> Any:
    """Return what two duplicates share, hashable: texts and labels, whichever response stands first."""
    if form == DataSchema.pku:
        responses = [
            (
                row[f"response_{i}"],
                row[f"is_response_{i}_safe"],
                row["better_response_id"] == i,
                row["safer_response_id"] == i,
            )
            for i in (0, 1)
        ]
        return row["prompt"], *sorted(responses)
    names = ("chosen", "rejected") if form == DataSchema.pairs else ("completion",)
    return key_of(row["prompt"]), *(key_of(row[name]) for name in names), row.get("label")


def is_tie(form: DataSchema, row: Row) -> bool:
    """Return whether both responses of the row are the same text; single completions are no ties."""
    if form == DataSchema.unpaired:
        return False
    first, second = ("response_0", "response_1") if form == DataSchema.pku else ("chosen", "rejected")
    return bool(row[first] == row[second])


def flip_labels(form: DataSchema, rows: Sequence[Row], fraction: float, seed: int) -> tuple[list[Row], int]:
    """Return all rows in their order, `fraction` of them (rounded) with flipped labels, and how many were flipped.

    pku: both ids and the safety of the responses change places; pairs: chosen and rejected do; unpaired: the label is
    negated.
    """
    count = round(fraction * len(rows))
    chosen = set(random.Random(f"flip-{seed}").sample(range(len(rows)), count))
    return [flip(form, row) if i in chosen else row for i, row in enumerate(rows)], count


def flip(form: DataSchema, row: Row) -> Row:
    """Return a copy of the row with the opposite labels; flipping twice gives the row back."""
    if form == DataSchema.unpaired:
        return row | {"label": not row["label"]}
    if form == DataSchema.pairs:
        return row | {"chosen": row["rejected"], "rejected": row["chosen"]}
    flipped = row | {name: 1 - row[name] for name in ("better_response_id", "safer_response_id")}
    return flipped | {f"is_response_{i}_safe": row[f"is_response_{1 - i}_safe"] for i in (0, 1)}
