"""Ratings of the policies of a group from all their matches."""

import math
from typing import Any

from sacpo_exp.config.schema import RatingMethod
from sacpo_exp.method.criteria import Criterion
from sacpo_exp.reporting.collect import Group
from sacpo_exp.reporting.tables import Row
from sacpo_exp.statistics.comparisons import gather_comparisons
from sacpo_exp.statistics.intervals import Resampling
from sacpo_exp.statistics.ratings import SCALE, fit_bradley_terry, rate_online
from sacpo_exp.statistics.win_rate import list_singles

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
            columns = (singles.verdict.tolist(), singles.shown.tolist(), singles.prompt)
            verdicts += [(match.id, match.opponent_id, *single) for single in zip(*columns, strict=True)]
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
