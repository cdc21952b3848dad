"""Policies: what follows from a lineage, and that it is read back as it was written."""

import json
from dataclasses import replace
from typing import Any

import pytest

from sacpo_exp.method.policy import Aligned, Base, Merged, Policy, Stage, read_policy

LETTERS = {"helpfulness": "H", "safety": "S", "honesty": "T"}
BASE = Base("model-0", "nano", {"source": "scratch", "seed": 0})


def align(
    parent: Policy, loss: str, criterion: str | None, beta: float | None = None, seed: int = 0, adapter: str = ""
) -> Aligned:
    """One stage more; `id` tells all that made it."""
    recipe: dict[str, Any] = {"loss": {"name": loss}, "learning_rate": 1e-4, "seed": seed}
    if criterion:
        recipe |= {"criterion": criterion, "beta": beta}
    stage = Stage(recipe, {"rows": "r"}, LETTERS[criterion] if criterion else "", "demo", adapter)
    return Aligned(f"{parent.id}/{loss}{criterion}{beta}s{seed}", parent, stage)


SFT = align(BASE, "sft", None)
H = align(SFT, "dpo", "helpfulness", 0.1)
S = align(SFT, "dpo", "safety", 0.05)
HS = align(H, "dpo", "safety", 0.05)
HK = align(H, "kto", "safety", 0.05)
HTS = align(align(H, "dpo", "honesty", 0.2), "dpo", "safety", 0.05)
P_SACPO = Merged("merge-1", (H, HS), (0.25, 0.75))
NAIVE = Merged("merge-2", (H, S), (0.5, 0.5))
THREE = Merged("merge-3", (H, HTS.parent, HTS), (0.2, 0.3, 0.5))
LORA = align(align(BASE, "dpo", "helpfulness", 0.1, adapter="lora16"), "dpo", "safety", 0.1, adapter="lora16")
ALL = [BASE, SFT, H, S, HS, HK, HTS, P_SACPO, NAIVE, THREE, LORA]


#: Policy, its family, and the numbers that tell policies of a family apart.
NAMES: list[tuple[Policy, str, str]] = [
    (BASE, "nano", ""),
    (SFT, "SFT", ""),
    (HK, "DPO(H)→KTO(S)", "β=0.05"),
    (HTS, "DPO(H)→DPO(T)→DPO(S)", "β=0.05"),
    (P_SACPO, "P-SACPO DPO(H)→DPO(S)", "q=0.75"),
    (NAIVE, "naive DPO(H)+DPO(S)", "q=0.5"),
    (THREE, "P-SACPO DPO(H)→DPO(T)→DPO(S)", "weights=0.2/0.3/0.5"),
    (LORA, "lora16 DPO(H)→DPO(S)", "β=0.1"),
    (align(BASE, "sft", None, adapter="lora16"), "lora16 SFT", ""),
    (align(BASE, "robust", "safety", 1.0), "rDPO(S)", "β=1"),
    (align(BASE, "of a later version", "safety", 1.0), "of a later version(S)", "β=1"),
    (Merged("m", (P_SACPO, NAIVE), (0.5, 0.5)), f"naive {P_SACPO.family}+{NAIVE.family}", "q=0.5"),
]


def test_a_name_is_the_family_with_what_tells_its_policies_apart() -> None:
    for policy, family, numbers in NAMES:
        assert (policy.family, policy.name) == (family, f"{family} {numbers}".strip())


def test_a_policy_has_stages() -> None:
    for policy in (HK, NAIVE):
        assert (policy.criteria, policy.betas) == (("helpfulness", "safety"), (0.1, 0.05))
    for policy in (HTS, THREE):
        assert (policy.criteria, policy.betas) == (("helpfulness", "honesty", "safety"), (0.1, 0.2, 0.05))
    assert [policy.objective for policy in (HK, HTS, NAIVE, THREE)] == ["dpo_then_kto", *["dpo"] * 3]
    assert [policy.beta for policy in (HK, HTS, BASE)] == [0.05, 0.05, None]


