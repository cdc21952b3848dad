"""What groups say together: policies over their seeds, and pairs of policies that theory holds equal."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sacpo_exp.method.criteria import Criterion
from sacpo_exp.method.policy import Policy
from sacpo_exp.reporting.groups import Evaluation, Group, arrange_policies
from sacpo_exp.reporting.pairs import Pair, find_order_pairs, find_ratio_pairs
from sacpo_exp.reporting.scores import GroupScores, PolicyScores, Settings
from sacpo_exp.reporting.seed_means import average_seeds
from sacpo_exp.statistics.intervals import DIFFERENCE
from sacpo_exp.statistics.seeds import SeedEstimate, align_seeds, estimate_over_seeds
from sacpo_exp.statistics.win_rate import has_too_few, verdicts_by_prompt, withhold

#: What a pair of policies is about, with how it is found.
COMPARISONS: Final[Mapping[str, Callable[[Sequence[Policy], Sequence[str]], list[Pair]]]] = {
    "order": find_order_pairs,
    "lambda_q": find_ratio_pairs,
}


@dataclass(frozen=True)
class Gap:
    """Win rates of one policy minus those of another, paired by prompt within each seed.

    Attributes:
        comparison: a name in `COMPARISONS`.
        pairs: of each seed that has both.
        changes: by the criterion's name.
    """

    comparison: str
    pairs: tuple[tuple[PolicyScores, PolicyScores], ...]
    changes: dict[str, SeedEstimate]


@dataclass(frozen=True)
class Cohort:
    """Groups whose judge, prompts and baseline are the same but for the seed: each seed may have its own baseline.

    Attributes:
        groups: their places among all groups.
        first: one of them, for what all share.
        means: policies that exist for several seeds, each judged against the baseline of its own seed; None without.
        gaps: by comparison, in the order of the tables.
    """

    groups: tuple[int, ...]
    first: Group
    means: GroupScores | None
    gaps: tuple[Gap, ...]
    confidence: float

    @property
    def heading(self) -> str:
        """Model, data sets, judge and prompts."""
        return self.first.heading

    @property
    def rows(self) -> list[PolicyScores]:
        """The policies of single seeds that are told about."""
        averaged = [seed for row in self.means.policies for seed in row.seeds] if self.means else []
        return averaged + [row for gap in self.gaps for pair in gap.pairs for row in pair]

    @property
    def provenance(self) -> str:
        """Seeds, baselines and judges, by id."""
        labels = [row.policy.labels for row in self.rows]
        seeds = sorted({entry["seed"] for entry in labels if entry.get("seed") is not None})
        parts = [f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"] if seeds else []
        for what in ("baseline", "judge"):
            ids = sorted({entry[f"{what}_id"] for entry in labels})
            parts.append(f"{what} {ids[0]}" if len(ids) == 1 else f"{len(ids)} {what}s, one for each seed")
        return " · ".join(parts)


def score_cohorts(scores: Sequence[GroupScores], settings: Settings) -> list[Cohort]:
    """The cohorts that have something to say, in the order of their first groups."""
    members: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, each in enumerate(scores):
        labels = each.group.policies[0].labels
        names = sorted(criterion.name for criterion in each.group.criteria)
        members[labels["judge_key"], labels["prompts_id"], _baseline_key(each.group), *names].append(place)
    cohorts = (_score_cohort(places, scores, settings) for places in members.values())
    return [cohort for cohort in cohorts if cohort.means or cohort.gaps]


def _key(policy: Policy) -> str:
    """The same for policies that differ in nothing but the seed."""
    return policy.hash_without("seed")


def _baseline_key(group: Group) -> str:
    """Of the baseline, which need not be judged itself."""
    known = {each.id: each for match in group.policies for each in (*match.policy.ancestors, match.policy)}
    return _key(known[group.baseline_id]) if group.baseline_id in known else group.baseline_id


def _score_cohort(places: Sequence[int], scores: Sequence[GroupScores], settings: Settings) -> Cohort:
    groups = [scores[place] for place in places]
    gaps = tuple(_find_gaps(groups, settings))
    return Cohort(tuple(places), groups[0].group, _average(groups, settings), gaps, groups[0].confidence)


def _average(groups: Sequence[GroupScores], settings: Settings) -> GroupScores | None:
    """Means of what exists for several seeds, arranged as the policies of a group."""
    # Of a policy in two groups, whose baseline answered anew, the one in the later group counts: groups come by date.
    rows = {row.policy.id: row for group in groups for row in group.policies}
    alike: dict[str, list[PolicyScores]] = defaultdict(list)
    for row in sorted(rows.values(), key=lambda row: row.policy.policy.seed or 0):
        alike[_key(row.policy.policy)].append(row)
    baseline = _baseline_key(groups[0].group)
    means = {key: _name(key, seeds, baseline) for key, seeds in alike.items() if len(seeds) > 1}
    policies = arrange_policies(means.values())
    if all(policy.is_baseline for policy in policies):
        return None
    averaged = [average_seeds(alike[policy.id], policy, settings.resampling) for policy in policies]
    group = Group(policies, (), {}, {}, "")
    return GroupScores(group, groups[0].confidence, tuple(averaged), (), (), (), (), (), {}, None, groups[0].axes)


def _name(key: str, seeds: Sequence[PolicyScores], baseline: str) -> Evaluation:
    """What a mean is called: as its policies are, but for the seed."""
    policy = seeds[0].policy
    labels = policy.labels | {"seed": None, "policy_id": key, "baseline_id": baseline, "opponent_id": baseline}
    return Evaluation(labels, [], {}, max(seed.policy.created for seed in seeds))


def _find_gaps(groups: Sequence[GroupScores], settings: Settings) -> Iterator[Gap]:
    for comparison, find in COMPARISONS.items():
        found: dict[Pair, tuple[PolicyScores, PolicyScores]] = {}
        for group in groups:  # both of a pair met the same answers of the same baseline
            rows = {row.policy.id: row for row in group.policies}
            pairs = find([row.policy.policy for row in group.policies], [each.name for each in group.group.criteria])
            found |= {pair: (rows[pair[0]], rows[pair[1]]) for pair in pairs}
        by_recipe = defaultdict(list)
        for ours, theirs in found.values():
            by_recipe[_key(ours.policy.policy), _key(theirs.policy.policy)].append((ours, theirs))
        for alike in by_recipe.values():
            alike.sort(key=lambda pair: pair[0].policy.policy.seed or 0)
            changes = {each.name: _measure(alike, each, settings) for each in groups[0].group.criteria}
            yield Gap(comparison, tuple(alike), changes)


def _measure(
    pairs: Sequence[tuple[PolicyScores, PolicyScores]], criterion: Criterion, settings: Settings
) -> SeedEstimate:
    """A seed of which too much is missing is left out."""
    changes, n = [], 0
    for ours, theirs in pairs:
        own, other = (verdicts_by_prompt(row.policy.records, criterion) for row in (ours, theirs))
        change = {prompt: own[prompt] - other[prompt] for prompt in own if prompt in other}
        n = max(n, len(change))
        if not any(has_too_few(row.policy.records, criterion, settings.max_missing) for row in (ours, theirs)):
            changes.append(change)
    if not changes:
        return SeedEstimate(withhold(n), math.nan, 0)
    return estimate_over_seeds(align_seeds(changes), settings.resampling, DIFFERENCE)
