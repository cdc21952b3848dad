"""Which rows are used: without duplicates or ties, of some harm categories, mixed, with turned labels. Pure, seeded."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sacpo_exp.config.data import DataSchema, DatasetConfig
from sacpo_exp.data.preferences import Preferences, Row, key_of
from sacpo_exp.errors import DataError

OTHER = {0: 1, 1: 0}


@dataclass(frozen=True)
class Selection:
    """Rows after one operation, and how many of the rows before were dropped, or turned around."""

    rows: list[Row]
    count: int


@dataclass(frozen=True)
class Mixture:
    """Rows of several sources, and how many each source gave, in the order of the sources."""

    preferences: Preferences
    taken: list[int]


def select_rows(data: Preferences, dataset: DatasetConfig) -> tuple[Preferences, dict[str, int]]:
    """Drop what `dataset` says; also how many rows each option dropped, by its name.

    Raises:
        DataError: nothing is left, naming the option responsible.
    """
    rows: Sequence[Row] = data.rows
    dropped = {}
    if dataset.drop_duplicates:
        selection = drop_duplicates(data.form, rows)
        rows, dropped["drop_duplicates"] = selection.rows, selection.count
    if dataset.drop_ties:
        selection = drop_ties(data.form, rows)
        rows, dropped["drop_ties"] = selection.rows, selection.count
    if dataset.categories:
        selection = keep_categories(rows, dataset.categories)
        rows, dropped["categories"] = selection.rows, selection.count
    return data.with_rows(rows), dropped


def drop_duplicates(form: DataSchema, rows: Sequence[Row]) -> Selection:
    """The first of all rows that say the same: texts and labels, whichever response stands first."""
    first: dict[Any, Row] = {}
    for row in rows:
        first.setdefault(content_of(form, row), row)
    return Selection(list(first.values()), len(rows) - len(first))


def content_of(form: DataSchema, row: Row) -> Any:
    """What two rows have in common when they are duplicates; hashable."""
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


def drop_ties(form: DataSchema, rows: Sequence[Row]) -> Selection:
    """Rows whose two responses differ; single completions are no ties.

    Raises:
        DataError: there are none.
    """
    kept = [row for row in rows if not is_tie(form, row)]
    if rows and not kept:
        raise DataError(f"`dataset.drop_ties=true` leaves no rows: all {len(rows)} have two equal responses.")
    return Selection(kept, len(rows) - len(kept))


def is_tie(form: DataSchema, row: Row) -> bool:
    """Whether both responses of the row are the same text."""
    if form == DataSchema.unpaired:
        return False
    first, second = ("response_0", "response_1") if form == DataSchema.pku else ("chosen", "rejected")
    return bool(row[first] == row[second])


def keep_categories(rows: Sequence[Row], categories: Sequence[str]) -> Selection:
    """Rows of which a response is harmful in one of the categories.

    Raises:
        DataError: a category is in no row, perhaps since rows have none.
    """
    there = {category for row in rows for category in row.get("categories", ())}
    if not there:
        raise DataError("`dataset.categories` needs rows with harm categories, but these have none.")
    if unknown := [category for category in categories if category not in there]:
        raise DataError(f"`dataset.categories` has {unknown[0]!r}, but the rows have {', '.join(sorted(there))}.")
    kept = [row for row in rows if not set(categories).isdisjoint(row.get("categories", ()))]
    return Selection(kept, len(rows) - len(kept))


def flip_labels(form: DataSchema, rows: Sequence[Row], fraction: float, seed: int) -> Selection:
    """All rows in their order, `fraction` of them (rounded) with their labels turned around.

    pku: both ids, and the safety of the responses, change places; pairs: chosen and rejected do; unpaired: the label
    is negated.
    """
    count = round(fraction * len(rows))
    chosen = set(random.Random(f"flip-{seed}").sample(range(len(rows)), count))
    return Selection([flip(form, row) if i in chosen else row for i, row in enumerate(rows)], count)


def flip(form: DataSchema, row: Row) -> Row:
    """A copy of the row with the opposite labels; flipped twice it is the row again."""
    if form == DataSchema.unpaired:
        return row | {"label": not row["label"]}
    if form == DataSchema.pairs:
        return row | {"chosen": row["rejected"], "rejected": row["chosen"]}
    flipped = row | {name: OTHER[row[name]] for name in ("better_response_id", "safer_response_id")}
    flipped |= {f"is_response_{i}_safe": row[f"is_response_{OTHER[i]}_safe"] for i in (0, 1)}
    return flipped | ({"severity": row["severity"][::-1]} if "severity" in row else {})


def mix(parts: Sequence[Preferences], weights: Sequence[float], seed: int) -> Mixture:
    """As many rows as the weights (relative shares) allow without taking any twice, shuffled together.

    With shares s_i = w_i / Σw there are n = min(len_i / s_i) rows, of which part i gives n·s_i, rounded down.

    Raises:
        DataError: the parts have different forms or criteria, or one of them would give nothing.
    """
    first = parts[0]
    for part in parts[1:]:
        if (part.form, part.criterion) != (first.form, first.criterion):
            raise DataError(f"`dataset.mix` can't put together {_kind(first)} and {_kind(part)}.")
    counts = count_parts([len(part.rows) for part in parts], weights)
    chooser = random.Random(f"mix-{seed}")
    rows = [row for part, count in zip(parts, counts, strict=True) for row in _sample(part.rows, count, chooser)]
    chooser.shuffle(rows)
    skipped = sum(part.skipped for part in parts)
    return Mixture(Preferences(first.form, first.detected, first.criterion, tuple(rows), skipped), counts)


def count_parts(sizes: Sequence[int], weights: Sequence[float]) -> list[int]:
    """Rows that each of the parts gives to a mixture.

    Raises:
        DataError: a weight is not positive, or a part would give nothing.
    """
    if wrong := [weight for weight in weights if not 0 < weight < float("inf")]:
        raise DataError(f"weights of `dataset.mix` must be greater than 0, but one is {wrong[0]:g}.")
    per_weight = min(size / weight for size, weight in zip(sizes, weights, strict=True))
    # a part that is taken whole must not lose a row to rounding
    counts = [min(size, int(per_weight * weight + 1e-6)) for size, weight in zip(sizes, weights, strict=True)]
    if 0 in counts:
        number = counts.index(0) + 1
        raise DataError(
            f"`dataset.mix` leaves nothing of its part {number}: with weights {', '.join(f'{w:g}' for w in weights)} "
            f"and {', '.join(map(str, sizes))} rows it would give {counts[number - 1]}."
        )
    return counts


def _sample(rows: Sequence[Row], count: int, chooser: random.Random) -> list[Row]:
    return [rows[i] for i in sorted(chooser.sample(range(len(rows)), count))]


def _kind(part: Preferences) -> str:
    return f"{part.form.value} rows" + (f" for {part.criterion}" if part.criterion else "")
