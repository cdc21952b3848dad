"""Means over seeds and gaps as CSV with full precision, for other programs."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from sacpo_exp.reporting.cohorts import Gap
from sacpo_exp.reporting.csv_files import Cell, policy_columns, write_columns, write_rows
from sacpo_exp.reporting.scores import PolicyScores
from sacpo_exp.statistics.seeds import SeedEstimate

SPREADS = ("refusals", "over_refusals", "kl")


def seeds_as_csv(means: Sequence[PolicyScores]) -> str:
    """One line per mean over seeds: the columns of a policy, its seeds, the spread between them, and their policies."""
    names = list(means[0].by_criterion) if means else []
    usual = policy_columns(names)
    for name in ("seed", "name", "policy_id", *(f"{name}_standard_error" for name in names)):
        del usual[name]  # of one policy
    columns: dict[str, Callable[[PolicyScores], Cell]] = {
        **usual,
        "seeds": lambda row: " ".join(str(seed.policy.policy.seed) for seed in row.seeds),
        **{f"{name}_seed_deviation": partial(_find_spread, name) for name in (*names, *SPREADS)},
        "policy_ids": lambda row: " ".join(seed.policy.id for seed in row.seeds),
    }
    return write_columns(means, columns)


def _find_spread(name: str, row: PolicyScores) -> float:
    return row.over_seeds[name].deviation


def gaps_as_csv(gaps: Sequence[Gap]) -> str:
    """One line per pair of policies over its seeds."""
    heads = ["comparison", "policy", "minus", "beta", "merge_ratio", "minus_beta", "seeds"]
    for criterion in gaps[0].changes if gaps else ():
        name = f"{criterion}_difference"
        heads += [name, f"{name}_low", f"{name}_high", f"{name}_n", f"{name}_seeds", f"{name}_seed_deviation"]
    return write_rows([*heads, "policy_ids", "minus_ids"], [list(_gap_cells(gap)) for gap in gaps])


def _gap_cells(gap: Gap) -> Iterator[Cell]:
    ours, theirs = (row.policy for row in gap.pairs[0])
    yield gap.comparison
    yield from (ours.policy.family, theirs.policy.family, ours.beta, ours.merge_ratio, theirs.beta)
    yield " ".join(str(pair[0].policy.policy.seed) for pair in gap.pairs)
    for each in gap.changes.values():
        yield from _estimate_cells(each)
    yield from (" ".join(pair[place].policy.id for pair in gap.pairs) for place in (0, 1))


def _estimate_cells(each: SeedEstimate) -> Iterator[Cell]:
    estimate = each.estimate
    yield from (estimate.value, estimate.low, estimate.high, estimate.n, each.seeds, each.deviation)
