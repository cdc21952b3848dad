"""Win rates by length of the response and by category of the prompt."""

from dataclasses import dataclass
from typing import Final

from sacpo_exp.method.criteria import Criterion
from sacpo_exp.reporting.groups import Evaluation
from sacpo_exp.statistics.breakdown import (
    adjust_for_length,
    estimate_by_category,
    estimate_by_length,
    find_worst_category,
)
from sacpo_exp.statistics.intervals import Estimate, Resampling
from sacpo_exp.statistics.win_rate import verdicts_by_prompt

#: Prompts that a category must have to be the worst one: below, chance decides which it is.
MIN_PROMPTS: Final = 5


@dataclass(frozen=True)
class LengthScores:
    """Win rates where the response has fewer, about as many (±10 %), or more characters than its opponent's.

    `adjusted` is the rate at equal length; NaN where it can't be told.
    """

    policy: Evaluation
    criterion: Criterion
    adjusted: Estimate
    by_length: dict[str, Estimate]


@dataclass(frozen=True)
class CategoryScores:
    """Win rates by category; `worst` has the lowest of those with enough prompts."""

    policy: Evaluation
    criterion: Criterion
    estimates: dict[str, Estimate]
    worst: str | None


def score_lengths(policy: Evaluation, criterion: Criterion, resampling: Resampling) -> LengthScores | None:
    """None where the policy has no verdict on the criterion."""
    verdicts = verdicts_by_prompt(policy.records, criterion)
    if not verdicts:
        return None
    records = {record["prompt_id"]: record for record in policy.records}
    lengths = (
        [len(records[key]["response"]) for key in verdicts],
        [len(records[key]["opponent_response"]) for key in verdicts],
    )
    values = list(verdicts.values())
    adjusted = adjust_for_length(values, *lengths, resampling.confidence)
    return LengthScores(policy, criterion, adjusted, estimate_by_length(values, *lengths, resampling))


def score_categories(policy: Evaluation, criterion: Criterion, resampling: Resampling) -> CategoryScores | None:
    """None where the prompts carry no categories."""
    verdicts = verdicts_by_prompt(policy.records, criterion)
    categories = {record["prompt_id"]: record["category"] for record in policy.records}
    estimates = estimate_by_category(list(verdicts.values()), [categories[key] for key in verdicts], resampling)
    if len(estimates) < 2:
        return None
    return CategoryScores(policy, criterion, estimates, find_worst_category(estimates, MIN_PROMPTS))
