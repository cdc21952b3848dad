"""What reports read from the names that plans give to families."""

from collections.abc import Callable
from typing import Any

import pytest

from sacpo_exp.config.schema import Criterion, MergeMethod
from sacpo_exp.plan import Fingerprints, make_plan
from sacpo_exp.reporting.family_names import FamilyName, read_family

H, S = Criterion.helpfulness, Criterion.safety


@pytest.mark.parametrize(
    ("overrides", "order", "losses", "merge"),
    [
        (["order=helpful_only"], "helpful_only", "dpo", None),
        (["order=safety_only", "objective=kto"], "safety_only", "kto", None),
        (["objective=dpo_then_kto"], "helpful_first", "dpo_then_kto", None),
        (["order=safety_first", "adapter=lora"], "safety_first", "dpo", None),
        (["merge_ratio=0.5", "objective=kto_then_dpo"], "helpful_first", "kto_then_dpo", MergeMethod.linear),
        (["merge_ratio=0.5", "adapter=qlora"], "helpful_first", "dpo", MergeMethod.linear),
        (["merge=naive", "merge_ratio=0.5", "order=safety_first"], "naive", "dpo", MergeMethod.naive),
        (["merge=naive", "merge_ratio=0.5", "adapter=lora"], "naive", "dpo", MergeMethod.naive),
    ],
)
def test_what_a_plan_names_is_read_back(
    configure: Callable[..., Any], overrides: list[str], order: str, losses: str, merge: MergeMethod | None
) -> None:
    config = configure("model=nano", *overrides)
    policies = list(make_plan(config, Fingerprints({"dataset": "rows"})).policies.values())
    family = read_family(policies[-1].labels["family"])
    assert family
    assert (family.order, family.losses, family.merge) == (order, losses, merge)
    assert bool(family.adapter) == (config.adapter is not None)
    assert read_family(policies[0].labels["family"]) is None  # the baseline


def test_parts_and_the_mirror_of_a_family() -> None:
    family = read_family("lora16 DPO(H)→KTO(S)")
    assert family == FamilyName((("dpo", H), ("kto", S)), "lora16")
    assert family.parts == (read_family("lora16 DPO(H)"), read_family("lora16 KTO(S)"))
    assert family.mirrored == read_family("lora16 KTO(S)→DPO(H)")


@pytest.mark.parametrize(
    "name", ["base", "beaver-7b-v1.0", "DPO", "DPO(H)→", "P-SACPO DPO(H)", "naive DPO(H)→DPO(S)", ""]
)
def test_other_names_are_of_no_family_of_ours(name: str) -> None:
    assert read_family(name) is None
