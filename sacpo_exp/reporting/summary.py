"""One row per policy over all groups, with plain numbers: what trackers show as a table, and the names they get."""

import math
from collections.abc import Iterator, Sequence

from sacpo_exp.reporting.cohorts import Cohort
from sacpo_exp.reporting.scores import GroupScores, PolicyScores
from sacpo_exp.statistics.intervals import Estimate

Cell = str | float | int | None


def summarize_policies(scores: Sequence[GroupScores], cohorts: Sequence[Cohort]) -> tuple[list[str], list[list[Cell]]]:
    """Columns, one row per policy, and one per mean over seeds; None where nothing was measured."""
    means = [cohort.means for cohort in cohorts if cohort.means]
    rows = [
        _describe(group, row) | {name.replace("/", "_"): value for name, value in name_scores(row).items()}
        for group in [*scores, *means]
        for row in group.policies
    ]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return columns, [[row.get(name) for name in columns] for row in rows]


def name_scores(row: PolicyScores) -> dict[str, float]:
    """What was measured of a policy, by name: `helpfulness/win_rate`, its interval's ends, its number of prompts."""
    estimates = {
        **{f"{name}/win_rate": scores.rate for name, scores in row.by_criterion.items()},
        "refusals/risky": row.refusals,
        "refusals/benign": row.over_refusals,
        "kl": row.kl,
    }
    named = dict(pair for name, estimate in estimates.items() for pair in _parts(name, estimate))
    named |= {"length/tokens": row.tokens, "length/characters": row.characters}
    if row.seeds:
        named |= {"seeds": len(row.seeds)}
        named |= {f"{name}/win_rate/sd": row.over_seeds[name].deviation for name in row.by_criterion}
    return {name: value for name, value in named.items() if not math.isnan(value)}


def _parts(name: str, estimate: Estimate) -> Iterator[tuple[str, float]]:
    yield name, estimate.value
    if not math.isnan(estimate.value):
        yield f"{name}/low", estimate.low
        yield f"{name}/high", estimate.high
        yield f"{name}/n", estimate.n


def _describe(group: GroupScores, row: PolicyScores) -> dict[str, Cell]:
    policy, columns = row.policy, row.policy.policy.columns
    return {
        "policy": policy.title + (f", mean of {len(row.seeds)} seeds" if row.seeds else ""),
        "beta": policy.beta,
        "q": policy.merge_ratio,
        **{name: columns[name] for name in ("order", "objective", "model", "dataset")},
        "seed": None if row.seeds else columns["seed"],
        "judge": group.group.policies[0].labels["judge"],
        "prompts": group.group.policies[0].labels["prompts"],
        "policy_id": None if row.seeds else policy.id,
    }
