"""Pairs of policies that theory holds equal: the same stages in another order, and a merge and its λ_q. Pure."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

from sacpo_exp.method.criteria import HELPFULNESS, SAFETY
from sacpo_exp.method.policy import Merged, Policy, Stage

#: A person writes 0.0667 for 0.05/0.75.
TOLERANCE: Final = 1e-3
#: Names of the criteria in the order of the paper.
PAPER: Final = (HELPFULNESS, SAFETY)
#: Ids of the two policies.
Pair = tuple[str, str]


def find_order_pairs(policies: Sequence[Policy], criteria: Sequence[str] = PAPER) -> list[Pair]:
    """Pairs of two-stage policies with the same start and, for each criterion, the same stage: β, data, seed, all.

    At the optimum the order does not matter (Remark 2): the reward with β and the constraint with β/λ, in either order.
    A pair whose stages differ in anything else, a batch size say, would show that and is none.

    Args:
        criteria: names, the reward's first; the policy that is aligned in this order is the first of its pair.
    """
    straight = [policy for policy in policies if _is_stepwise(policy)]
    return [
        (ours.id, theirs.id)
        for ours in straight
        for theirs in straight
        if is_forward(ours.criteria, criteria)
        and not is_forward(theirs.criteria, criteria)
        and _start(ours).id == _start(theirs).id
        and [_recipe(stage) for stage in ours.aligned] == [_recipe(stage) for stage in reversed(theirs.aligned)]
    ]


def find_ratio_pairs(policies: Sequence[Policy], criteria: Sequence[str] = PAPER) -> list[Pair]:
    """(P-SACPO at q, trained at λ_q = q·λ): reward first, the same first stage, a second one with its β/λ through q.

    For log-linear policies the merge is the optimum for λ_q, and what was trained directly is the same.

    Args:
        criteria: names, the reward's first.
    """
    merges = [policy for policy in policies if isinstance(policy, Merged) and is_forward(policy.criteria, criteria)]
    return [pair for policy in merges for pair in _find_trained(policy, policies)]


def _find_trained(merged: Merged, policies: Sequence[Policy]) -> Iterator[Pair]:
    ratio, later = merged.merge_ratio, merged.policies[-1]
    if merged.is_naive or ratio is None or not 0 < ratio < 1 or not _is_stepwise(later):  # 1 is the later one itself
        return
    second = later.aligned[1]
    for other in policies:
        if not _is_stepwise(other) or other.parents[0].id != later.parents[0].id:
            continue
        is_near = math.isclose(other.aligned[1].beta or 0.0, (second.beta or 0.0) / ratio, rel_tol=TOLERANCE)
        if is_near and _recipe(other.aligned[1], "beta") == _recipe(second, "beta"):
            yield merged.id, other.id


def is_forward(aligned: Sequence[str], criteria: Sequence[str]) -> bool:
    """Whether stages were aligned in the order of `criteria`; those that it lacks come last."""
    places = [criteria.index(name) if name in criteria else len(criteria) for name in aligned]
    return places == sorted(places)


def _is_stepwise(policy: Policy) -> bool:
    """Whether two stages for criteria, one after the other, made the policy."""
    return not policy.weights and len(policy.aligned) == 2


def _start(policy: Policy) -> Policy:
    """What the first of two stages began with."""
    return policy.parents[0].parents[0]


def _recipe(stage: Stage, without: str = "") -> tuple[dict[str, Any], dict[str, Any]]:
    """Recipe and data of a stage, whatever it began with."""
    return {name: value for name, value in stage.recipe.items() if name != without}, stage.data
