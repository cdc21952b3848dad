"""Scores as CSV with full precision, for other programs; an empty cell where nothing was measured."""

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from sacpo_exp.evaluation.ledger.records import State
from sacpo_exp.reporting.against import Comparison, Pairing
from sacpo_exp.reporting.breakdown import CategoryScores, LengthScores
from sacpo_exp.reporting.conduct import Conduct
from sacpo_exp.reporting.ratings import GroupRatings
from sacpo_exp.reporting.scores import Difference, PolicyScores
from sacpo_exp.statistics.intervals import Estimate

Row = TypeVar("Row", PolicyScores, Difference, LengthScores)
Cell = str | float | int | None
FORMULA = ("=", "+", "-", "@")
COLUMNS = ("family", "order", "objective", "model", "dataset", "seed", "beta", "beta_first", "merge_ratio")


def policies_as_csv(scores: Sequence[PolicyScores]) -> str:
    """One line per policy; for each estimate its value, `_low`, `_high`, and `_n` prompts."""
    return write_columns(scores, policy_columns(list(scores[0].by_criterion) if scores else []))


def policy_columns(criteria: Sequence[str]) -> dict[str, Callable[[PolicyScores], Cell]]:
    """Name → cell of everything that is measured of a policy."""
    measured = [_criterion_columns(name) for name in criteria]
    return {
        **_label_columns(),
        **{name: cell for columns in measured for name, cell in columns.items()},
        **estimate_columns("refusal_rate_risky", lambda row: row.refusals),
        **estimate_columns("refusal_rate_benign", lambda row: row.over_refusals),
        **estimate_columns("judged_refusal_rate_risky", lambda row: row.judged_refusals),
        **estimate_columns("judged_refusal_rate_benign", lambda row: row.judged_over_refusals),
        **estimate_columns("kl_nats", lambda row: row.kl),
        "mean_tokens": lambda row: row.tokens,
        "mean_characters": lambda row: row.characters,
        "unparsed": lambda row: row.states["unparsed"],
        "refused": lambda row: row.states["refused"],
        "failed": lambda row: row.states["failed"],
    }


def _criterion_columns(name: str) -> dict[str, Callable[[PolicyScores], Cell]]:
    return {
        **estimate_columns(f"{name}_win_rate", lambda row: row.rate(name)),
        f"{name}_standard_error": lambda row: row.by_criterion[name].error,
        **estimate_columns(f"{name}_acceptable", lambda row: row.by_criterion[name].acceptable),
    }


def differences_as_csv(differences: Sequence[Difference], criteria: Sequence[str]) -> str:
    """One line per policy and evaluated ancestor."""
    columns: dict[str, Callable[[Difference], Cell]] = {
        **_label_columns(),
        "minus": lambda row: row.reference.title,
        "minus_id": lambda row: row.reference.id,
    }
    for name in criteria:
        columns |= _change_columns(name)
    return write_columns(differences, columns)


def _change_columns(name: str) -> dict[str, Callable[[Difference], Cell]]:
    return {
        **estimate_columns(f"{name}_difference", lambda row: row.changes[name]),
        f"{name}_p_value": lambda row: row.p_values[name],
        f"{name}_excludes_zero": lambda row: row.changes[name].excludes_zero,
    }


def lengths_as_csv(lengths: Sequence[LengthScores]) -> str:
    """One line per policy and criterion."""
    columns: dict[str, Callable[[LengthScores], Cell]] = {
        **_label_columns(),
        "criterion": lambda row: row.criterion.name,
        **estimate_columns("at_equal_length", lambda row: row.adjusted),
        **estimate_columns("shorter", lambda row: row.by_length["shorter"]),
        **estimate_columns("similar", lambda row: row.by_length["similar"]),
        **estimate_columns("longer", lambda row: row.by_length["longer"]),
    }
    return write_columns(lengths, columns)


def categories_as_csv(categories: Sequence[CategoryScores]) -> str:
    """One line per policy, criterion and category."""
    rows = [
        [row.policy.title, row.policy.id, row.criterion.name, name, *_cells(estimate)]
        for row in categories
        for name, estimate in row.estimates.items()
    ]
    return write_rows(["policy", "policy_id", "criterion", "category", *_names("win_rate")], rows)


