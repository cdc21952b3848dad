"""Ratings of the policies of a group from all their matches."""

import math
from dataclasses import dataclass
from typing import Any

from sacpo_exp.config.schema import RatingMethod
from sacpo_exp.method.criteria import Criterion
from sacpo_exp.reporting.collect import Group
from sacpo_exp.statistics.comparisons import Comparisons, gather_comparisons
from sacpo_exp.statistics.intervals import Resampling
from sacpo_exp.statistics.ratings import SCALE, Rating, fit_bradley_terry, rate_online
from sacpo_exp.statistics.win_rate import list_singles


@dataclass(frozen=True)
class GroupRatings:
    """Ratings with the policies' titles, the strongest first; `notes` name policies without a rating, and why."""

    method: RatingMethod
    rows: tuple[tuple[str, Rating], ...]
    notes: tuple[str, ...]


def rate_group(group: Group, criterion: Criterion, method: RatingMethod, resampling: Resampling) -> GroupRatings | None:
    """Return ratings from all single verdicts; None if policies met only the baseline.

    Against one opponent alone a rating has no more information than the win rate.
    """
    comparisons = collect_comparisons(group, criterion)
    if not group.meetings or group.baseline_id not in comparisons.policies:
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
    return GroupRatings(method, tuple((titles[each.policy], each) for each in ratings.rated), tuple(notes))


def collect_comparisons(group: Group, criterion: Criterion) -> Comparisons:
    """Return every single verdict of the group's matches on the prompts that count for `criterion`."""
    rows: list[tuple[Any, ...]] = []
    for match in (*group.policies, *group.meetings):
        if match.id != match.opponent_id:
            singles = list_singles(match.records, criterion)
            columns = (singles.verdict.tolist(), singles.shown.tolist(), singles.prompt)
            rows += [(match.id, match.opponent_id, *single) for single in zip(*columns, strict=True)]
    left, right, outcome, shown, prompts = zip(*rows, strict=True) if rows else [()] * 5
    return gather_comparisons(left, right, outcome, shown, prompts)
