"""Tests of win rates, paired differences, refusal rates and single judgments against arithmetic by hand."""

import math
from typing import Any

import numpy as np
import pytest

from sacpo_exp.config.loading import shipped_criteria
from sacpo_exp.method.criteria import Criterion
from sacpo_exp.statistics import win_rate
from sacpo_exp.statistics.intervals import Resampling

USUAL = Resampling(rounds=500, confidence=0.95, seed=0)
HELPFULNESS, SAFETY = (shipped_criteria()[name] for name in ("helpfulness", "safety"))


def record(
    prompt_id: str, kind: str | None, helpfulness: float, safety: float, is_refusal: bool = False
) -> dict[str, Any]:
    entries = {"helpfulness": verdict(helpfulness), "safety": verdict(safety)}
    return {"prompt_id": prompt_id, "kind": kind, "is_refusal": is_refusal} | entries


def verdict(value: float) -> dict[str, Any]:
    return {"state": "ok", "score": value - 0.5, "opponent_score": 0.0, "verdict": value}


def failed(prompt_id: str, kind: str | None, state: str = "failed") -> dict[str, Any]:
    unscored = {"state": state, "score": None, "opponent_score": None, "verdict": None}
    return {"prompt_id": prompt_id, "kind": kind, "helpfulness": unscored, "safety": unscored, "is_refusal": True}


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
    rates = [win_rate.estimate_win_rate(RECORDS, criterion, USUAL, 1.0) for criterion in (HELPFULNESS, SAFETY)]
    assert [(rate.value, rate.n) for rate in rates] == [((1 + 0.5 + 0 + 1) / 4, 4), ((1 + 0.5) / 2, 2)]
    assert win_rate.estimate_win_rate(RECORDS[::-1], HELPFULNESS, USUAL, 1.0) == rates[0]


def test_prompts_of_unknown_kind_count_for_both_criteria_and_for_no_refusal_rate() -> None:
    records = [*RECORDS, record("u1", None, 0.5, 0.0, is_refusal=True)]
    assert win_rate.estimate_win_rate(records, HELPFULNESS, USUAL, 1.0).value == pytest.approx(3.0 / 5)
    assert win_rate.estimate_win_rate(records, SAFETY, USUAL, 1.0).value == pytest.approx(1.5 / 3)
    risky, benign = (list(win_rate.refusals_by_prompt(records, kind).values()) for kind in ("risky", "benign"))
    assert [(sum(values), len(values)) for values in (risky, benign)] == [(2, 3), (2, 5)]
    scored = [record("r1", "risky", 0.0, 1.0), record("r2", "risky", 0.0, 0.5), record("r4", "risky", 0.0, 0.0)]
    assert list(win_rate.acceptable_by_prompt(scored, SAFETY).values()) == [1, 1, 0]  # a score of at least zero


def test_failed_records_are_left_out_and_a_rate_of_which_too_much_is_missing_is_withheld() -> None:
    records = [*RECORDS, failed("b6", "benign", "unparsed"), RECORDS[3] | {"prompt_id": "b7", "helpfulness": None}]
    assert win_rate.count_states(records, HELPFULNESS) == {"ok": 4, "failed": 1, "unparsed": 1}
    assert win_rate.verdicts_by_prompt(records, HELPFULNESS).keys() == {"b1", "b2", "b4", "b5"}
    kept, withheld = (win_rate.estimate_win_rate(RECORDS, HELPFULNESS, USUAL, limit) for limit in (0.2, 0.19))
    assert kept.value == 2.5 / 4  # one of five is missing
    assert math.isnan(withheld.value)
    assert withheld.n == 4
    assert math.isnan(win_rate.estimate_difference(RECORDS, RECORDS, HELPFULNESS, USUAL, 0.19).value)
    assert win_rate.estimate_difference(RECORDS, RECORDS, HELPFULNESS, USUAL, 0.2).value == 0


def test_full_and_partial_refusals_by_the_judge_count_and_failures_do_not() -> None:
    labels = ["full_compliance", "partial_refusal", "full_refusal", "full_compliance", None]
    records = [
        record(f"b{place}", "benign", 0.5, 0.5) | {"refusal": {"state": "ok" if label else "failed", "label": label}}
        for place, label in enumerate(labels)
    ]
    assert list(win_rate.judged_refusals_by_prompt(records, "benign").values()) == [0, 1, 1, 0]
    assert [win_rate.has_too_few_labels(records, "benign", limit) for limit in (0.2, 0.1)] == [False, True]
    assert win_rate.judged_refusals_by_prompt(RECORDS, "benign") == {}  # never asked
    assert not win_rate.has_too_few_labels(RECORDS, "benign", 0.0)


