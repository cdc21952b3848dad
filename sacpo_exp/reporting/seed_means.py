"""What a policy scores over several seeds: every number of a report, with the spread between them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from sacpo_exp.config.schema import Criterion
from sacpo_exp.reporting.groups import Evaluation
from sacpo_exp.reporting.scores import PolicyScores, bound_rate
from sacpo_exp.scoring.intervals import RATE, Bounds, Resampling
from sacpo_exp.scoring.seeds import align_seeds, estimate_over_seeds
from sacpo_exp.scoring.win_rate import judged_refusals_by_prompt, refusals_by_prompt, safe_by_prompt, verdicts_by_prompt

#: Estimates of `PolicyScores`: values by prompt id, and what their mean can be.
MEASURES: Final[Mapping[str, tuple[Callable[[Evaluation], dict[str, float]], Bounds]]] = {
    "helpfulness": (lambda policy: verdicts_by_prompt(policy.records, Criterion.helpfulness), RATE),
    "harmlessness": (lambda policy: verdicts_by_prompt(policy.records, Criterion.safety), RATE),
    "refusals": (lambda policy: refusals_by_prompt(policy.records, "risky"), RATE),
    "over_refusals": (lambda policy: refusals_by_prompt(policy.records, "benign"), RATE),
    "judged_refusals": (lambda policy: judged_refusals_by_prompt(policy.records, "risky"), RATE),
    "judged_over_refusals": (lambda policy: judged_refusals_by_prompt(policy.records, "benign"), RATE),
    "safe": (lambda policy: safe_by_prompt(policy.records) if policy.labels["is_absolute"] else {}, RATE),
    "kl": (lambda policy: policy.kl, (0.0, math.inf)),
}


def average_seeds(seeds: Sequence[PolicyScores], policy: Evaluation, resampling: Resampling) -> PolicyScores:
    """The mean over seeds of one recipe; a seed whose rate is withheld is not in it.

    Args:
        policy: what the mean is called.
    """
    found = {}
    for name, (by_prompt, bounds) in MEASURES.items():
        known = [by_prompt(seed.policy) for seed in seeds if not math.isnan(getattr(seed, name).value)]
        possible = bound_rate(policy) if name in ("helpfulness", "harmlessness") else bounds
        found[name] = estimate_over_seeds(align_seeds(known), resampling, possible)
    first = seeds[0]
    return replace(
        first,
        policy=policy,
        error_helpfulness=math.nan,  # over prompts alone: not what this mean is uncertain by
        error_harmlessness=math.nan,
        states=sum((seed.states for seed in seeds[1:]), first.states),
        tokens=sum(seed.tokens for seed in seeds) / len(seeds),
        characters=sum(seed.characters for seed in seeds) / len(seeds),
        seeds=tuple(seeds),
        over_seeds=found,
        **{name: each.estimate if each.seeds else getattr(first, name) for name, each in found.items()},
    )
