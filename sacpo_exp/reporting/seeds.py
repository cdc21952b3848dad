"""Means over seeds."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

from sacpo_exp.reporting.collect import Evaluation, Group, arrange_policies
from sacpo_exp.reporting.scores import GroupScores, PolicyScores, Settings, values_by_prompt
from sacpo_exp.statistics.intervals import RATE
from sacpo_exp.statistics.seeds import align_seeds, estimate_over_seeds


def average_seeds(scores: Sequence[GroupScores], settings: Settings) -> list[GroupScores]:
    """Return means of the policies that exist for several seeds, in the order of their first groups.

    Averaged are groups that differ in nothing but the seed of policies, baseline and judge; each policy was judged
    against the baseline of its own seed.
    """
    alike: dict[tuple[str, ...], list[GroupScores]] = defaultdict(list)
    for each in scores:
        labels = each.group.policies[0].labels
        names = sorted(criterion.name for criterion in each.group.criteria)
        alike[labels["judge_key"], labels["prompts_id"], _baseline_key(each.group), *names].append(each)
    return [means for groups in alike.values() if (means := _average(groups, settings))]


def describe_seeds(means: GroupScores) -> str:
    """Return the seeds, and the ids of baselines and judges."""
    labels = [seed.policy.labels for row in means.policies for seed in row.seeds]
    seeds = sorted({entry["seed"] for entry in labels if entry.get("seed") is not None})
    parts = [f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"] if seeds else []
    for what in ("baseline", "judge"):
        ids = sorted({entry[f"{what}_id"] for entry in labels})
        parts.append(f"{what} {ids[0]}" if len(ids) == 1 else f"{len(ids)} {what}s, one for each seed")
    return " · ".join(parts)


def _baseline_key(group: Group) -> str:
    """Return the key of the baseline, which need not be judged itself."""
    known = {each.id: each for match in group.policies for each in (*match.policy.ancestors, match.policy)}
    return known[group.baseline_id].hash_without("seed") if group.baseline_id in known else group.baseline_id


def _average(groups: Sequence[GroupScores], settings: Settings) -> GroupScores | None:
    """Return means of what exists for several seeds, arranged like the policies of a group."""
    # If a policy is in two groups, since its baseline answered anew, the later group counts: groups come by date.
    rows = {row.policy.id: row for group in groups for row in group.policies}
    alike: dict[str, list[PolicyScores]] = defaultdict(list)
    for row in sorted(rows.values(), key=lambda row: row.policy.policy.seed or 0):
        alike[row.policy.policy.hash_without("seed")].append(row)
    baseline = _baseline_key(groups[0].group)
    ids = {"seed": None, "baseline_id": baseline, "opponent_id": baseline}
    policies = arrange_policies(
        Evaluation(seeds[0].policy.labels | ids | {"policy_id": key}, [], {}, created="")
        for key, seeds in alike.items()
        if len(seeds) > 1
    )
    if all(policy.is_baseline for policy in policies):
        return None
    averaged = tuple(_average_policy(alike[policy.id], policy, settings) for policy in policies)
    return GroupScores(Group(policies), groups[0].confidence, groups[0].axes, averaged)


def _average_policy(seeds: Sequence[PolicyScores], policy: Evaluation, settings: Settings) -> PolicyScores:
    """Return the mean over seeds of one recipe, called `policy`; a seed whose rate is withheld is not in it."""
    values = [values_by_prompt(seed.policy) for seed in seeds]
    over_seeds, estimates = {}, {}
    for name, first in seeds[0].estimates.items():
        pairs = zip(seeds, values, strict=True)
        known = [own[name][0] for seed, own in pairs if not math.isnan(seed.estimates[name].value)]
        over_seeds[name] = estimate_over_seeds(align_seeds(known), settings.resampling, values[0][name][1] or RATE)
        estimates[name] = over_seeds[name].estimate if over_seeds[name].seeds else first
    # No standard errors: over prompts alone they are not those of this mean.
    return PolicyScores(
        policy,
        estimates,
        states=sum((seed.states for seed in seeds), Counter()),
        tokens=sum(seed.tokens for seed in seeds) / len(seeds),
        characters=sum(seed.characters for seed in seeds) / len(seeds),
        seeds=tuple(seeds),
        over_seeds=over_seeds,
    )
