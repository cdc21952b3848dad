"""Comparisons across groups: means over seeds, and pairs of policies that theory predicts to be equal."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sacpo_exp.method.criteria import HELPFULNESS, SAFETY, Criterion
from sacpo_exp.method.policy import Merged, Policy, Stage
from sacpo_exp.reporting.collect import Evaluation, Group, arrange_policies
from sacpo_exp.reporting.scores import GroupScores, PolicyScores, Settings, values_by_prompt
from sacpo_exp.reporting.tables import Row
from sacpo_exp.statistics.intervals import DIFFERENCE, RATE
from sacpo_exp.statistics.seeds import SeedEstimate, align_seeds, estimate_over_seeds
from sacpo_exp.statistics.win_rate import differences_by_prompt, has_too_few, withhold

#: Relative difference of equal β's: people write 0.0667 for 0.05/0.75.
TOLERANCE: Final = 1e-3
#: Ids of the two policies.
Pair = tuple[str, str]
ScoredPair = tuple[PolicyScores, PolicyScores]


@dataclass(frozen=True)
class Gap:
    """Win rates of one policy minus those of another, by criterion, paired by prompt within each seed that has both.

    `comparison` is `order` or `lambda_q`, which is P-SACPO against training at λ_q.
    """

    comparison: str
    pairs: tuple[ScoredPair, ...]
    changes: dict[str, SeedEstimate]


@dataclass(frozen=True)
class Cohort:
    """Groups that differ in nothing but the seed of policies, baseline and judge.

    `means` are those of policies that exist for several seeds, each judged against the baseline of its own seed.
    """

    first: GroupScores
    means: GroupScores | None
    gaps: tuple[Gap, ...]

    @property
    def heading(self) -> str:
        """Model, data sets, judge and prompts."""
        return f"Across policies: {self.first.group.heading}"

    @property
    def provenance(self) -> str:
        """Seeds, and ids of baselines and judges."""
        rows = [seed for row in self.means.policies for seed in row.seeds] if self.means else []
        rows += [row for gap in self.gaps for pair in gap.pairs for row in pair]
        labels = [row.policy.labels for row in rows]
        seeds = sorted({entry["seed"] for entry in labels if entry.get("seed") is not None})
        parts = [f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"] if seeds else []
        for what in ("baseline", "judge"):
            ids = sorted({entry[f"{what}_id"] for entry in labels})
            parts.append(f"{what} {ids[0]}" if len(ids) == 1 else f"{len(ids)} {what}s, one for each seed")
        return " · ".join(parts)


def score_cohorts(scores: Sequence[GroupScores], settings: Settings) -> list[Cohort]:
    """Return the cohorts that have means or gaps, in the order of their first groups."""
    members: dict[tuple[str, ...], list[GroupScores]] = defaultdict(list)
    for each in scores:
        labels = each.group.policies[0].labels
        names = sorted(criterion.name for criterion in each.group.criteria)
        members[labels["judge_key"], labels["prompts_id"], _baseline_key(each.group), *names].append(each)
    cohorts = [
        Cohort(groups[0], _average(groups, settings), tuple(_find_gaps(groups, settings)))
        for groups in members.values()
    ]
    return [cohort for cohort in cohorts if cohort.means or cohort.gaps]


def _key(row: PolicyScores) -> str:
    """Return the same for policies that differ in nothing but the seed."""
    return row.policy.policy.hash_without("seed")


def _seed(row: PolicyScores) -> int:
    return row.policy.policy.seed or 0


def _baseline_key(group: Group) -> str:
    """Return the key of the baseline, which need not be judged itself."""
    known = {each.id: each for match in group.policies for each in (*match.policy.ancestors, match.policy)}
    return known[group.baseline_id].hash_without("seed") if group.baseline_id in known else group.baseline_id


def _average(groups: Sequence[GroupScores], settings: Settings) -> GroupScores | None:
    """Return means of what exists for several seeds, arranged like the policies of a group."""
    # If a policy is in two groups, since its baseline answered anew, the later group counts: groups come by date.
    rows = {row.policy.id: row for group in groups for row in group.policies}
    alike: dict[str, list[PolicyScores]] = defaultdict(list)
    for row in sorted(rows.values(), key=_seed):
        alike[_key(row)].append(row)
    baseline = _baseline_key(groups[0].group)
    ids = {"seed": None, "baseline_id": baseline, "opponent_id": baseline}
    policies = arrange_policies(
        Evaluation(seeds[0].policy.labels | ids | {"policy_id": key}, [], {}, created="")
        for key, seeds in alike.items()
        if len(seeds) > 1
    )
    if all(policy.is_baseline for policy in policies):
        return None
    averaged = tuple(_average_seeds(alike[policy.id], policy, settings) for policy in policies)
    return GroupScores(Group(policies), groups[0].confidence, groups[0].axes, averaged)


def _average_seeds(seeds: Sequence[PolicyScores], policy: Evaluation, settings: Settings) -> PolicyScores:
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


def _find_gaps(groups: Sequence[GroupScores], settings: Settings) -> Iterator[Gap]:
    criteria = groups[0].group.criteria
    names = [each.name for each in criteria]
    for comparison, find in (("order", find_order_pairs), ("lambda_q", find_ratio_pairs)):
        pairs: dict[Pair, ScoredPair] = {}
        for group in groups:  # both of a pair met the same responses of the same baseline
            rows = {row.policy.id: row for row in group.policies}
            ids = find([row.policy.policy for row in group.policies], names)
            pairs |= {pair: (rows[pair[0]], rows[pair[1]]) for pair in ids}
        by_recipe = defaultdict(list)
        for pair in sorted(pairs.values(), key=lambda pair: _seed(pair[0])):
            by_recipe[_key(pair[0]), _key(pair[1])].append(pair)
        for alike in by_recipe.values():
            yield Gap(comparison, tuple(alike), {each.name: _measure(alike, each, settings) for each in criteria})


def _measure(pairs: Sequence[ScoredPair], criterion: Criterion, settings: Settings) -> SeedEstimate:
    """Estimate a gap; a seed of which too much is missing is left out."""
    changes, n = [], 0
    for pair in pairs:
        own, reference = (row.policy.records for row in pair)
        change = differences_by_prompt(own, reference, criterion)
        n = max(n, len(change))
        if not any(has_too_few(row.policy.records, criterion, settings.max_missing) for row in pair):
            changes.append(change)
    if not changes:
        return SeedEstimate(withhold(n), math.nan, 0)
    return estimate_over_seeds(align_seeds(changes), settings.resampling, DIFFERENCE)


def find_order_pairs(policies: Sequence[Policy], criteria: Sequence[str] = (HELPFULNESS, SAFETY)) -> list[Pair]:
    """Return pairs of two-stage policies with the same start and, for each criterion, the same stage in all settings.

    At the optimum the order does not matter (Remark 2): the reward with β and the constraint with β/λ, in either order.

    Args:
        criteria: names, the reward's first; the policy that is aligned in this order is the first of its pair.
    """
    two_stage = [policy for policy in policies if _has_two_stages(policy)]
    return [
        (ours.id, theirs.id)
        for ours in two_stage
        for theirs in two_stage
        if is_forward(ours.criteria, criteria)
        and not is_forward(theirs.criteria, criteria)
        and ours.parents[0].parents[0].id == theirs.parents[0].parents[0].id
        and [_settings(stage) for stage in ours.aligned] == [_settings(stage) for stage in reversed(theirs.aligned)]
    ]


def find_ratio_pairs(policies: Sequence[Policy], criteria: Sequence[str] = (HELPFULNESS, SAFETY)) -> list[Pair]:
    """Return pairs (P-SACPO at q, trained at λ_q = q·λ): the reward first, the same first stage, β/λ divided by q.

    For log-linear policies the merge is the optimum for λ_q.
    """
    pairs = []
    trained = [policy for policy in policies if _has_two_stages(policy)]
    merges = [policy for policy in policies if isinstance(policy, Merged) and is_forward(policy.criteria, criteria)]
    for merged in merges:
        ratio, later = merged.merge_ratio, merged.policies[-1]
        if not merged.is_naive and ratio and ratio < 1 and _has_two_stages(later):  # at 1 it is the later one
            wanted = (later.aligned[1].beta or 0.0) / ratio
            for other in trained:
                last = other.aligned[1]
                is_near = math.isclose(last.beta or 0.0, wanted, rel_tol=TOLERANCE)
                is_same = _settings(last, "beta") == _settings(later.aligned[1], "beta")
                if is_near and is_same and other.parents[0].id == later.parents[0].id:
                    pairs.append((merged.id, other.id))
    return pairs


def is_forward(aligned: Sequence[str], criteria: Sequence[str]) -> bool:
    """Return whether stages are in the order of `criteria`; criteria that it lacks come last."""
    places = [criteria.index(name) if name in criteria else len(criteria) for name in aligned]
    return places == sorted(places)


def _has_two_stages(policy: Policy) -> bool:
    return not policy.weights and len(policy.aligned) == 2


def _settings(stage: Stage, without: str = "") -> tuple[dict[str, Any], dict[str, Any]]:
    """Return recipe and data of a stage, which do not depend on its parent."""
    return {name: value for name, value in stage.recipe.items() if name != without}, stage.data


def gap_rows(cohort: Cohort) -> Iterator[Row]:
    """Yield a row per pair of policies over its seeds."""
    for gap in cohort.gaps:
        ours, theirs = (row.policy for row in gap.pairs[0])
        cells: Row = {"comparison": gap.comparison, "policy": ours.policy.family, "minus": theirs.policy.family}
        cells |= {"beta": ours.beta, "merge_ratio": ours.policy.merge_ratio, "minus_beta": theirs.beta}
        cells["seeds"] = " ".join(str(pair[0].policy.policy.seed) for pair in gap.pairs)
        for criterion, each in gap.changes.items():
            name = f"{criterion}_difference"
            cells |= {name: each.estimate, f"{name}_seeds": each.seeds, f"{name}_seed_deviation": each.deviation}
        for name, side in (("policy_ids", 0), ("minus_ids", 1)):
            cells[name] = " ".join(pair[side].policy.id for pair in gap.pairs)
        yield cells
