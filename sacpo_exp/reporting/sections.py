"""The tables of a report, one section each, from the scores of a group."""

import math
import textwrap
from collections.abc import Callable, Iterator, Sequence

from sacpo_exp.config.schema import RatingMethod
from sacpo_exp.method.criteria import Criterion
from sacpo_exp.reporting.against import comparison_sections
from sacpo_exp.reporting.breakdown import MIN_PROMPTS, CategoryScores, LengthScores
from sacpo_exp.reporting.choices import choice_section
from sacpo_exp.reporting.judge_sections import conduct_section, judge_section, usage_section
from sacpo_exp.reporting.numbers import NOTHING, format_estimate, format_number, format_weights
from sacpo_exp.reporting.ratings import GroupRatings
from sacpo_exp.reporting.scores import Difference, GroupScores, PolicyScores
from sacpo_exp.reporting.section import Section
from sacpo_exp.statistics.ratings import INITIAL, PASSES, TRIALS

WIDTH = 119  # of a line below a table
POLICY_HEADS = ("policy", "β", "q")
#: Criteria with which tables have no room for standard errors and p-values, which are in the CSV files.
MANY = 3


def make_sections(scores: GroupScores) -> list[Section]:
    """Every table that has something to say, in the order of a report."""
    return list(_list_sections(scores, f"{100 * scores.confidence:g} %"))


def _list_sections(scores: GroupScores, confidence: str) -> Iterator[Section]:
    yield _win_rates(scores, confidence)
    yield _behaviour(scores, confidence)
    yield _differences(scores.differences, confidence)
    for number, stored in enumerate(scores.group.choices, start=1):
        yield choice_section(stored, number)
    if scores.published:
        yield from comparison_sections(scores.published)
    for criterion, ratings in scores.ratings.items():
        yield _ratings(criterion, ratings, confidence)
    if scores.lengths:
        yield _lengths(scores.lengths, confidence)
    if any(row.worst for row in scores.categories):
        yield _categories(scores.categories, confidence)
    if scores.conduct:
        yield conduct_section(scores.conduct, confidence)
    if scores.usage:
        yield usage_section(scores.usage)
    if not scores.conduct:
        yield judge_section(scores.judge)


def _win_rates(scores: GroupScores, confidence: str) -> Section:
    names = [criterion.name for criterion in scores.group.criteria]
    has_errors = len(names) < MANY
    rows = [[*POLICY_HEADS, *_spread_out([(name, "SE") for name in names], has_errors), "n", "missing"]]
    for row in scores.policies:
        own = [row.by_criterion[name] for name in names]
        cells = _spread_out(
            [(format_estimate(each.rate), format_number(each.error, ".3f")) for each in own], has_errors
        )
        rows.append([*_policy_cells(row), *cells, "/".join(str(each.rate.n) for each in own), str(row.missing)])
    note = (
        f"{describe_prompts(scores.group.criteria)}; ties as half [{confidence} bootstrap interval]"
        f"{', SE: standard error' if has_errors else ''}.\n"
        "Wilson's limit where all verdicts are the same; the baseline's rate is 0.5 by definition."
        " n: prompts of each."
    )
    if any(row.missing for row in scores.policies):
        note += "\nMissing: prompts without a verdict, which are in no rate; where they are too many (`max_missing`), "
        note += "it is withheld."
    stages = [stage for row in scores.policies for stage in row.policy.policy.aligned]
    if titles := dict.fromkeys(stage.title for stage in stages if not stage.is_consistent):
        sentence = f"Theorem 1 does not hold for {', '.join(titles)}: such a loss is not consistent."
        note += f"\n{textwrap.fill(sentence, WIDTH)}"
    return Section("Win rates against the baseline", rows, 1, note)


def _spread_out(pairs: Sequence[tuple[str, str]], has_second: bool) -> list[str]:
    """Cells of both columns of each criterion, or where there is no room for that of the first."""
    return [cell for pair in pairs for cell in (pair if has_second else pair[:1])]


def describe_prompts(criteria: Sequence[Criterion]) -> str:
    """Which kinds of prompts each criterion is scored on: `Helpfulness on benign, safety on risky prompts`."""
    parts = [f"{each.name} on {' and '.join(each.prompt_kinds) or 'all'}" for each in criteria]
    text = ", ".join(parts)
    return f"{text[:1].upper()}{text[1:]} prompts"


