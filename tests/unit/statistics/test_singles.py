"""Single judgments as columns."""

from typing import Any

from sacpo_exp.config.loading import shipped_criteria
from sacpo_exp.statistics.win_rate import list_singles

HELPFULNESS = shipped_criteria()["helpfulness"]


def judged(prompt_id: str, entry: dict[str, Any] | None, kind: str = "benign") -> dict[str, Any]:
    return {"prompt_id": prompt_id, "kind": kind, "helpfulness": entry, "safety": None}


def single(is_first: bool, repeat: int, verdict: float | None) -> dict[str, Any]:
    state = {"state": "failed"} if verdict is None else {"state": "ok", "verdict": verdict}
    return {"is_first": is_first, "repeat": repeat} | state


ASKED = {
    "state": "ok",
    "verdict": 0.75,
    "singles": [single(True, 0, 1.0), single(True, 1, None), single(False, 0, 0.5), single(False, 1, 0.5)],
}
SAME = {"state": "ok", "verdict": 0.5, "is_same": True}


def test_failed_judgments_are_no_verdicts_and_order_and_repeat_are_kept() -> None:
    singles = list_singles([judged("p", ASKED)], HELPFULNESS)
    assert singles.verdict.tolist() == [1.0, 0.5, 0.5]
    assert singles.shown.tolist() == [1, -1, -1]
    assert singles.repeat.tolist() == [0, 0, 1]
    assert singles.asked.all()


def test_equal_responses_weigh_as_much_as_others_in_both_orders_and_were_not_asked_about() -> None:
    singles = list_singles([judged("p", ASKED), judged("q", SAME)], HELPFULNESS)
    own = [row == "q" for row in singles.prompt]
    assert singles.verdict[own].tolist() == [0.5] * 4
    assert sorted(singles.shown[own].tolist()) == [-1, -1, 1, 1]
    assert not singles.asked[own].any()


def test_a_judge_with_scores_gives_one_verdict_without_an_order() -> None:
    records = [judged("p", {"state": "ok", "verdict": 1.0}), judged("q", SAME)]
    singles = list_singles(records, HELPFULNESS)
    assert (singles.shown.tolist(), singles.verdict.tolist()) == ([0, 0], [1.0, 0.5])


def test_prompts_of_another_kind_or_not_asked_about_are_left_out() -> None:
    records = [judged("p", ASKED, "risky"), judged("q", None)]
    assert list_singles(records, HELPFULNESS).prompt == []
