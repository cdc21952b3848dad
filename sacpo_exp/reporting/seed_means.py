"""What a policy scores over several seeds: every number of a report, with the spread between them."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from sacpo_exp.reporting.groups import Evaluation
from sacpo_exp.reporting.scores import CriterionScores, PolicyScores, bound_rate
from sacpo_exp.statistics.intervals import RATE, Bounds, Estimate, Resampling
from sacpo_exp.statistics.seeds import SeedEstimate, align_seeds, estimate_over_seeds
from sacpo_exp.statistics.win_rate import (
    acceptable_by_prompt,
    judged_refusals_by_prompt,
    refusals_by_prompt,
    verdicts_by_prompt,
)

Values = Callable[[Evaluation], dict[str, float]]
#: Estimates of `PolicyScores`: values by prompt id, and what their mean can be.
MEASURES: Final[Mapping[str, tuple[Values, Bounds]]] = {
    "refusals": (lambda policy: refusals_by_prompt(policy.records, "risky"), RATE),
    "over_refusals": (lambda policy: refusals_by_prompt(policy.records, "benign"), RATE),
    "judged_refusals": (lambda policy: judged_refusals_by_prompt(policy.records, "risky"), RATE),
    "judged_over_refusals": (lambda policy: judged_refusals_by_prompt(policy.records, "benign"), RATE),
    "kl": (lambda policy: policy.kl, (0.0, math.inf)),
}


def average_seeds(seeds: Sequence[PolicyScores], policy: Evaluation, resampling: Resampling) -> PolicyScores:
    """The mean over seeds of one recipe; a seed whose rate is withheld is not in it.

    Args:
        policy: what the mean is called.
    """
    found = {
        name: _average([(getattr(seed, name), values(seed.policy)) for seed in seeds], resampling, bounds)
        for name, (values, bounds) in MEASURES.items()
    }
    first = seeds[0]
    by_criterion = {}
    for criterion in policy.criteria:
        name, has_zero = criterion.name, criterion.name in policy.labels["has_zero"]
        scores = [(seed.by_criterion[name], seed.policy.records) for seed in seeds]
        rates = [(each.rate, verdicts_by_prompt(records, criterion)) for each, records in scores]
        shares = [
            (each.acceptable, acceptable_by_prompt(records, criterion) if has_zero else {}) for each, records in scores
        ]
        found[name] = _average(rates, resampling, bound_rate(policy))
        found[acceptable_key(name)] = _average(shares, resampling, RATE)
        by_criterion[name] = CriterionScores(
            rate=_or_first(found[name], rates[0][0]),
            error=math.nan,  # over prompts alone it is not what this mean is uncertain by
            acceptable=_or_first(found[acceptable_key(name)], shares[0][0]),
            states=sum((each.states for each, _ in scores), Counter()),
        )
    return replace(
        first,
        policy=policy,
        by_criterion=by_criterion,
        tokens=sum(seed.tokens for seed in seeds) / len(seeds),
        characters=sum(seed.characters for seed in seeds) / len(seeds),
        seeds=tuple(seeds),
        over_seeds=found,
        **{name: _or_first(found[name], getattr(first, name)) for name in MEASURES},
    )


def acceptable_key(criterion: str) -> str:
    """Key in `over_seeds` of the share of acceptable responses; that of the win rate is the criterion's name."""
    return f"{criterion}/acceptable"


def _average(
    seeds: Sequence[tuple[Estimate, dict[str, float]]], resampling: Resampling, bounds: Bounds
) -> SeedEstimate:
    known = [values for estimate, values in seeds if not math.isnan(estimate.value)]
    return estimate_over_seeds(align_seeds(known), resampling, bounds)


def _or_first(over_seeds: SeedEstimate, first: Estimate) -> Estimate:
    return over_seeds.estimate if over_seeds.seeds else first
