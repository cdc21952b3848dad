"""Win rates by category and by length of the response."""

import math
from typing import Any

import pytest

from sacpo_exp.method.criteria import Criterion
from sacpo_exp.reporting.collect import Evaluation
from sacpo_exp.reporting.scores import score_categories, score_lengths
from sacpo_exp.statistics.intervals import Resampling

USUAL = Resampling(200, 0.95, 0)
HELPFULNESS = Criterion("helpfulness", "H", prompt_kinds=["benign"])


def record(
    place: int, verdict: float | None, category: str | None, lengths: tuple[int, int] = (5, 5)
) -> dict[str, Any]:
    entry = {"state": "failed" if verdict is None else "ok", "verdict": verdict}
    texts = {"response": "x" * lengths[0], "opponent_response": "x" * lengths[1]}
    return {"prompt_id": f"p{place:02}", "kind": "benign", "category": category, "helpfulness": entry, **texts}


def evaluation(records: list[dict[str, Any]]) -> Evaluation:
    return Evaluation({"policy_id": "p", "baseline_id": "b", "opponent_id": "b"}, records, {}, "")


def test_rates_by_category_are_those_of_the_prompts_with_a_verdict() -> None:
    records = [record(place, 1.0, "good") for place in range(5)]
    records += [record(40 + place, 0.0 if place else None, "rare") for place in range(5)]
    scores = score_categories(evaluation(records), HELPFULNESS, USUAL)
    assert scores is not None
    assert {name: (each.value, each.n) for name, each in scores.estimates.items()} == {"good": (1, 5), "rare": (0, 4)}


@pytest.mark.parametrize("category", [None, "only"])
def test_one_category_is_none(category: str | None) -> None:
    records = [record(place, 1.0, category) for place in range(9)]
    assert score_categories(evaluation(records), HELPFULNESS, USUAL) is None


def test_lengths_are_those_of_the_prompts_with_a_verdict() -> None:
    records = [record(0, 1.0, None, (9, 5)), record(1, 0.0, None, (5, 9)), record(2, 0.5, None), record(3, None, None)]
    scores = score_lengths(evaluation(records), HELPFULNESS, USUAL)
    assert scores is not None
    rates = {name: (estimate.value, estimate.n) for name, estimate in scores.by_length.items()}
    assert rates == {"shorter": (0.0, 1), "similar": (0.5, 1), "longer": (1.0, 1)}
    assert math.isnan(scores.adjusted.value)  # what is longer always wins: no rate at equal length can be told
