"""The numbers of a report: what each policy of a group scored, and what each stage changed."""

import math
from dataclasses import dataclass

from sacpo_exp.config.schema import Criterion
from sacpo_exp.reporting.groups import Evaluation, Group
from sacpo_exp.scoring.intervals import Estimate, Resampling, bootstrap_mean, wilson
from sacpo_exp.scoring.win_rate import estimate_difference, estimate_refusals, estimate_win_rate, judged


@dataclass(frozen=True)
class PolicyScores:
    """What one policy scored.

    Attributes:
        helpfulness, harmlessness: win rates against the baseline on benign and on risky prompts.
        refusals, over_refusals: shares of the risky and of the benign prompts that were refused.
        kl: sampled KL(policy ‖ baseline), nats per response.
        tokens: mean length of a response; NaN without any.
        failed: prompts whose judgment failed; they are in none of the other numbers.
    """

    policy: Evaluation
    helpfulness: Estimate
    harmlessness: Estimate
    refusals: Estimate
    over_refusals: Estimate
    kl: Estimate
    tokens: float
    failed: int


@dataclass(frozen=True)
class Difference:
    """Win rates of `policy` minus those of `reference`, an evaluated ancestor, paired by prompt."""

    policy: Evaluation
    reference: Evaluation
    helpfulness: Estimate
    harmlessness: Estimate


@dataclass(frozen=True)
class JudgeAccuracy:
    """Share of held-out comparisons that the judge decides as people did, beside two baselines."""

    criterion: Criterion
    accuracy: Estimate
    length_only: float
    keyword: float


@dataclass(frozen=True)
class GroupScores:
    """All that a report shows of one group."""

    group: Group
    confidence: float
    policies: tuple[PolicyScores, ...]
    differences: tuple[Difference, ...]
    judge: tuple[JudgeAccuracy, ...]


def score_group(group: Group, resampling: Resampling) -> GroupScores:
    """Compute everything that is shown of `group`."""
    return GroupScores(
        group,
        resampling.confidence,
        tuple(_score_policy(policy, resampling) for policy in group.policies),
        tuple(
            _compare(policy, group.find(parent), resampling)
            for policy in group.policies
            for parent in group.parents[policy.id]
        ),
        tuple(_score_judge(group, resampling.confidence)),
    )


def _score_policy(policy: Evaluation, resampling: Resampling) -> PolicyScores:
    records = policy.records
    lengths = [record["n_tokens"] for record in judged(records)]
    return PolicyScores(
        policy=policy,
        helpfulness=estimate_win_rate(records, Criterion.helpfulness, resampling),
        harmlessness=estimate_win_rate(records, Criterion.safety, resampling),
        refusals=estimate_refusals(records, "risky", resampling.confidence),
        over_refusals=estimate_refusals(records, "benign", resampling.confidence),
        kl=bootstrap_mean(policy.kl, resampling),
        tokens=sum(lengths) / len(lengths) if lengths else math.nan,
        failed=len(records) - len(lengths),
    )


def _compare(policy: Evaluation, reference: Evaluation, resampling: Resampling) -> Difference:
    helpfulness, harmlessness = (
        estimate_difference(policy.records, reference.records, criterion, resampling) for criterion in Criterion
    )
    return Difference(policy, reference, helpfulness, harmlessness)


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
