"""The rows of a report's tables: all of their columns are in the CSV files, some in the text."""

import math
from collections.abc import Iterator
from typing import Any, Final

from sacpo_exp.reporting.cohorts import Cohort
from sacpo_exp.reporting.published import Comparison
from sacpo_exp.reporting.scores import GroupScores, PolicyScores, label_cells
from sacpo_exp.reporting.tables import Cell, Row, spread_estimates
from sacpo_exp.statistics.win_rate import withhold

#: Estimates whose spread between seeds has a column, beside win rates.
SPREADS: Final = {"refusals": "refusal_rate_risky", "over_refusals": "refusal_rate_benign", "kl": "kl_nats"}


def policy_row(row: PolicyScores) -> Row:
    """Return everything that is measured of a policy; of a mean over seeds with the spread between them."""
    cells = label_cells(row.policy) | row.estimates
    cells |= {f"{name}_standard_error": error for name, error in row.errors.items()}
    cells |= {"mean_tokens": row.tokens, "mean_characters": row.characters}
    cells |= {state: row.states[state] for state in ("unparsed", "refused", "failed")}
    if row.seeds:
        for name in ("seed", "name", "policy_id"):
            del cells[name]
        names = {each.name: f"{each.name}_win_rate" for each in row.policy.criteria} | SPREADS
        cells |= {"seeds": " ".join(str(seed.policy.policy.seed) for seed in row.seeds)}
        cells |= {f"{short}_seed_deviation": row.over_seeds[name].deviation for short, name in names.items()}
        cells |= {"policy_ids": " ".join(seed.policy.id for seed in row.seeds)}
    return cells


def published_rows(comparison: Comparison) -> Iterator[Row]:
    """Yield a row per published policy and policy of ours that matches it, whose cells are empty if there is none."""
    for pairing in comparison.pairings:
        row, own = pairing.row, pairing.own
        columns: dict[str, Any] = row.policy.policy.columns
        cells: Row = {"published": row.policy.title}
        cells |= {name: columns[name] for name in ("family", "beta_first", "beta", "merge_ratio")}
        cells |= {"source": row.config.source, "note": row.config.note}
        cells |= {"policy": own.policy.title if own else None, "policy_id": own.policy.id if own else None}
        for name, difference in pairing.differences.items():
            cells |= {f"{name}_published": row.rates[name], f"{name}_own": own.rate(name) if own else withhold(0)}
            cells |= {f"{name}_difference": difference}
            cells[f"{name}_excludes_zero"] = difference.excludes_zero if own else None
        yield cells


def gap_rows(cohort: Cohort) -> Iterator[Row]:
    """Yield a row per pair of policies over its seeds."""
    for gap in cohort.gaps:
        ours, theirs = (row.policy for row in gap.pairs[0])
        cells: Row = {"comparison": gap.comparison, "policy": ours.policy.family, "minus": theirs.policy.family}
        cells |= {"beta": ours.beta, "merge_ratio": ours.policy.merge_ratio, "minus_beta": theirs.beta}
        cells["seeds"] = " ".join(str(pair[0].policy.policy.seed) for pair in gap.pairs)
        for criterion, each in gap.changes.items():
            name = f"{criterion}_difference"
            cells |= {name: each.estimate, f"{name}_seeds": each.seeds, f"{name}_seed_deviation": each.deviation}
        for name, side in (("policy_ids", 0), ("minus_ids", 1)):
            cells[name] = " ".join(pair[side].policy.id for pair in gap.pairs)
        yield cells


def group_rows(scores: GroupScores) -> dict[str, list[Row]]:
    """Return the rows of each CSV file about a group; of all but the first two only those that have rows."""
    optional = {
        "lengths.csv": list(scores.lengths),
        "categories.csv": list(scores.categories),
        "judge.csv": list(scores.conduct),
        "ratings.csv": [row for rows, _ in scores.ratings.values() for row in rows],
        "published.csv": list(published_rows(scores.published)) if scores.published else [],
    }
    always = {"table.csv": list(map(policy_row, scores.policies)), "differences.csv": list(scores.differences)}
    return always | {name: rows for name, rows in optional.items() if rows}


def tracker_row(row: PolicyScores) -> dict[str, Any]:
    """Return `policy_row` for trackers: without NaN, and without estimates that have no number."""
    cells = spread_estimates({name: cell for name, cell in policy_row(row).items() if _is_known(cell)})
    return {name: cell for name, cell in cells.items() if _is_known(cell)}


def _is_known(cell: Cell) -> bool:
    value = getattr(cell, "value", cell)
    return value is not None and not (isinstance(value, float) and math.isnan(value))
