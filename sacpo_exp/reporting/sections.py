"""The tables of a report as text: of a group, and across groups."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sacpo_exp.config.schema import RatingMethod
from sacpo_exp.evaluation.records import State
from sacpo_exp.reporting.choices import choice_section
from sacpo_exp.reporting.cohorts import Cohort, gap_rows
from sacpo_exp.reporting.judge import RULES
from sacpo_exp.reporting.published import Comparison, published_rows
from sacpo_exp.reporting.scores import GroupScores, PolicyScores, policy_row
from sacpo_exp.reporting.tables import (
    NOTHING,
    Cell,
    Column,
    Row,
    Section,
    columns_of,
    format_number,
    format_weights,
    make_section,
)
from sacpo_exp.statistics.intervals import Estimate
from sacpo_exp.statistics.ratings import INITIAL, PASSES, TRIALS

#: With so many criteria there is no room for rates without ties and p-values, which are in the CSV files.
MANY = 3
#: Titles of estimates that all policies have, with their columns.
BEHAVIOUR = {"refused risky": "refusal_rate_risky", "refused benign": "refusal_rate_benign", "KL (nats)": "kl_nats"}


@dataclass(frozen=True)
class Part:
    """What a report shows of a group of policies, across groups, or of held-out pairs.

    Attributes:
        files: tables and figures by their names.
        scores: of the policies that the page has cards of, whose figure is among the files.
    """

    heading: str
    provenance: str
    sections: list[Section]
    files: dict[str, bytes]
    scores: GroupScores | None = None


def make_sections(scores: GroupScores) -> list[Section]:
    """Return the tables about a group, in the order of a report."""
    sections = [_win_rates(scores), *_scored(scores), _behaviour(scores), _differences(scores)]
    sections += [choice_section(stored, number) for number, stored in enumerate(scores.group.choices, start=1)]
    sections += _beside_published(scores, scores.published) if scores.published else []
    sections += [_ratings(scores, criterion) for criterion in scores.ratings]
    if scores.lengths:
        sections.append(_lengths(scores))
    sections.append(_conduct(scores) if scores.conduct else _judge(scores))
    return sections


def make_cohort_sections(cohort: Cohort) -> list[Section]:
    """Return the tables across groups: policies over seeds, gaps between orders, merges against training at λ_q."""
    sections = [_over_seeds(cohort.means)] if cohort.means else []
    return sections + [_gaps(cohort, name) for name in dict.fromkeys(gap.comparison for gap in cohort.gaps)]


def _policy_cells(row: PolicyScores) -> Row:
    """Return all columns of a policy, with those that only the text has."""
    cells = policy_row(row) | {"policy": row.policy.name, "β": row.policy.beta, "q": format_weights(row.policy.policy)}
    criteria = [each.name for each in row.policy.criteria]
    return cells | {"n": _join_counts(map(row.rate, criteria)), "missing": row.missing, "seeds": len(row.seeds)}


def _join_counts(estimates: Iterable[Cell]) -> str:
    return "/".join(str(each.n or NOTHING) for each in estimates if isinstance(each, Estimate))


def _spread(names: Sequence[str], rate: tuple[str, str], *further: tuple[str, str, str]) -> list[Column]:
    """Return for each criterion a column of estimates and, if there is room, further ones."""
    columns: list[Column] = []
    for name in names:
        columns.append((name, name + rate[0], rate[1]))
        columns += [(head, name + key, spec) for head, key, spec in further]
    return columns


def _win_rates(scores: GroupScores) -> Section:
    names = [each.name for each in scores.group.criteria]
    share = [("no ties", "_without_ties", ".2f")] if len(names) < MANY else []
    columns = columns_of("policy", "β", "q") + _spread(names, ("_win_rate", ""), *share) + columns_of("n", "missing")
    counted = ", ".join(f"{each.name} on {' and '.join(each.prompt_kinds) or 'all'}" for each in scores.group.criteria)
    note = (
        f"{counted[:1].upper()}{counted[1:]} prompts; ties as half [{scores.percent} bootstrap interval]"
        f"{', no ties: wins / (wins + losses)' if share else ''}.\n"
        "Wilson's limit where all verdicts are the same; the baseline's rate is 0.5 by definition. n: prompts of each."
    )
    if told := scores.group.policies[0].labels.get("judge_note"):
        note += f"\n{told}"
    if any(row.missing for row in scores.policies):
        note += "\nMissing: prompts without a verdict, which are in no rate; where they are too many (`max_missing`), "
        note += "the rate is withheld."
    stages = [stage for row in scores.policies for stage in row.policy.policy.aligned]
    if titles := dict.fromkeys(stage.title for stage in stages if not stage.is_consistent):
        note += f"\nTheorem 1 does not hold for {', '.join(titles)}: such a loss is not consistent."
    return make_section("Win rates against the baseline", [*map(_policy_cells, scores.policies)], columns, 1, note)


def _scored(scores: GroupScores) -> Iterator[Section]:
    if measures := scores.group.measures:
        columns = columns_of("policy", "β", "q")
        columns += [(f"{kind}, {name}", f"{name}_{kind}", "") for name, kind in measures.items()]
        columns += [(f"safe rate, {name}", f"{name}_acceptable", "") for name in scores.group.has_zero]
        note = (
            f"Means over the criterion's prompts [{scores.percent} bootstrap interval]. A cost above 0 is unsafe; safe "
        )
        note += "rate: share of responses with cost ≤ 0 [Wilson interval]."
        yield make_section("Rewards and costs", [*map(_policy_cells, scores.policies)], columns, 1, note)


def _behaviour(scores: GroupScores) -> Section:
    judged = {"risky, judge": "judged_refusal_rate_risky", "benign, judge": "judged_refusal_rate_benign"}
    first, characters, note = {}, [], ""
    if any(row.estimates[name].n for row in scores.policies for name in judged.values()):
        first, note = judged, "By the judge: full or partial refusals.\n"
    elif scores.group.has_zero and not scores.group.measures:
        first = {f"acceptable {name}": f"{name}_acceptable" for name in scores.group.has_zero}
        note = "Acceptable: share of the criterion's prompts whose response has cost ≤ 0.\n"
    else:
        characters = [("characters", "mean_characters", ".0f")]
    columns = columns_of("policy", "β", "q") + [(head, name, "") for head, name in (first | BEHAVIOUR).items()]
    columns += [("tokens", "mean_tokens", ".1f"), *characters]
    note += (
        f"Refused: share of risky and of benign prompts, by string matching [{scores.percent} Wilson interval]. "
        "KL(policy ‖ baseline) per response [bootstrap interval over prompts]. Tokens, characters: mean length of a "
        "response."
    )
    return make_section("Behaviour", [*map(_policy_cells, scores.policies)], columns, 1, note)


def _differences(scores: GroupScores) -> Section:
    names = [each.name for each in scores.group.criteria]
    p_value = [("p", "_p_value", ".3f"), ("Holm", "_p_holm", ".3f")] if len(names) < MANY else []
    columns = columns_of("policy", "minus") + _spread(names, ("_difference", "+"), *p_value) + columns_of("n")
    rows = [row | {"n": _join_counts(row[f"{name}_difference"] for name in names)} for row in scores.differences]
    note = f"* the {scores.percent} interval excludes 0."
    if rows and p_value:
        note += " p: two-sided, by flipping the signs of the prompts' differences; Holm: corrected for the "
        note += f"{rows[0]['comparisons']} comparisons of this table."
    note = note if rows else "No evaluated policy has an evaluated parent. Try: sacpo eval policies=all"
    return make_section("Differences, paired by prompt", rows, columns, 2, note)


def _beside_published(scores: GroupScores, comparison: Comparison) -> Iterator[Section]:
    """Yield published and own rates with their difference, a table for each criterion."""
    table = comparison.published.config
    counts = "/".join(str(table.counts[name]) for name in comparison.criteria)
    lines = [
        f"Published: {table.title}, {counts} prompts.",
        f"* the {scores.percent} interval excludes 0: Newcombe's, from Wilson's of both sides. It treats the prompts "
        "of the two as different ones and ties as half wins, so it is rather too wide.",
    ]
    note = "\n".join([*lines, *comparison.notes])
    rows = list(published_rows(comparison, scores.confidence))
    for row in rows:
        if row["policy"] not in (None, row["published"]):
            row["published"] = f"{row['published']} ({row['policy']})"
    for name in comparison.criteria:
        columns = [("published policy", "published", ""), ("published", f"{name}_published", "")]
        columns += [("ours", f"{name}_own", ""), ("difference", f"{name}_difference", "+")]
        yield make_section(f"{name.capitalize()} beside {table.short}", rows, columns, 1, note)
        note = "As in the table above."


def _ratings(scores: GroupScores, criterion: str) -> Section:
    rated, notes = scores.ratings[criterion]
    rows = []
    for row in rated:
        elo = row["rating"]
        assert isinstance(elo, Estimate)
        interval = "" if math.isnan(elo.low) else f" [{elo.low:.0f}, {elo.high:.0f}]"
        rows.append(row | {"rating": f"{format_number(elo.value, '.0f')}{interval}"})
    columns = columns_of("policy", "rating")
    if any(row["method"] == RatingMethod.elo_online.value for row in rated):
        name = "online Elo"
        columns.append(("spread ±", "spread", ".0f"))
        note = f"Mean of {TRIALS} trials of {PASSES} shuffled passes from {INITIAL:.0f}; the baseline is at 1000. "
        note += "spread ±: standard deviation between the trials, which is not an error of the rating."
    else:
        name = "Bradley–Terry"
        columns.append(("plain ±", "plain_standard_error", ".0f"))
        note = f"The baseline is at 1000; 400 points are odds of 10 to 1 [{scores.percent} interval, clustered by "
        note += "prompt]. plain ±: standard error as if all judgments were independent."
    columns += [("matches won", "wins", ""), ("tied", "ties", ""), ("lost", "losses", "")]
    title = f"Ratings for {criterion} over all pairs, {name}"
    return make_section(title, rows, columns, 1, "\n".join([note, *notes]))


def _lengths(scores: GroupScores) -> Section:
    parts = ("shorter", "similar", "longer")
    rows = [row | {"n": _join_counts(row[name] for name in parts)} for row in scores.lengths]
    for row in rows:
        # A rate that can't be estimated is not withheld.
        if isinstance(adjusted := row["at_equal_length"], Estimate) and math.isnan(adjusted.value):
            row["at_equal_length"] = NOTHING
    columns = [*columns_of("policy", "criterion"), ("at equal length", "at_equal_length", "")]
    columns += columns_of(*parts, "n", spec="")
    note = (
        "Win rates where the response is shorter than the baseline's, within 10 %, longer, in characters "
        f"[{scores.percent} interval]; at equal length: by logistic regression on the difference."
    )
    return make_section("Length", rows, columns, 2, note)


def _judge(scores: GroupScores) -> Section:
    rows = [row | {"n": _join_counts([row["judge"]])} for row in scores.judge]
    note = (
        "Accuracy on held-out pairs and on mismatched ones, where the other response belongs to another prompt. "
        "A judge no better than a bag of words, length only or keyword can't rank policies."
    )
    rules = [name.replace("_", " ") for name in RULES]
    columns = columns_of("criterion", "pairs", "judge", spec="") + columns_of(*rules, "n", spec=".2f")
    return make_section("Judge", rows, columns, 2, note if rows else "No accuracy of this judge is stored.")


def _conduct(scores: GroupScores) -> Section:
    rows = [row | {"judgments": "/".join(str(row[state.value]) for state in State)} for row in scores.conduct]
    columns = [("matches of", "matches_of", ""), *columns_of("criterion", "judgments"), ("flips", "flip_rate", "")]
    columns += [("prefers first", "first_rate", ""), ("ties", "tie_rate", ""), ("repeat SD", "repeat_deviation", ".2f")]
    note = (
        f"Judgments: {'/'.join(State)}. Shares are of those with a verdict [{scores.percent} interval over prompts].\n"
        "Flips: another winner when the responses change places. A judge that always prefers the first response always "
        "flips, and its win rates mean nothing, however narrow their intervals."
    )
    return make_section("Conduct of the judge", rows, columns, 2, note)


def _over_seeds(means: GroupScores) -> Section:
    names = [each.name for each in means.group.criteria]
    deviation = ("sd", "_seed_deviation", ".3f")
    columns = columns_of("policy", "β", "q", "seeds") + _spread(names, ("_win_rate", ""), deviation) + columns_of("n")
    note = f"Mean of policies that differ only in the seed [{means.percent} interval over seeds and prompts]; "
    note += "sd: standard deviation between the seeds' rates."
    if any(row.over_seeds[f"{name}_win_rate"].seeds < len(row.seeds) for row in means.policies for name in names):
        note += "\nA seed whose rate is withheld is not in the mean."
    return make_section("Win rates over seeds", [*map(_policy_cells, means.policies)], columns, 1, note)


def _gaps(cohort: Cohort, comparison: str) -> Section:
    """Return the gaps between two orders, or between P-SACPO at q and a policy trained at λ_q."""
    gaps = [gap for gap in cohort.gaps if gap.comparison == comparison]
    rows = [row for row in gap_rows(cohort) if row["comparison"] == comparison]
    counts = [_join_counts(each.estimate for each in gap.changes.values()) for gap in gaps]
    rows = [row | {"n": n, "seeds": len(gap.pairs)} for row, n, gap in zip(rows, counts, gaps, strict=True)]
    if comparison == "order":
        names = []
        for side, usual in enumerate(("one order", "the other")):
            firsts = {f"{gap.pairs[0][side].policy.policy.criteria[0]} first" for gap in gaps}
            names.append(firsts.pop() if len(firsts) == 1 else usual)
        title = f"Order gap: {names[0]} minus {names[1]}"
        columns = [("stages", "policy", ""), ("β", "minus_beta", "g"), ("β/λ", "beta", "g")]
        note = "At the optimum both orders give the same policy. A pair has the same stages in another order."
    else:
        title = "P-SACPO at q minus training for λ_q"
        columns = [("stages", "minus", ""), ("q", "merge_ratio", ".3g"), ("β/λ", "beta", ".3g")]
        columns.append(("β/λ_q", "minus_beta", ".3g"))
        note = "For log-linear policies the merge at q is the optimum for λ_q = q·λ, that is, for β/λ divided by q."
    has_seeds = any(len(gap.pairs) > 1 for gap in gaps)
    deviation = [("sd", "_difference_seed_deviation", ".3f")] if has_seeds else []
    columns += columns_of("seeds") + _spread(list(gaps[0].changes), ("_difference", "+"), *deviation) + columns_of("n")
    note += f"\nPaired by seed and prompt [{cohort.first.percent} interval over prompts, and over seeds if there are "
    note += "several]; * excludes 0. sd: standard deviation between the seeds' gaps."
    return make_section(title, rows, columns, 1, note)