def test_columns_are_flat_and_the_same_for_all_kinds() -> None:
    assert len({tuple(policy.columns) for policy in ALL}) == 1
    assert HK.columns == {
        **{"policy": "DPO(H)→KTO(S) β=0.05", "family": "DPO(H)→KTO(S)", "order": "helpfulness_then_safety"},
        **{"objective": "dpo_then_kto", "criterion": "safety", "loss": "kto", "beta": 0.05, "beta_first": 0.1},
        **{"merge_ratio": None, "seed": 0, "learning_rate": 1e-4, "model": "nano", "dataset": "demo"},
    }
    known = {key: value for key, value in BASE.columns.items() if value is not None}
    assert known == {"policy": "nano", "family": "nano", "order": "none", "model": "nano"}
    assert (P_SACPO.columns["merge_ratio"], P_SACPO.columns["beta_first"]) == (0.75, 0.1)
    assert (THREE.columns["merge_ratio"], H.columns["beta_first"]) == (None, None)


def test_ancestors_come_once_the_oldest_first_and_weights_are_of_merges_alone() -> None:
    assert BASE.ancestors == ()
    assert HS.ancestors == (BASE, SFT, H)
    assert P_SACPO.ancestors == (BASE, SFT, H, HS)
    assert NAIVE.ancestors == (BASE, SFT, H, S)
    assert [policy.base for policy in ALL] == [BASE] * len(ALL)
    assert P_SACPO.parents == (H, HS)
    assert [stage.title for stage in THREE.stages] == ["SFT", "DPO(H)", "DPO(T)", "DPO(S)"]
    assert [stage.is_consistent for stage in HK.stages] == [False, True, False]
    assert not align(BASE, "of a later version", "safety", 1.0).stage.is_consistent
    assert (HS.weights, HS.merge_ratio) == ((), None)
    assert (P_SACPO.weights, P_SACPO.merge_ratio) == ((0.25, 0.75), 0.75)
    assert (THREE.weights, THREE.merge_ratio) == ((0.2, 0.3, 0.5), None)
    assert [P_SACPO.is_naive, NAIVE.is_naive, THREE.is_naive] == [False, True, False]
    assert [P_SACPO.order, NAIVE.order] == ["helpfulness_then_safety", "naive"]
    ranks = [policy.rank for policy in (BASE, SFT, H, HS, HTS, P_SACPO)]
    assert ranks == sorted(ranks)
    assert P_SACPO.rank == NAIVE.rank == THREE.rank > HTS.rank  # tables have merges last


def test_what_is_written_is_read_back_and_what_is_no_policy_is_said() -> None:
    assert [read_policy(json.loads(json.dumps(policy.to_dict()))) for policy in ALL] == ALL
    for value, expected in (
        ({"kind": "distilled"}, "must be base, aligned or merged, but is 'distilled'"),
        ({"kind": "aligned", "id": "a", "parent": BASE.to_dict()}, "'stage' is missing"),
        (SFT.to_dict() | {"stage": {"recipe": {}, "colour": "red"}}, "colour"),
        (SFT.to_dict() | {"parent": {"kind": "base", "id": "b"}}, "'model' is missing"),
    ):
        with pytest.raises(ValueError, match=expected):
            read_policy(value)


def test_policies_that_differ_in_the_seed_alone_have_one_hash_without_it() -> None:
    def train(seed: int) -> Aligned:
        base = replace(BASE, id=f"model-{seed}", recipe=BASE.recipe | {"seed": seed})
        first = align(align(base, "sft", None, seed=seed), "dpo", "helpfulness", 0.1, seed)
        return align(first, "dpo", "safety", 0.05, seed)

    one, other = train(0), train(1)
    assert one.hash_without() != other.hash_without()
    assert one.hash_without("seed") == other.hash_without("seed") == HS.hash_without("seed")
    merged = [Merged(f"m{policy.id}", (policy.parent, policy), (0.5, 0.5)) for policy in (one, other)]
    assert merged[0].hash_without("seed") == merged[1].hash_without("seed") != one.hash_without("seed")
    # Names are for people.
    assert replace(BASE, model="renamed").hash_without() == BASE.hash_without()


def test_whatever_else_differs_is_in_the_hash_unless_it_is_left_out_too() -> None:
    changed: list[Policy] = [
        replace(HS, stage=replace(HS.stage, recipe=HS.stage.recipe | {"beta": 0.06})),
        replace(HS, stage=replace(HS.stage, data={"rows": "others"})),
        replace(HS, parent=replace(H, stage=replace(H.stage, recipe=H.stage.recipe | {"learning_rate": 1.0}))),
        replace(HS, parent=replace(H, parent=BASE)),
        HS.parent,
    ]
    assert HS.hash_without("seed") not in {policy.hash_without("seed") for policy in changed}
    other = align(H, "dpo", "safety", 0.5)
    assert other.hash_without("beta") == HS.hash_without("beta")
    assert other.hash_without("seed") != HS.hash_without("seed")
