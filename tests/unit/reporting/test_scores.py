"""Win rates by length, and what training cost."""

import math
from typing import Any

from sacpo_exp.method.criteria import Criterion
from sacpo_exp.method.policy import Aligned, Base, Merged, Policy, Stage
from sacpo_exp.plan import LINEAGE
from sacpo_exp.reporting.collect import Evaluation, find_cost
from sacpo_exp.reporting.scores import score_lengths
from sacpo_exp.statistics.intervals import Resampling
from sacpo_exp.store import Manifest

USUAL = Resampling(200, 0.95, 0)
HELPFULNESS = Criterion("helpfulness", "H", prompt_kinds=["benign"])


def record(place: int, verdict: float | None, lengths: tuple[int, int] = (5, 5)) -> dict[str, Any]:
    entry = {"state": "failed" if verdict is None else "ok", "verdict": verdict}
    texts = {"response": "x" * lengths[0], "opponent_response": "x" * lengths[1]}
    return {"prompt_id": f"p{place:02}", "kind": "benign", "helpfulness": entry, **texts}


def evaluation(records: list[dict[str, Any]]) -> Evaluation:
    labels = {"policy_id": "p", "baseline_id": "b", "opponent_id": "b", LINEAGE: Base("p", "nano").to_dict()}
    return Evaluation(labels, records, {}, "")


def test_lengths_are_those_of_the_prompts_with_a_verdict() -> None:
    records = [record(0, 1.0, (9, 5)), record(1, 0.0, (5, 9)), record(2, 0.5), record(3, None)]
    (row,) = score_lengths(evaluation(records), HELPFULNESS, USUAL)
    rates = {name: (row[name].value, row[name].n) for name in ("shorter", "similar", "longer")}
    assert rates == {"shorter": (0.0, 1), "similar": (0.5, 1), "longer": (1.0, 1)}
    assert math.isnan(row["at_equal_length"].value)  # the longer one always wins


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
