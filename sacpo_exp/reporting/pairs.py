"""Pairs of policies that theory predicts to be equal: the same stages in another order, and a merge and its λ_q."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

from sacpo_exp.method.criteria import HELPFULNESS, SAFETY
from sacpo_exp.method.policy import Merged, Policy, Stage

#: Relative difference of equal β's: people write 0.0667 for 0.05/0.75.
TOLERANCE: Final = 1e-3
PAPER: Final = (HELPFULNESS, SAFETY)
#: Ids of the two policies.
Pair = tuple[str, str]


def find_order_pairs(policies: Sequence[Policy], criteria: Sequence[str] = PAPER) -> list[Pair]:
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


def find_ratio_pairs(policies: Sequence[Policy], criteria: Sequence[str] = PAPER) -> list[Pair]:
    """Return pairs (P-SACPO at q, trained at λ_q = q·λ): the reward first, the same first stage, β/λ divided by q.

    For log-linear policies the merge is the optimum for λ_q.
    """
    merges = [policy for policy in policies if isinstance(policy, Merged) and is_forward(policy.criteria, criteria)]
    return [(merged.id, other.id) for merged in merges for other in _find_trained(merged, policies)]


def _find_trained(merged: Merged, policies: Sequence[Policy]) -> Iterator[Policy]:
    ratio, later = merged.merge_ratio, merged.policies[-1]
    if merged.is_naive or ratio is None or not 0 < ratio < 1 or not _has_two_stages(later):  # at 1 it is the later one
        return
    second = later.aligned[1]
    for other in policies:
        if _has_two_stages(other) and other.parents[0].id == later.parents[0].id:
            is_near = math.isclose(other.aligned[1].beta or 0.0, (second.beta or 0.0) / ratio, rel_tol=TOLERANCE)
            if is_near and _settings(other.aligned[1], "beta") == _settings(second, "beta"):
                yield other


def is_forward(aligned: Sequence[str], criteria: Sequence[str]) -> bool:
    """Return whether stages are in the order of `criteria`; criteria that it lacks come last."""
    places = [criteria.index(name) if name in criteria else len(criteria) for name in aligned]
    return places == sorted(places)


def _has_two_stages(policy: Policy) -> bool:
    return not policy.weights and len(policy.aligned) == 2


def _settings(stage: Stage, without: str = "") -> tuple[dict[str, Any], dict[str, Any]]:
    """Return recipe and data of a stage, which do not depend on its parent."""
    return {name: value for name, value in stage.recipe.items() if name != without}, stage.data
