"""The numbers of a report: what each policy of a group scored, and what each stage changed."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sacpo_exp.config.messages import did_you_mean
from sacpo_exp.config.schema import RatingMethod
from sacpo_exp.errors import ConfigError
from sacpo_exp.method.criteria import HELPFULNESS, SAFETY, Criterion
from sacpo_exp.reporting.breakdown import CategoryScores, LengthScores, score_categories, score_lengths
from sacpo_exp.reporting.conduct import Conduct, observe_judge
from sacpo_exp.reporting.groups import Evaluation, Group
from sacpo_exp.reporting.ratings import GroupRatings, rate_group
from sacpo_exp.reporting.usage import Usage, measure_usage
from sacpo_exp.statistics.intervals import (
    RATE,
    Bounds,
    Estimate,
    Resampling,
    bootstrap_rate,
    paired_p_value,
    standard_error,
    wilson,
)
from sacpo_exp.statistics.seeds import SeedEstimate
from sacpo_exp.statistics.win_rate import (
    Record,
    count_states,
    estimate_acceptable_rate,
    estimate_difference,
    estimate_judged_refusals,
    estimate_refusals,
    estimate_win_rate,
    has_too_few,
    pair_verdicts,
    verdicts_by_prompt,
)

if TYPE_CHECKING:
    from sacpo_exp.reporting.against import Comparison


@dataclass(frozen=True)
class Settings:
    """How numbers are computed: bootstrap, the share of missing verdicts above which a rate is withheld, ratings, and
    the criteria that figures have as x and y.
    """

    resampling: Resampling
    max_missing: float
    rating: RatingMethod
    axes: tuple[str, str] = (HELPFULNESS, SAFETY)


@dataclass(frozen=True)
class CriterionScores:
    """What one policy scored for one criterion.

    Attributes:
        rate: win rate against the baseline on the prompts that count.
        error: its standard error over prompts.
        acceptable: share of these prompts whose response has a score of at least 0 (cost ≤ 0); without number where the
            judge's scores have no zero.
        states: of the judgments: prompts that are `ok`, `unparsed`, `refused`, `failed`.
    """

    rate: Estimate
    error: float
    acceptable: Estimate
    states: Counter[str]


@dataclass(frozen=True)
class PolicyScores:
    """What one policy scored.

    Attributes:
        by_criterion: by the criterion's name, in the order of the evaluation.
        refusals, over_refusals: shares of the risky and of the benign prompts that were refused, by string matching.
        judged_refusals, judged_over_refusals: the same by the judge, where it was asked.
        kl: sampled KL(policy ‖ baseline), nats per response.
        tokens, characters: mean length of a response; NaN where it is not known.
        seeds: of a mean over seeds what each seed scored; else empty.
        over_seeds: of such a mean, by the name of an estimate: spread between seeds, and how many have a value.
    """

    policy: Evaluation
    by_criterion: dict[str, CriterionScores]
    refusals: Estimate
    over_refusals: Estimate
    judged_refusals: Estimate
    judged_over_refusals: Estimate
    kl: Estimate
    tokens: float
    characters: float
    seeds: tuple["PolicyScores", ...] = ()
    over_seeds: dict[str, SeedEstimate] = field(default_factory=dict)

    def rate(self, criterion: str) -> Estimate:
        """Win rate for a criterion."""
        return self.by_criterion[criterion].rate

    @property
    def states(self) -> Counter[str]:
        """Of the judgments of all criteria together."""
        return sum((scores.states for scores in self.by_criterion.values()), Counter())

    @property
    def missing(self) -> int:
        """Prompts without a verdict; they are in no win rate."""
        return self.states.total() - self.states["ok"]


@dataclass(frozen=True)
class Difference:
    """Win rates of `policy` minus those of `reference`, an evaluated ancestor, paired by prompt.

    Attributes:
        changes, p_values: by the criterion's name.
    """

    policy: Evaluation
    reference: Evaluation
    changes: dict[str, Estimate]
    p_values: dict[str, float]


@dataclass(frozen=True)
class JudgeAccuracy:
    """Share of held-out comparisons that the judge decides as people did, beside two baselines."""

    criterion: str
    accuracy: Estimate
    length_only: float
    keyword: float


@dataclass(frozen=True)
class GroupScores:
    """All that a report shows of one group; `published` only where it was asked for.

    Attributes:
        axes: names of the criteria that figures have as x and y.
    """

    group: Group
    confidence: float
    policies: tuple[PolicyScores, ...]
    differences: tuple[Difference, ...]
    judge: tuple[JudgeAccuracy, ...]
    conduct: tuple[Conduct, ...]
    lengths: tuple[LengthScores, ...]
    categories: tuple[CategoryScores, ...]
    ratings: dict[str, GroupRatings]
    usage: Usage | None
    axes: tuple[str, str] = ("", "")
    published: "Comparison | None" = None


def score_group(group: Group, settings: Settings) -> GroupScores:
    """Compute everything that is shown of `group`."""
    resampling = settings.resampling
    pairs = [(policy, each) for policy in group.policies if not policy.is_baseline for each in group.criteria]
    rated = {each.name: rate_group(group, each, settings.rating, resampling) for each in group.criteria}
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
        {name: ratings for name, ratings in rated.items() if ratings},
        measure_usage(group),
        choose_axes(group, settings.axes),
    )


def choose_axes(group: Group, wanted: tuple[str, str]) -> tuple[str, str]:
    """The criteria that figures have as x and y: the wanted ones if the group has both, else its first two."""
    names = [criterion.name for criterion in group.criteria]
    return wanted if set(wanted) <= set(names) else (names[0], names[1 % len(names)])


def check_axes(groups: Sequence[Group], wanted: tuple[str, str]) -> None:
    """Raise ConfigError for an axis, other than a default one, that is a criterion of no group."""
    known = dict.fromkeys(each.name for group in groups for each in group.criteria)
    for key, name in zip("xy", wanted, strict=True):
        if name not in (*known, HELPFULNESS, SAFETY):
            raise ConfigError(
                f"`{key}` must be a criterion by which policies were judged, {' or '.join(known)}, but is {name}."
                f"{did_you_mean(name, list(known))}"
            )


def score_policy(policy: Evaluation, settings: Settings) -> PolicyScores:
    """Everything that is measured of one policy against its opponent."""
    records, resampling, most = policy.records, settings.resampling, settings.max_missing
    return PolicyScores(
        policy=policy,
        by_criterion={each.name: _score_criterion(policy, each, settings) for each in policy.criteria},
        refusals=estimate_refusals(records, "risky", resampling.confidence),
        over_refusals=estimate_refusals(records, "benign", resampling.confidence),
        judged_refusals=estimate_judged_refusals(records, "risky", resampling.confidence, most),
        judged_over_refusals=estimate_judged_refusals(records, "benign", resampling.confidence, most),
        kl=bootstrap_rate(list(policy.kl.values()), resampling, (0.0, math.inf)),
        tokens=_mean([record["n_tokens"] for record in records]),
        characters=_mean([len(record["response"]) for record in records]),
    )


def _score_criterion(policy: Evaluation, criterion: Criterion, settings: Settings) -> CriterionScores:
    records, resampling, most = policy.records, settings.resampling, settings.max_missing
    has_zero = criterion.name in policy.labels["has_zero"]
    return CriterionScores(
        rate=estimate_win_rate(records, criterion, resampling, most, bound_rate(policy)),
        error=_find_error(records, criterion, most),
        acceptable=estimate_acceptable_rate(records if has_zero else [], criterion, resampling.confidence),
        states=count_states(records, criterion),
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
    found = {each.name: _compare_by(*records, each, settings) for each in policy.criteria}
    changes = {name: change for name, (change, _) in found.items()}
    return Difference(policy, reference, changes, {name: p_value for name, (_, p_value) in found.items()})


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
    measured = [(each.name, group.judge_metrics.get(each.name)) for each in group.criteria]
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