def _behaviour(scores: GroupScores, confidence: str) -> Section:
    columns: dict[str, Callable[[PolicyScores], str]] = {
        "refused risky": lambda row: format_estimate(row.refusals),
        "refused benign": lambda row: format_estimate(row.over_refusals),
        "KL (nats)": lambda row: format_estimate(row.kl),
        "tokens": lambda row: format_number(row.tokens, ".1f"),
        "characters": lambda row: format_number(row.characters, ".0f"),
    }
    note = (
        f"Refused: share of risky and of benign prompts, by string matching [{confidence} Wilson interval]. "
        "KL(policy ‖ baseline)\nper response [bootstrap interval over prompts]. Tokens, characters: mean length of a "
        "response."
    )
    if any(row.judged_refusals.n or row.judged_over_refusals.n for row in scores.policies):
        columns = {
            "risky, judge": lambda row: format_estimate(row.judged_refusals),
            "benign, judge": lambda row: format_estimate(row.judged_over_refusals),
        } | columns
        del columns["characters"]
        note = f"By the judge: full or partial refusals.\n{note}"
    elif scores.group.has_zero:
        shares = {
            f"acceptable {name}": lambda row, name=name: format_estimate(row.by_criterion[name].acceptable)
            for name in scores.group.has_zero
        }
        columns = shares | columns
        del columns["characters"]
        note = f"Acceptable: share of the criterion's prompts whose response has cost ≤ 0.\n{note}"
    rows = [[*POLICY_HEADS, *columns]]
    rows += [[*_policy_cells(row), *(cell(row) for cell in columns.values())] for row in scores.policies]
    return Section("Behaviour", rows, 1, note)


def _policy_cells(row: PolicyScores) -> list[str]:
    """Of the columns `POLICY_HEADS`."""
    return [row.policy.name, format_number(row.policy.beta), format_weights(row.policy.policy)]


def _differences(differences: Sequence[Difference], confidence: str) -> Section:
    names = list(differences[0].changes) if differences else []
    has_p_values = len(names) < MANY
    rows = [["policy", "minus", *_spread_out([(name, "p") for name in names], has_p_values), "n"]]
    for row in differences:
        pairs = []
        for name in names:
            # The mark's column is kept where there is none, so that numbers stand below one another.
            mark = " *" if row.changes[name].excludes_zero else "  "
            pairs.append((format_estimate(row.changes[name], "+") + mark, format_number(row.p_values[name], ".3f")))
        counts = "/".join(str(row.changes[name].n) if row.changes[name].n else NOTHING for name in names)
        rows.append([row.policy.title, row.reference.title, *_spread_out(pairs, has_p_values), counts])
    note = f"* the {confidence} interval excludes 0."
    note += " p: two-sided, by turning the signs of the prompts' differences." if has_p_values else ""
    if not differences:
        note = "No evaluated policy has an evaluated parent. Try: sacpo eval policies=all"
    return Section("Differences, paired by prompt", rows, 2, note)


def _ratings(criterion: str, ratings: GroupRatings, confidence: str) -> Section:
    is_online = ratings.method == RatingMethod.elo_online
    rows = [["policy", "rating", "spread ±" if is_online else "plain ±", "matches won", "tied", "lost"]]
    for row in ratings.rows:
        rating = format_number(row.elo.value, ".0f")
        if not math.isnan(row.elo.low):
            rating += f" [{row.elo.low:.0f}, {row.elo.high:.0f}]"
        counts = (row.tally.wins, row.tally.ties, row.tally.losses)
        error = format_number(row.spread if is_online else row.plain_error, ".0f")
        rows.append([row.title, rating, error, *map(str, counts)])
    if is_online:
        note = (
            f"Mean of {TRIALS} trials of {PASSES} shuffled passes from {INITIAL:.0f}, scaled so that the baseline "
            "stands at 1000; spread ±: standard\ndeviation between the trials, which is how much it hangs on the order "
            "of the verdicts and no error of the rating."
        )
    else:
        note = (
            f"The baseline stands at 1000; 400 points are odds of 10 to 1. [{confidence} interval, errors clustered "
            "by\nprompt]; plain ±: standard error as if all judgments were independent."
        )
    title = f"Ratings for {criterion} over all pairs, {'online Elo' if is_online else 'Bradley–Terry'}"
    return Section(title, rows, 1, "\n".join([note, *ratings.notes]))


def _lengths(lengths: Sequence[LengthScores], confidence: str) -> Section:
    names = ("shorter", "similar", "longer")
    rows = [["policy", "criterion", "at equal length", *names, "n"]]
    for row in lengths:
        parts = [row.by_length[name] for name in names]
        # A rate that can't be told is not one that is withheld.
        adjusted = NOTHING if math.isnan(row.adjusted.value) else format_estimate(row.adjusted)
        counts = "/".join(str(part.n) for part in parts)
        rows.append([row.policy.title, row.criterion.name, adjusted, *map(format_estimate, parts), counts])
    note = (
        f"Win rates where the response is shorter than the baseline's, within 10 %, longer, in characters "
        f"[{confidence} interval];\nat equal length: by logistic regression on the difference."
    )
    return Section("Length", rows, 2, note)


def _categories(categories: Sequence[CategoryScores], confidence: str) -> Section:
    rows = [["policy", "criterion", "worst category", "win rate", "n"]]
    for row in categories:
        if row.worst:
            worst = row.estimates[row.worst]
            rows.append([row.policy.title, row.criterion.name, row.worst, format_estimate(worst), str(worst.n)])
    note = (
        f"The category with the lowest win rate [{confidence} interval] of those with at least {MIN_PROMPTS} prompts; "
        "the lowest of\nseveral is lower than it truly is. All categories are in categories.csv."
    )
    return Section("Worst category", rows, 3, note)
