"""Pairs of policies that theory holds equal, told by their recipes: the two orders, and a merge and its λ_q."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sacpo_exp.config.schema import Criterion
from sacpo_exp.reporting.lineage import Lineage
from sacpo_exp.store import Manifest, content_hash, hash_of

#: A person writes 0.0667 for 0.05/0.75.
TOLERANCE: Final = 1e-3
HELPFUL_FIRST: Final = (Criterion.helpfulness.value, Criterion.safety.value)
Pair = tuple[str, str]


@dataclass(frozen=True)
class Steps:
    """A policy of two stages: `start` is what the first one began with."""

    start: str
    stages: tuple[Manifest, Manifest]

    @property
    def criteria(self) -> tuple[str, ...]:
        return tuple(stage.recipe["criterion"] for stage in self.stages)


def find_order_pairs(policies: Sequence[str], lineage: Lineage) -> list[Pair]:
    """(helpful first, safety first) with the same start and, for each criterion, the same stage: β, data, seed, all.

    At the optimum the order does not matter (SACPO, Remark 2): helpfulness with β and safety with β/λ, in either order.
    A pair whose stages differ in anything else, a batch size say, would show that and is none.
    """
    by_recipe: dict[tuple[str, ...], dict[tuple[str, ...], str]] = {}
    for policy in policies:
        if steps := _trace(policy, lineage):
            recipes = {stage.recipe["criterion"]: _identify(stage, lineage) for stage in steps.stages}
            key = (steps.start, *(recipes.get(criterion, "") for criterion in HELPFUL_FIRST))
            by_recipe.setdefault(key, {})[steps.criteria] = policy
    orders = (HELPFUL_FIRST, HELPFUL_FIRST[::-1])
    found = by_recipe.values()
    return [(each[orders[0]], each[orders[1]]) for each in found if orders[0] in each and orders[1] in each]


def find_ratio_pairs(policies: Sequence[str], lineage: Lineage) -> list[Pair]:
    """(P-SACPO at q, trained at λ_q = q·λ): helpfulness first, the same first stage, a second one with β/λ through q.

    For log-linear policies the merge is the optimum for λ_q, and what was trained directly is the same.
    """
    return [pair for policy in policies for pair in _find_trained(policy, policies, lineage)]


def _find_trained(merged: str, policies: Sequence[str], lineage: Lineage) -> Iterator[Pair]:
    manifest = lineage.manifests.get(merged)
    ratio = manifest.recipe.get("ratio", 0.0) if manifest is not None and manifest.kind == "merge" else 0.0
    if manifest is None or not 0 < ratio < 1:  # at 1 the merge is the second policy itself
        return
    steps = _trace(manifest.parents[1], lineage)
    if steps is None or steps.criteria != HELPFUL_FIRST or steps.stages[0].id != manifest.parents[0]:
        return
    wanted = steps.stages[1].recipe["beta"] / ratio
    for policy in policies:
        other = _trace(policy, lineage)
        if other is None or other.stages[0].id != steps.stages[0].id:
            continue
        is_near = math.isclose(other.stages[1].recipe["beta"], wanted, rel_tol=TOLERANCE)
        if is_near and _identify(other.stages[1], lineage, "beta") == _identify(steps.stages[1], lineage, "beta"):
            yield merged, policy


def _trace(policy: str, lineage: Lineage) -> Steps | None:
    """The two stages for criteria that made a policy; None of any other policy."""
    second = lineage.manifests.get(policy)
    parents = lineage.find_parents(policy) if _is_aligned(second) else []
    first = lineage.manifests.get(parents[0]) if len(parents) == 1 else None
    before = lineage.find_parents(first.id) if first is not None and _is_aligned(first) else []
    if first is None or second is None or len(before) != 1 or _is_aligned(lineage.manifests.get(before[0])):
        return None
    return Steps(before[0], (first, second))


def _is_aligned(manifest: Manifest | None) -> bool:
    return manifest is not None and manifest.kind == "stage" and "criterion" in manifest.recipe


def _identify(stage: Manifest, lineage: Lineage, without: str = "") -> str:
    """Hash of a stage's recipe and data, whatever it began with."""
    recipe: Mapping[str, Any] = {name: value for name, value in stage.recipe.items() if name != without}
    data = lineage.find_data(stage.id)
    return content_hash([recipe, hash_of(data.id) if data else None])
