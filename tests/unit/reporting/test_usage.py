"""What judging cost: shared judgments once, batches at their own price, nothing where the price is not known."""

from dataclasses import asdict
from typing import Any

import pytest

from sacpo_exp.method.criteria import Criterion
from sacpo_exp.reporting.collect import Evaluation, Group
from sacpo_exp.reporting.judge import Usage, measure_usage

PRICE = {"input": 2.0, "cached_input": 0.5, "output": 8.0}
CRITERIA = [asdict(Criterion("helpfulness", "H")), asdict(Criterion("safety", "S"))]
PRICES = {"read": "2026-06-04", "batch_factor": 0.5}


def single(key: str, via: str = "chat", attempts: int = 1) -> dict[str, Any]:
    tokens = {"prompt_tokens": 1_000_000, "cached_tokens": 400_000, "completion_tokens": 100_000}
    return {"key": key, "via": via, "attempts": attempts, "state": "ok"} | tokens


def group(singles: list[list[dict[str, Any]]], price: dict[str, float] | None = PRICE) -> Group:
    """One evaluation per list of judgments."""
    matches = [
        Evaluation(
            {"policy_id": f"p{place}", "baseline_id": "b", "opponent_id": "b", "criteria": CRITERIA},
            [{"helpfulness": {"state": "ok", "singles": entries}, "safety": None}],
            {},
            "",
            {"price": price, "prices": PRICES},
        )
        for place, entries in enumerate(singles)
    ]
    return Group(tuple(matches), (), {}, {}, "answers")


def usage_of(*singles: list[dict[str, Any]], price: dict[str, float] | None = PRICE) -> Usage:
    usage = measure_usage(group(list(singles), price))
    assert usage is not None
    return usage


def test_tokens_are_priced_by_what_they_are() -> None:
    assert usage_of([single("a")]).usd == pytest.approx(0.6 * 2 + 0.4 * 0.5 + 0.1 * 8)


def test_a_judgment_that_two_policies_share_is_paid_once() -> None:
    usage = usage_of([single("a"), single("b", attempts=3)], [single("a")])
    assert (usage.judgments, usage.calls, usage.prompt_tokens) == (2, 4, 2_000_000)
    assert usage.usd == pytest.approx(2 * 2.2)


def test_a_batch_costs_its_share() -> None:
    assert usage_of([single("a", via="batch")]).usd == pytest.approx(1.1)


def test_an_unknown_price_is_not_zero() -> None:
    assert usage_of([single("a")], price=None).usd is None


def test_a_server_that_counts_no_tokens_leaves_none() -> None:
    silent = single("a") | {"prompt_tokens": None, "cached_tokens": None, "completion_tokens": None}
    assert usage_of([silent]).prompt_tokens == 0


def test_a_judge_that_is_not_asked_uses_nothing() -> None:
    assert measure_usage(group([[]])) is None
