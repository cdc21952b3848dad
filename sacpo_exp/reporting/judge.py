"""Accuracy and position bias of a judge, and ratings of policies from all its judgments."""

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

from sacpo_exp.config.schema import RatingMethod
from sacpo_exp.evaluation.records import State
from sacpo_exp.method.criteria import Criterion
from sacpo_exp.reporting.collect import Evaluation, Group
from sacpo_exp.reporting.tables import Row
from sacpo_exp.statistics.agreement import PositionBias, measure_positions
from sacpo_exp.statistics.comparisons import gather_comparisons
from sacpo_exp.statistics.intervals import Resampling, wilson
from sacpo_exp.statistics.ratings import SCALE, fit_bradley_terry, rate_online
from sacpo_exp.statistics.win_rate import entries_of, list_singles

#: Rules that do not see the prompt, whose accuracies stand beside that of a fitted judge.
RULES: Final = ("bag_of_words", "length_only", "keyword")


def score_judge(group: Group, confidence: float) -> Iterator[Row]:
    """Yield the stored accuracies of a fitted judge and of rules beside it, by criterion and kind of pairs."""
    for each in group.criteria:
        if metrics := group.judge_metrics.get(each.name):
            kinds = {"held-out": metrics} | {name: metrics[name] for name in ("mismatched",) if name in metrics}
            for pairs, part in kinds.items():
                n = part["n"]
                accuracy = wilson(round(part["accuracy"] * n) if n else 0, n, confidence)
                rules = {name.replace("_", " "): part.get(name, math.nan) if n else math.nan for name in RULES}
                yield {"criterion": each.name, "pairs": pairs, "judge": accuracy, **rules}


def measure_conduct(group: Group, resampling: Resampling) -> Iterator[Row]:
    """Yield states of single judgments and position bias, of all policies and of each; nothing for a fitted judge."""
    matches = (*group.policies, *group.meetings)
    matches_of = {"all policies": list(matches)}
    for policy in group.policies:
        matches_of[policy.title] = [match for match in matches if policy.id in (match.id, match.opponent_id)]
    for criterion, (title, own) in itertools.product(group.criteria, matches_of.items()):
        entries = [entry for match in own for entry in entries_of(match.records, criterion).values()]
        if states := Counter(single["state"] for entry in entries for single in entry.get("singles", ())):
            cells: Row = {"matches_of": title, "criterion": criterion.name}
            cells |= {state.value: states[state] for state in State}
            yield cells | vars(_measure_positions(own, criterion, resampling))


def _measure_positions(matches: Sequence[Evaluation], criterion: Criterion, resampling: Resampling) -> PositionBias:
    rows = []
    for number, match in enumerate(matches):
        for single in list_singles(match.records, criterion):
            if single.asked and single.shown:
                rows.append((single.prompt, f"{number} {single.prompt}", single.shown, single.verdict, single.repeat))
    return measure_positions(rows, resampling)


#: Rows of a table, the strongest policy first, and notes that name policies without a rating, and why.
Ratings = tuple[list[Row], list[str]]


def rate_group(group: Group, criterion: Criterion, method: RatingMethod, resampling: Resampling) -> Ratings | None:
    """Return ratings from all single verdicts on the prompts that count for `criterion`.

    None if policies met only the baseline: against one opponent a rating has no more information than the win rate.
    """
    if not group.meetings:
        return None
    verdicts: list[tuple[Any, ...]] = []
    for match in (*group.policies, *group.meetings):
        if match.id != match.opponent_id:
            singles = list_singles(match.records, criterion)
            verdicts += [(match.id, match.opponent_id, each.verdict, each.shown, each.prompt) for each in singles]
    comparisons = gather_comparisons(*(zip(*verdicts, strict=True) if verdicts else [()] * 5))
    if group.baseline_id not in comparisons.policies:
        return None
    if method == RatingMethod.elo_online:
        ratings = rate_online(comparisons, group.baseline_id, seed=resampling.seed)
    else:
        # A judge that sees one response at a time has no order of responses.
        has_order = bool(comparisons.shown.any())
        ratings = fit_bradley_terry(
            comparisons, group.baseline_id, has_order_effect=has_order, confidence=resampling.confidence
        )
    titles = {policy.id: policy.title for policy in group.policies}
    notes = [f"{titles[policy]}: not rated, {reason}." for policy, reason in ratings.unrated.items()]
    if effect := ratings.order_effect:
        error = effect.plain_error if math.isnan(effect.clustered_error) else effect.clustered_error
        notes.append(
            f"Being shown first is worth {SCALE * effect.value:+.0f} points, standard error {SCALE * error:.0f}."
        )
    notes += [ratings.note] if ratings.note else []
    rows = []
    for each in ratings.rated:
        cells: Row = {"criterion": criterion.name, "method": method.value, "policy": titles[each.policy]}
        errors = {"plain_standard_error": SCALE * each.coefficient.plain_error, "spread": each.spread}
        counts = {"wins": each.tally.wins, "ties": each.tally.ties, "losses": each.tally.losses}
        rows.append({**cells, "rating": each.elo, **errors, **counts})
    return rows, notes