def test_a_criterion_of_a_user_counts_on_the_kinds_that_its_file_names_and_on_all_without_any() -> None:
    honesty = Criterion("honesty", "T", prompt_kinds=["factual", "risky"])
    values = {"benign": 1.0, "risky": 0.5, "factual": 0.0, None: 1.0}
    records = [
        {"prompt_id": str(kind), "kind": kind, "is_refusal": False, "honesty": verdict(value)}
        for kind, value in values.items()
    ]
    assert win_rate.verdicts_by_prompt(records, honesty) == {"None": 1.0, "factual": 0.0, "risky": 0.5}
    assert win_rate.verdicts_by_prompt(records, Criterion("honesty", "T")).keys() == {str(kind) for kind in values}
    assert win_rate.verdicts_by_prompt(records, SAFETY) == {}  # the judge was not asked about it at all


def test_difference_is_over_the_prompts_that_both_have() -> None:
    verdicts = (("b9", 1.0), ("b5", 0.0), ("b1", 1.0), ("b2", 0.0))  # the other policy has no b9
    reference = [*(record(name, "benign", value, 0.0) for name, value in verdicts), failed("b4", "benign")]
    difference = win_rate.estimate_difference(RECORDS, reference, HELPFULNESS, USUAL, 1.0)
    assert difference.n == 3  # b1, b2, b5
    assert difference.value == pytest.approx(((1 - 1) + (0.5 - 0) + (1 - 0)) / 3)
    nothing = win_rate.estimate_difference(RECORDS, reference[:1], HELPFULNESS, USUAL, 1.0)
    assert nothing.n == 0
    assert math.isnan(nothing.value)


def test_pairing_takes_out_what_both_have_in_common() -> None:
    easy = np.random.default_rng(7).random(80) / 2
    own = [record(f"b{n}", "benign", 0.24 + value + n % 2 / 50, 0.0) for n, value in enumerate(easy)]
    reference = [record(f"b{n}", "benign", value, 0.0) for n, value in enumerate(easy)]
    difference = win_rate.estimate_difference(own, reference, HELPFULNESS, USUAL, 1.0)
    assert difference.value == pytest.approx(0.25)
    assert 0 < difference.high - difference.low < 0.01


def single(is_first: bool, repeat: int, value: float | None) -> dict[str, Any]:
    state = {"state": "failed"} if value is None else {"state": "ok", "verdict": value}
    return {"is_first": is_first, "repeat": repeat} | state


ASKED = {
    "state": "ok",
    "verdict": 0.75,
    "singles": [single(True, 0, 1.0), single(True, 1, None), single(False, 0, 0.5), single(False, 1, 0.5)],
}
SAME = {"state": "ok", "verdict": 0.5, "is_same": True}


def judged(prompt_id: str, entry: dict[str, Any] | None, kind: str = "benign") -> dict[str, Any]:
    return {"prompt_id": prompt_id, "kind": kind, "helpfulness": entry}


def test_single_judgments_keep_order_and_repeat_and_equal_responses_weigh_as_much_as_others() -> None:
    records = [judged("p", ASKED), judged("q", SAME), judged("r", ASKED, "risky"), judged("s", None)]
    singles = win_rate.list_singles(records, HELPFULNESS)
    assert singles[:3] == [("p", 1, 0, 1.0, True), ("p", -1, 0, 0.5, True), ("p", -1, 1, 0.5, True)]
    assert [(each.prompt, each.verdict, each.asked) for each in singles[3:]] == [("q", 0.5, False)] * 4
    assert sorted(each.shown for each in singles[3:]) == [-1, -1, 1, 1]
    scored = win_rate.list_singles([judged("p", {"state": "ok", "verdict": 1.0}), judged("q", SAME)], HELPFULNESS)
    assert [(each.shown, each.verdict) for each in scored] == [(0, 1.0), (0, 0.5)]  # a judge with scores has no order
    assert win_rate.list_singles([], HELPFULNESS) == []
