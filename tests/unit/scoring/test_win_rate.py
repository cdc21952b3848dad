"""Tests of win rates, paired differences and refusal rates against arithmetic by hand."""

import math
from typing import Any

import pytest

from sacpo_exp.config.schema import Criterion
from sacpo_exp.scoring.intervals import Resampling
from sacpo_exp.scoring.win_rate import (
    estimate_difference,
    estimate_refusals,
    estimate_win_rate,
    judged,
    verdicts_by_prompt,
)

USUAL = Resampling(rounds=500, confidence=0.95, seed=0)
HELPFULNESS, SAFETY = Criterion.helpfulness, Criterion.safety


def record(
    prompt_id: str, kind: str | None, helpfulness: float, safety: float, is_refusal: bool = False
) -> dict[str, Any]:
    return {
        "prompt_id": prompt_id,
        "kind": kind,
        "state": "ok",
        "is_refusal": is_refusal,
        "helpfulness": {"score": 0.0, "baseline_score": 0.0, "verdict": helpfulness},
        "safety": {"score": 0.0, "baseline_score": 0.0, "verdict": safety},
    }


def failed(prompt_id: str, kind: str | None) -> dict[str, Any]:
    unscored = {"state": "failed", "helpfulness": None, "safety": None, "is_refusal": True}
    return {"prompt_id": prompt_id, "kind": kind} | unscored


RECORDS = [
    record("b1", "benign", 1.0, 0.0),
    record("b2", "benign", 0.5, 0.0, is_refusal=True),
    failed("b3", "benign"),
    record("b4", "benign", 0.0, 0.0),
    record("b5", "benign", 1.0, 0.0),
    record("r1", "risky", 0.0, 1.0, is_refusal=True),
    record("r2", "risky", 0.0, 0.5),
    failed("r3", "risky"),
]


def test_each_criterion_is_scored_on_its_own_kind_and_ties_count_half() -> None:
    helpfulness = estimate_win_rate(RECORDS, HELPFULNESS, USUAL)
    harmlessness = estimate_win_rate(RECORDS, SAFETY, USUAL)
    assert (helpfulness.value, helpfulness.n) == ((1 + 0.5 + 0 + 1) / 4, 4)
    assert (harmlessness.value, harmlessness.n) == ((1 + 0.5) / 2, 2)


def test_prompts_of_unknown_kind_count_for_both_criteria_and_for_no_refusal_rate() -> None:
    records = [*RECORDS, record("u1", None, 0.5, 0.0, is_refusal=True)]
    assert estimate_win_rate(records, HELPFULNESS, USUAL).value == pytest.approx(3.0 / 5)
    assert estimate_win_rate(records, SAFETY, USUAL).value == pytest.approx(1.5 / 3)
    assert estimate_refusals(records, "risky", 0.95).n == 2


def test_failed_records_are_left_out_and_counted() -> None:
    assert len(RECORDS) - len(judged(RECORDS)) == 2
    assert "b3" not in verdicts_by_prompt(RECORDS, HELPFULNESS)


def test_refusals_are_told_apart_by_kind() -> None:
    assert estimate_refusals(RECORDS, "risky", 0.95).value == 1 / 2
    over = estimate_refusals(RECORDS, "benign", 0.95)
    assert (over.value, over.n) == (1 / 4, 4)


def test_difference_is_over_the_prompts_that_both_have() -> None:
    reference = [
        record("b9", "benign", 1.0, 0.0),  # the other policy has no such prompt
        record("b5", "benign", 0.0, 0.0),
        record("b1", "benign", 1.0, 0.0),
        record("b2", "benign", 0.0, 0.0),
        failed("b4", "benign"),
    ]
    difference = estimate_difference(RECORDS, reference, HELPFULNESS, USUAL)
    assert difference.n == 3  # b1, b2, b5
    assert difference.value == pytest.approx(((1 - 1) + (0.5 - 0) + (1 - 0)) / 3)


def test_nothing_in_common_is_no_difference_rather_than_zero() -> None:
    difference = estimate_difference(RECORDS, [record("b9", "benign", 1.0, 0.0)], HELPFULNESS, USUAL)
    assert difference.n == 0
    assert math.isnan(difference.value)
    assert math.isnan(estimate_refusals([failed("r1", "risky")], "risky", 0.95).value)


def test_the_order_of_the_records_makes_no_difference() -> None:
    assert estimate_win_rate(RECORDS, HELPFULNESS, USUAL) == estimate_win_rate(RECORDS[::-1], HELPFULNESS, USUAL)
