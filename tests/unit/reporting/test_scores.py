"""Win rates by category and by length, and what judging and training cost."""

import math
from typing import Any

import pytest

from sacpo_exp.method.criteria import Criterion
from sacpo_exp.method.policy import Aligned, Base, Merged, Policy, Stage
from sacpo_exp.plan import LINEAGE
from sacpo_exp.reporting.collect import Evaluation, Group, find_cost
from sacpo_exp.reporting.judge import measure_usage
from sacpo_exp.reporting.scores import score_categories, score_lengths
from sacpo_exp.statistics.intervals import Resampling
from sacpo_exp.store import Manifest

USUAL = Resampling(200, 0.95, 0)
HELPFULNESS = Criterion("helpfulness", "H", prompt_kinds=["benign"])


def record(
    place: int, verdict: float | None, category: str | None, lengths: tuple[int, int] = (5, 5)
) -> dict[str, Any]:
    entry = {"state": "failed" if verdict is None else "ok", "verdict": verdict}
    texts = {"response": "x" * lengths[0], "opponent_response": "x" * lengths[1]}
    return {"prompt_id": f"p{place:02}", "kind": "benign", "category": category, "helpfulness": entry, **texts}


def evaluation(records: list[dict[str, Any]]) -> Evaluation:
    labels = {"policy_id": "p", "baseline_id": "b", "opponent_id": "b", LINEAGE: Base("p", "nano").to_dict()}
    return Evaluation(labels, records, {}, "")


def test_rates_by_category_are_those_of_the_prompts_with_a_verdict() -> None:
    records = [record(place, 1.0, "good") for place in range(5)]
    records += [record(40 + place, 0.0 if place else None, "rare") for place in range(5)]
    rows = [*score_categories(evaluation(records), HELPFULNESS, USUAL)]
    rates = {row["category"]: row["win_rate"] for row in rows}
    assert {name: (each.value, each.n) for name, each in rates.items()} == {"good": (1, 5), "rare": (0, 4)}
    assert not [*score_categories(evaluation(records[:5]), HELPFULNESS, USUAL)]  # one category alone


def test_lengths_are_those_of_the_prompts_with_a_verdict() -> None:
    records = [record(0, 1.0, None, (9, 5)), record(1, 0.0, None, (5, 9)), record(2, 0.5, None), record(3, None, None)]
    (row,) = score_lengths(evaluation(records), HELPFULNESS, USUAL)
    rates = {name: (row[name].value, row[name].n) for name in ("shorter", "similar", "longer")}
    assert rates == {"shorter": (0.0, 1), "similar": (0.5, 1), "longer": (1.0, 1)}
    assert math.isnan(row["at_equal_length"].value)  # the longer one always wins


PRICE = {"input": 2.0, "cached_input": 0.5, "output": 8.0}
CRITERIA = [Criterion("helpfulness", "H").to_judge(), Criterion("safety", "S").to_judge()]
PRICES = {"read": "2026-06-04", "batch_factor": 0.5}


def ask(key: str, via: str = "chat", attempts: int = 1) -> dict[str, Any]:
    tokens = {"prompt_tokens": 1_000_000, "cached_tokens": 400_000, "completion_tokens": 100_000}
    return {"key": key, "via": via, "attempts": attempts, "state": "ok"} | tokens


def usage_of(*singles: list[dict[str, Any]], price: dict[str, float] | None = PRICE) -> Any:
    """Return the usage of a group with one evaluation per list of judgments."""
    matches = []
    for place, entries in enumerate(singles):
        labels = {"policy_id": f"p{place}", "baseline_id": "b", "opponent_id": "b", "criteria": CRITERIA}
        record = {"helpfulness": {"state": "ok", "singles": entries}, "safety": None}
        matches.append(Evaluation(labels, [record], {}, "", {"price": price, "prices": PRICES}))
    return measure_usage(Group(tuple(matches)))


@pytest.mark.parametrize(("via", "usd"), [("chat", 0.6 * 2 + 0.4 * 0.5 + 0.1 * 8), ("batch", 1.1)])
def test_tokens_are_priced_by_their_kind_and_batches_at_their_own_price(via: str, usd: float) -> None:
    assert usage_of([ask("a", via)])["US dollars"] == pytest.approx(usd)


def test_a_judgment_that_two_policies_share_is_paid_once() -> None:
    usage = usage_of([ask("a"), ask("b", attempts=3)], [ask("a")])
    assert (usage["judgments"], usage["calls"], usage["tokens in"]) == (2, 4, 2_000_000)
    assert usage["US dollars"] == pytest.approx(2 * 2.2)


def test_what_is_not_known_is_not_counted() -> None:
    assert usage_of([ask("a")], price=None)["US dollars"] is None
    assert usage_of([ask("a") | {"prompt_tokens": None, "cached_tokens": None}])["tokens in"] == 0
    assert usage_of([]) is None  # a judge that is not asked


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
