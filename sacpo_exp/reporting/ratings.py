"""Ratings of the policies of a group from all their matches."""

import math
from dataclasses import dataclass

from sacpo_exp.config.schema import RatingMethod
from sacpo_exp.method.criteria import Criterion
from sacpo_exp.reporting.groups import Group
from sacpo_exp.statistics.comparisons import Comparisons, Tally, gather_comparisons
from sacpo_exp.statistics.intervals import Estimate, Resampling
from sacpo_exp.statistics.ratings import SCALE, fit_bradley_terry, rate_online
from sacpo_exp.statistics.win_rate import list_singles


@dataclass(frozen=True)
class RatingRow:
    """One policy: `elo` with the baseline at 1000, its interval and `plain_error` by Bradley–Terry, `spread` by Elo."""

    title: str
    elo: Estimate
    tally: Tally
    plain_error: float = math.nan
    spread: float = math.nan


@dataclass(frozen=True)
class GroupRatings:
    """The strongest first; `notes` name those without a number and why, and what the order of answers does."""

    method: RatingMethod
    rows: tuple[RatingRow, ...]
    notes: tuple[str, ...]


def rate_group(group: Group, criterion: Criterion, method: RatingMethod, resampling: Resampling) -> GroupRatings | None:
    """Ratings from all single verdicts; None where policies met nobody but the baseline.

    Against one opponent alone a rating says nothing that the win rate does not.
    """
    comparisons = collect_comparisons(group, criterion)
    if not group.meetings or group.baseline_id not in comparisons.policies:
        return None
    titles = {policy.id: policy.title for policy in group.policies}
    if method == RatingMethod.elo_online:
        return _rate_online(comparisons, group.baseline_id, titles, resampling.seed)
    ratings = fit_bradley_terry(
        comparisons,
        group.baseline_id,
        has_order_effect=bool(comparisons.shown.any()),  # a judge that sees one response at a time knows no order
        confidence=resampling.confidence,
    )
    rows = [
        RatingRow(titles[rating.policy], rating.elo, rating.tally, plain_error=SCALE * rating.coefficient.plain_error)
        for rating in ratings.rated
    ]
    notes = [f"{titles[policy]}: not rated, {reason}." for policy, reason in ratings.unrated.items()]
    if effect := ratings.order_effect:
        error = effect.plain_error if math.isnan(effect.clustered_error) else effect.clustered_error
        notes.append(
            f"Being shown first is worth {SCALE * effect.value:+.0f} points, standard error {SCALE * error:.0f}."
        )
    if ratings.note:
        notes.append(ratings.note)
    return GroupRatings(method, tuple(rows), tuple(notes))


def _rate_online(comparisons: Comparisons, baseline: str, titles: dict[str, str], seed: int) -> GroupRatings:
    ratings = rate_online(comparisons, baseline, seed=seed)
    rows = [
        RatingRow(titles[rating.policy], rating.elo, rating.tally, spread=rating.spread) for rating in ratings.rated
    ]
    notes = [f"{titles[policy]}: not rated, {reason}." for policy, reason in ratings.unrated.items()]
    return GroupRatings(RatingMethod.elo_online, tuple(rows), tuple(notes))


def collect_comparisons(group: Group, criterion: Criterion) -> Comparisons:
    """Every single verdict of the group's matches on the prompts that count for `criterion`."""
    left: list[str] = []
    right: list[str] = []
    outcome: list[float] = []
    shown: list[int] = []
    prompts: list[str] = []
    for match in (*group.policies, *group.meetings):
        if match.id == match.opponent_id:
            continue
        singles = list_singles(match.records, criterion)
        left += [match.id] * len(singles.prompt)
        right += [match.opponent_id] * len(singles.prompt)
        outcome += singles.verdict.tolist()
        shown += singles.shown.tolist()
        prompts += singles.prompt
    return gather_comparisons(left, right, outcome, shown, prompts)