def conduct_as_csv(conducts: Sequence[Conduct]) -> str:
    """One line per policy and criterion, and one for all policies together."""
    measures = ("flip_rate", "half_flip_rate", "first_rate", "tie_rate", "repeat_deviation")
    rows: list[list[Cell]] = []
    for row in conducts:
        counts = [row.states[state] for state in State]
        cells = [cell for measure in measures for cell in _cells(getattr(row.bias, measure))]
        rows.append([row.title, row.criterion.name, *counts, *cells])
    return write_rows(["matches_of", "criterion", *State, *(n for m in measures for n in _names(m))], rows)


def ratings_as_csv(ratings: Mapping[str, GroupRatings]) -> str:
    """One line per rated policy and criterion; those without a rating stand in the table's notes."""
    rows: list[list[Cell]] = []
    for criterion, rating in ratings.items():
        for row in rating.rows:
            tally = (row.tally.wins, row.tally.ties, row.tally.losses)
            uncertain = (row.plain_error, row.spread)
            rows.append([criterion, rating.method.value, row.title, *_cells(row.elo), *uncertain, *tally])
    names = ["plain_standard_error", "spread", "wins", "ties", "losses"]
    return write_rows(["criterion", "method", "policy", *_names("rating"), *names], rows)


def comparison_as_csv(comparison: Comparison) -> str:
    """One line per published row and policy of ours that belongs to it; ours stays empty where there is none."""
    names = ["published", "family", "beta_first", "beta", "merge_ratio", "source", "note", "policy", "policy_id"]
    for rate in comparison.criteria:
        names += [name for whose in ("published", "own", "difference") for name in _names(f"{rate}_{whose}")]
        names.append(f"{rate}_excludes_zero")
    return write_rows(names, [_list_pairing(pairing, comparison.criteria) for pairing in comparison.pairings])


def _list_pairing(pairing: Pairing, criteria: Sequence[str]) -> list[Cell]:
    row, own = pairing.row, pairing.own
    columns = row.policy.policy.columns
    cells: list[Cell] = [
        row.policy.title,
        *(columns[name] for name in ("family", "beta_first", "beta", "merge_ratio")),
    ]
    cells += [row.source, row.note, own.policy.title if own else None, own.policy.id if own else None]
    for name in criteria:
        difference = pairing.differences[name]
        ours = [*_cells(own.rate(name)), *_cells(difference), difference.excludes_zero] if own else [None] * 9
        cells += [*_cells(row.rates[name]), *ours]
    return cells


def _names(name: str) -> list[str]:
    return [name, f"{name}_low", f"{name}_high", f"{name}_n"]


def _cells(estimate: Estimate) -> list[Cell]:
    return [estimate.value, estimate.low, estimate.high, estimate.n]


def _label_columns() -> dict[str, Callable[[Row], Cell]]:
    columns: dict[str, Callable[[Row], Cell]] = {"policy": lambda row: row.policy.title}
    for key in COLUMNS:
        columns[key] = partial(_read_column, key)
    return columns | {"name": lambda row: row.policy.labels.get("name"), "policy_id": lambda row: row.policy.id}


def _read_column(key: str, row: Row) -> Cell:
    cell: Cell = row.policy.policy.columns[key]
    return cell


def estimate_columns(name: str, estimate: Callable[[Row], Estimate]) -> dict[str, Callable[[Row], Cell]]:
    """Value, ends of the interval, and number of prompts."""
    return {
        name: lambda row: estimate(row).value,
        f"{name}_low": lambda row: estimate(row).low,
        f"{name}_high": lambda row: estimate(row).high,
        f"{name}_n": lambda row: estimate(row).n,
    }


def write_columns(rows: Sequence[Row], columns: Mapping[str, Callable[[Row], Cell]]) -> str:
    """One line per row."""
    return write_rows(list(columns), [[cell(row) for cell in columns.values()] for row in rows])


def write_rows(names: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Names, then rows; NaN and None leave a cell empty.

    A text that a spreadsheet would take for a formula begins with an apostrophe.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for cells in rows:
        writer.writerow(map(_write_cell, cells))
    return text.getvalue()


def _write_cell(cell: Cell) -> Cell:
    if isinstance(cell, str):
        return f"'{cell}" if cell.lstrip().startswith(FORMULA) else cell
    return None if isinstance(cell, float) and math.isnan(cell) else cell
