"""What judging cost: shared judgments once, batches at their own price, nothing where the price is not known."""

from dataclasses import asdict
from typing import Any

import pytest

from sacpo_exp.method.criteria import Criterion
from sacpo_exp.reporting.collect import Evaluation, Group
from sacpo_exp.reporting.judge import measure_usage
from sacpo_exp.reporting.tables import Row

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


def usage_of(*singles: list[dict[str, Any]], price: dict[str, float] | None = PRICE) -> Row:
    usage = measure_usage(group(list(singles), price))
    assert usage is not None
    return usage


@pytest.mark.parametrize(("via", "usd"), [("chat", 0.6 * 2 + 0.4 * 0.5 + 0.1 * 8), ("batch", 1.1)])
def test_tokens_are_priced_by_their_kind_and_batches_at_their_own_price(via: str, usd: float) -> None:
    assert usage_of([single("a", via)])["US dollars"] == pytest.approx(usd)


def test_a_judgment_that_two_policies_share_is_paid_once() -> None:
    usage = usage_of([single("a"), single("b", attempts=3)], [single("a")])
    assert (usage["judgments"], usage["calls"], usage["tokens in"]) == (2, 4, 2_000_000)
    assert usage["US dollars"] == pytest.approx(2 * 2.2)


def test_what_is_not_known_is_not_counted() -> None:
    assert usage_of([single("a")], price=None)["US dollars"] is None
    assert usage_of([single("a") | {"prompt_tokens": None, "cached_tokens": None}])["tokens in"] == 0
    assert measure_usage(group([[]])) is None  # a judge that is not asked
