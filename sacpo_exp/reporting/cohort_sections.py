"""The tables about a cohort: policies over seeds, the gap between orders, merges against λ_q."""

from collections.abc import Iterator, Sequence

from sacpo_exp.reporting.cohorts import Cohort, Gap
from sacpo_exp.reporting.numbers import NOTHING, format_estimate, format_number, format_weights
from sacpo_exp.reporting.scores import GroupScores
from sacpo_exp.reporting.section import Section
from sacpo_exp.statistics.seeds import SeedEstimate


def make_cohort_sections(cohort: Cohort) -> list[Section]:
    """Every table that has something to say, in the order of a report."""
    return list(_list_sections(cohort))


def _list_sections(cohort: Cohort) -> Iterator[Section]:
    confidence = f"{100 * cohort.confidence:g} %"
    if cohort.means:
        yield _over_seeds(cohort, cohort.means, confidence)
    for comparison, make in (("order", _orders), ("lambda_q", _ratios)):
        if gaps := [gap for gap in cohort.gaps if gap.comparison == comparison]:
            yield make(gaps, confidence)


def _over_seeds(cohort: Cohort, means: GroupScores, confidence: str) -> Section:
    names = [criterion.name for criterion in means.group.criteria]
    rows = [["policy", "β", "q", "seeds", *(head for name in names for head in (name, "sd")), "n"]]
    for row in means.policies:
        settings = [format_number(row.policy.beta), format_weights(row.policy.policy), str(len(row.seeds))]
        cells = [cell for name in names for cell in _cells(row.over_seeds[name], "")]
        rows.append([row.policy.name, *settings, *cells, "/".join(str(row.rate(name).n) for name in names)])
    note = (
        f"Policies that differ in nothing but the seed: mean of their win rates [{confidence} interval over seeds and "
        "prompts];\nsd: standard deviation between the seeds' rates."
    )
    baselines = {row.policy.labels["baseline_id"] for row in cohort.rows}
    if len(baselines) > 1:
        note += " Each seed is judged against the baseline of that seed."
    if len({row.policy.labels["judge_id"] for row in cohort.rows}) > 1:
        note += "\nEach seed has a judge of its own as well, whose model starts from that seed."
    if any(each.seeds < len(row.seeds) for row in means.policies for each in (row.over_seeds[name] for name in names)):
        note += "\nA seed whose rate is withheld is not in the mean."
    return Section("Win rates over seeds", rows, 1, note)


def _orders(gaps: Sequence[Gap], confidence: str) -> Section:
    rows = [["stages", "β", "β/λ", *_gap_heads(gaps)]]
    for gap in gaps:
        ours, theirs = (row.policy for row in gap.pairs[0])
        settings = [format_number(theirs.beta), format_number(ours.beta)]
        rows.append([ours.policy.family, *settings, *_gap_cells(gap, gaps)])
    note = (
        "At the optimum both orders give the same policy. A pair differs in the order alone: for each criterion it has "
        f"one\nstage with the same loss, β, data, batch and learning rate.\n{_explain(gaps, confidence)}"
    )
    return Section(f"Order gap: {_say_order(gaps, 0)} minus {_say_order(gaps, 1)}", rows, 1, note)


def _ratios(gaps: Sequence[Gap], confidence: str) -> Section:
    rows = [["stages", "q", "β/λ", "β/λ_q", *_gap_heads(gaps)]]
    for gap in gaps:
        ours, theirs = (row.policy for row in gap.pairs[0])
        settings = [format_number(number, ".3g") for number in (ours.merge_ratio, ours.beta, theirs.beta)]
        rows.append([theirs.policy.family, *settings, *_gap_cells(gap, gaps)])
    note = "For log-linear policies the merge at q is the optimum for λ_q = q·λ, which training with β/λ divided by q "
    return Section("P-SACPO at q minus training for λ_q", rows, 1, f"{note}aims at.\n{_explain(gaps, confidence)}")


def _gap_heads(gaps: Sequence[Gap]) -> list[str]:
    heads = [head for name in gaps[0].changes for head in ((name, "sd") if _has_seeds(gaps) else (name,))]
    return ["seeds", *heads, "n"]


def _say_order(gaps: Sequence[Gap], side: int) -> str:
    orders = {f"{gap.pairs[0][side].policy.policy.criteria[0]} first" for gap in gaps}
    return orders.pop() if len(orders) == 1 else ("one order", "the other")[side]


def _gap_cells(gap: Gap, gaps: Sequence[Gap]) -> list[str]:
    both = list(gap.changes.values())
    cells = [cell for each in both for cell in _cells(each, "+")[: 2 if _has_seeds(gaps) else 1]]
    counts = "/".join(str(each.estimate.n) if each.estimate.n else NOTHING for each in both)
    return [str(len(gap.pairs)), *cells, counts]


def _cells(each: SeedEstimate, sign: str) -> list[str]:
    """The mean with its interval, of a difference with a mark where that excludes 0, and the spread."""
    mark = (" *" if each.estimate.excludes_zero else "  ") if sign else ""
    return [format_estimate(each.estimate, sign) + mark, format_number(each.deviation, ".3f")]


def _has_seeds(gaps: Sequence[Gap]) -> bool:
    return any(len(gap.pairs) > 1 for gap in gaps)


def _explain(gaps: Sequence[Gap], confidence: str) -> str:
    if _has_seeds(gaps):
        return (
            f"Paired by seed and prompt [{confidence} interval over both, of one seed over prompts]; * excludes 0. sd: "
            "between the seeds' gaps."
        )
    return f"Paired by prompt [{confidence} bootstrap interval over prompts of one seed]; * excludes 0."
