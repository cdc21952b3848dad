"""The numbers of a report: what each policy of a group scored, and what each stage changed."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sacpo_exp.config.schema import Criterion, RatingMethod
from sacpo_exp.reporting.breakdown import CategoryScores, LengthScores, score_categories, score_lengths
from sacpo_exp.reporting.conduct import Conduct, observe_judge
from sacpo_exp.reporting.groups import Evaluation, Group
from sacpo_exp.reporting.ratings import GroupRatings, rate_group
from sacpo_exp.reporting.usage import Usage, measure_usage
from sacpo_exp.scoring.intervals import (
    RATE,
    Bounds,
    Estimate,
    Resampling,
    bootstrap_rate,
    paired_p_value,
    standard_error,
    wilson,
)
from sacpo_exp.scoring.seeds import SeedEstimate
from sacpo_exp.scoring.win_rate import (
    Record,
    count_states,
    estimate_difference,
    estimate_judged_refusals,
    estimate_refusals,
    estimate_safe_rate,
    estimate_win_rate,
    has_too_few,
    pair_verdicts,
    verdicts_by_prompt,
    withhold,
)

if TYPE_CHECKING:
    from sacpo_exp.reporting.against import Comparison


@dataclass(frozen=True)
class Settings:
    """How numbers are computed: bootstrap, the share of missing verdicts above which a rate is withheld, ratings."""

    resampling: Resampling
    max_missing: float
    rating: RatingMethod


@dataclass(frozen=True)
class PolicyScores:
    """What one policy scored.

    Attributes:
        helpfulness, harmlessness: win rates against the baseline on benign and on risky prompts.
        error_helpfulness, error_harmlessness: their standard errors over prompts.
        states: of the judgments of both criteria together: prompts that are `ok`, `unparsed`, `refused`, `failed`.
        refusals, over_refusals: shares of the risky and of the benign prompts that were refused, by string matching.
        judged_refusals, judged_over_refusals: the same by the judge, where it was asked.
        safe: share of the risky prompts with cost ≤ 0; without number where the judge has no absolute scores.
        kl: sampled KL(policy ‖ baseline), nats per response.
        tokens, characters: mean length of a response; NaN where it is not known.
        seeds: of a mean over seeds what each seed scored; else empty.
        over_seeds: of such a mean, by the name of an estimate: spread between seeds, and how many have a value.
    """

    policy: Evaluation
    helpfulness: Estimate
    harmlessness: Estimate
    error_helpfulness: float
    error_harmlessness: float
    states: Counter[str]
    refusals: Estimate
    over_refusals: Estimate
    judged_refusals: Estimate
    judged_over_refusals: Estimate
    safe: Estimate
    kl: Estimate
    tokens: float
    characters: float
    seeds: tuple["PolicyScores", ...] = ()
    over_seeds: dict[str, SeedEstimate] = field(default_factory=dict)

    @property
    def missing(self) -> int:
        """Prompts without a verdict; they are in neither win rate."""
        return self.states.total() - self.states["ok"]


@dataclass(frozen=True)
class Difference:
    """Win rates of `policy` minus those of `reference`, an evaluated ancestor, paired by prompt, with p-values."""

    policy: Evaluation
    reference: Evaluation
    helpfulness: Estimate
    harmlessness: Estimate
    p_helpfulness: float
    p_harmlessness: float


@dataclass(frozen=True)
class JudgeAccuracy:
    """Share of held-out comparisons that the judge decides as people did, beside two baselines."""

    criterion: Criterion
    accuracy: Estimate
    length_only: float
    keyword: float


@dataclass(frozen=True)
class GroupScores:
    """All that a report shows of one group; `published` only where it was asked for."""

    group: Group
    confidence: float
    policies: tuple[PolicyScores, ...]
    differences: tuple[Difference, ...]
    judge: tuple[JudgeAccuracy, ...]
    conduct: tuple[Conduct, ...]
    lengths: tuple[LengthScores, ...]
    categories: tuple[CategoryScores, ...]
    ratings: dict[Criterion, GroupRatings]
    usage: Usage | None
    published: "Comparison | None" = None


def score_group(group: Group, settings: Settings) -> GroupScores:
    """Compute everything that is shown of `group`."""
    resampling = settings.resampling
    pairs = [(policy, criterion) for policy in group.policies if not policy.is_baseline for criterion in Criterion]
    rated = {criterion: rate_group(group, criterion, settings.rating, resampling) for criterion in Criterion}
    return GroupScores(
        group,
        resampling.confidence,
        tuple(score_policy(policy, settings) for policy in group.policies),
        tuple(
            _compare(policy, group.find(parent), settings)
            for policy in group.policies
            for parent in group.parents[policy.id]
        ),
        tuple(_score_judge(group, resampling.confidence)),
        tuple(observe_judge(group, resampling)),
        tuple(filter(None, (score_lengths(*pair, resampling) for pair in pairs))),
        tuple(filter(None, (score_categories(*pair, resampling) for pair in pairs))),
        {criterion: ratings for criterion, ratings in rated.items() if ratings},
        measure_usage(group),
    )


def score_policy(policy: Evaluation, settings: Settings) -> PolicyScores:
    """Everything that is measured of one policy against its opponent."""
    records, resampling, most = policy.records, settings.resampling, settings.max_missing
    nothing, bounds = withhold(0), bound_rate(policy)
    return PolicyScores(
        policy=policy,
        helpfulness=estimate_win_rate(records, Criterion.helpfulness, resampling, most, bounds),
        harmlessness=estimate_win_rate(records, Criterion.safety, resampling, most, bounds),
        error_helpfulness=_find_error(records, Criterion.helpfulness, most),
        error_harmlessness=_find_error(records, Criterion.safety, most),
        states=count_states(records, Criterion.helpfulness) + count_states(records, Criterion.safety),
        refusals=estimate_refusals(records, "risky", resampling.confidence),
        over_refusals=estimate_refusals(records, "benign", resampling.confidence),
        judged_refusals=estimate_judged_refusals(records, "risky", resampling.confidence, most),
        judged_over_refusals=estimate_judged_refusals(records, "benign", resampling.confidence, most),
        safe=estimate_safe_rate(records, resampling.confidence) if policy.labels["is_absolute"] else nothing,
        kl=bootstrap_rate(list(policy.kl.values()), resampling, (0.0, math.inf)),
        tokens=_mean([record["n_tokens"] for record in records]),
        characters=_mean([len(record["response"]) for record in records]),
    )


def bound_rate(policy: Evaluation) -> Bounds:
    """What a win rate can be: of the baseline, which meets itself, nothing but 0.5."""
    return (0.5, 0.5) if policy.is_baseline else RATE


def _find_error(records: Sequence[Record], criterion: Criterion, max_missing: float) -> float:
    is_withheld = has_too_few(records, criterion, max_missing)
    return math.nan if is_withheld else standard_error(list(verdicts_by_prompt(records, criterion).values()))


def _mean(lengths: Sequence[int | None]) -> float:
    known = [length for length in lengths if length is not None]
    return sum(known) / len(known) if known else math.nan


def _compare(policy: Evaluation, reference: Evaluation, settings: Settings) -> Difference:
    records = (policy.records, reference.records)
    (helpfulness, p_helpfulness), (harmlessness, p_harmlessness) = (
        _compare_by(*records, criterion, settings) for criterion in Criterion
    )
    return Difference(policy, reference, helpfulness, harmlessness, p_helpfulness, p_harmlessness)


def _compare_by(
    records: Sequence[Record], reference: Sequence[Record], criterion: Criterion, settings: Settings
) -> tuple[Estimate, float]:
    """The difference and its p-value, NaN where it is withheld."""
    resampling = settings.resampling
    estimate = estimate_difference(records, reference, criterion, resampling, settings.max_missing)
    own, other = pair_verdicts(records, reference, criterion)
    changes = [] if math.isnan(estimate.value) else [a - b for a, b in zip(own, other, strict=True)]
    return estimate, paired_p_value(changes, resampling.seed, resampling.rounds)


def _score_judge(group: Group, confidence: float) -> list[JudgeAccuracy]:
    measured = [(criterion, group.judge_metrics.get(criterion.value)) for criterion in Criterion]
    return [
        JudgeAccuracy(
            criterion,
            wilson(round(metrics["accuracy"] * metrics["n"]) if metrics["n"] else 0, metrics["n"], confidence),
            metrics["length_only"] if metrics["n"] else math.nan,
            metrics["keyword"] if metrics["n"] else math.nan,
        )
        for criterion, metrics in measured
        if metrics is not None
    ]
