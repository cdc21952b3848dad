"""From single judgments to the verdict on a prompt: orders are averaged, failures are never ties."""

from typing import Any

import pytest

from sacpo_exp.evaluation.judges.verdicts import call_tie, combine, compare


def single(is_first: bool, score: float, opponent: float) -> dict[str, Any]:
    return {"is_first": is_first} | compare(score, opponent)


def lost(is_first: bool, state: str) -> dict[str, Any]:
    return {"is_first": is_first, "state": state}


@pytest.mark.parametrize(("scores", "verdict"), [((8, 7), 1.0), ((7, 8), 0.0), ((7, 7), 0.5)])
def test_the_higher_score_wins(scores: tuple[float, float], verdict: float) -> None:
    assert compare(*scores)["verdict"] == verdict


def test_a_judge_that_always_prefers_the_first_answer_decides_nothing() -> None:
    verdict = combine([single(True, 9, 2), single(False, 2, 9)])
    assert (verdict["state"], verdict["verdict"], verdict["score"]) == ("ok", 0.5, 5.5)


def test_orders_weigh_alike_though_one_has_lost_a_repeat() -> None:
    singles = [single(True, 9, 2), single(True, 9, 2), single(False, 2, 9), lost(False, "failed")]
    assert combine(singles)["verdict"] == 0.5  # 2/3 if judgments were simply averaged


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (["unparsed", "unparsed"], "unparsed"),
        (["unparsed", "refused"], "refused"),
        (["refused", "failed"], "failed"),
    ],
)
def test_without_a_whole_order_there_is_no_verdict_but_a_reason(states: list[str], expected: str) -> None:
    verdict = combine([single(True, 9, 2), single(True, 9, 2), *(lost(False, state) for state in states)])
    assert (verdict["state"], verdict["verdict"]) == (expected, None)
    assert len(verdict["singles"]) == 4


def test_equal_texts_are_a_tie_about_which_nobody_is_asked() -> None:
    assert call_tie()["verdict"] == 0.5
    assert "singles" not in call_tie()
