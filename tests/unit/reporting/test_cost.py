"""What it took to train a policy, from the manifests of its stages."""

from sacpo_exp.method.policy import Aligned, Base, Merged, Policy, Stage
from sacpo_exp.reporting.collect import find_cost
from sacpo_exp.store import Manifest

BASE = Aligned("sft-0000000000", Base("nano-1111111111", "nano"), Stage({"loss": {"name": "sft"}}))


def align(parent: Policy, criterion: str, name: str) -> Aligned:
    return Aligned(name, parent, Stage({"loss": {"name": "dpo"}, "criterion": criterion, "beta": 0.1}))


def manifest(name: str, updates: int, seconds: float) -> Manifest:
    return Manifest(name, "stage", 2, {}, [], {}, {"train/updates": updates}, "", seconds, {}, None, {})


def test_a_policy_costs_the_stages_that_it_descends_from_each_once() -> None:
    first = align(BASE, "helpfulness", "h-aaaaaaaaaa")
    second = align(first, "safety", "h.s-bbbbbbbbbb")
    merged = Merged("q-cccccccccc", (first, second), (0.5, 0.5))
    stages = {"aaaaaaaaaa": manifest("h-aaaaaaaaaa", 30, 5.0), "bbbbbbbbbb": manifest("h.s-bbbbbbbbbb", 12, 2.5)}
    assert find_cost(first, stages) == {"stages": 1, "updates": 30, "seconds": 5.0}
    assert find_cost(second, stages) == find_cost(merged, stages) == {"stages": 2, "updates": 42, "seconds": 7.5}
    assert find_cost(BASE, stages) == {}  # supervised fine-tuning made what all are compared with
    assert find_cost(second, {"bbbbbbbbbb": stages["bbbbbbbbbb"]}) == {}  # one is stored elsewhere
