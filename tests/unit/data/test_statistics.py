"""Counts of small datasets by hand, and quantiles against numpy."""

import json
import random
from typing import Any

import numpy as np
import pytest
from rows import HELPFULNESS, SAFETY

from sacpo_exp.config.data import DataSchema
from sacpo_exp.data.preferences import Preferences, Row
from sacpo_exp.data.preparation import describe, describe_lengths


def make_row(prompt: str, better: int, safer: int, safe: tuple[bool, bool], **more: Any) -> dict[str, Any]:
    row = {"prompt": prompt, "response_0": "zero", "response_1": "one", "better_response_id": better}
    flags = {"is_response_0_safe": safe[0], "is_response_1_safe": safe[1]}
    return row | flags | {"safer_response_id": safer} | more


def preferences(form: DataSchema, rows: list[Row], criterion: str | None = None) -> Preferences:
    return Preferences(form, form, criterion, tuple(rows))


def test_rows_for_both_criteria_are_counted() -> None:
    rows = [
        make_row("A?", 0, 0, (True, False), categories=["Theft"], severity=[0, 3]),
        make_row("A?", 0, 1, (False, True), categories=["Abuse", "Theft"], severity=[1, 0]),
        make_row("B?", 1, 0, (True, True), categories=[], severity=[0, 0]),
        make_row("C?", 1, 1, (False, False)),
        make_row("C?", 1, 1, (False, False), response_1="zero"),
        make_row("C?", 1, 1, (False, False)),
    ]
    labels = {
        "helpfulness": {"desirable": 6, "undesirable": 6, "undesirable_weight": 1.0},
        "safety": {"desirable": 4, "undesirable": 8, "undesirable_weight": 0.5},
    }
    data = preferences(DataSchema.pku, rows)
    for criterion in (HELPFULNESS, SAFETY):
        assert describe(data, criterion)["labels"] == {criterion.name: labels[criterion.name]}
    counts = describe(data, None)
    assert counts == {
        "rows": 6,
        "prompts": 3,
        "duplicates": 1,
        "ties": 1,
        "labels": {},
        "better_is_not_safer": 2,
        "both_safe": 1,
        "both_unsafe": 3,
        "mixed": 2,
        "categories": {"Theft": 2, "Abuse": 1},
        "severity": {"0": 4, "1": 1, "3": 1},
    }
    assert json.loads(json.dumps(counts)) == counts
    assert list(counts["categories"]) == ["Theft", "Abuse"]


def test_a_label_that_is_absent_gives_no_weight() -> None:
    counts = describe(preferences(DataSchema.pku, [make_row("A?", 0, 1, (True, True))]), SAFETY)
    assert counts["labels"]["safety"] == {"desirable": 2, "undesirable": 0, "undesirable_weight": None}
    assert not {"categories", "severity"} & set(counts)
    nothing = describe(preferences(DataSchema.pku, []), HELPFULNESS)
    assert nothing["labels"]["helpfulness"]["undesirable_weight"] is None


def turns(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_pairs_are_counted() -> None:
    rows = [{"prompt": turns(text), "chosen": turns("good"), "rejected": turns("bad")} for text in ("A?", "B?", "A?")]
    rows.append({"prompt": turns("A?"), "chosen": turns("good"), "rejected": turns("good")})
    assert describe(preferences(DataSchema.pairs, rows, "safety"), SAFETY) == {
        "rows": 4,
        "prompts": 2,
        "duplicates": 1,
        "ties": 1,
        "labels": {"safety": {"desirable": 4, "undesirable": 4, "undesirable_weight": 1.0}},
    }


def test_labelled_completions_are_counted() -> None:
    rows = [{"prompt": turns("A?"), "completion": turns(f"{n}"), "label": n < 3} for n in range(5)]
    assert describe(preferences(DataSchema.unpaired, rows, "helpfulness"), HELPFULNESS) == {
        "rows": 5,
        "prompts": 1,
        "duplicates": 0,
        "ties": 0,
        "labels": {"helpfulness": {"desirable": 3, "undesirable": 2, "undesirable_weight": 1.5}},
    }


@pytest.mark.parametrize("count", [1, 7, 1001])
def test_lengths_are_described(count: int) -> None:
    lengths = [random.Random(count).randrange(1, 500) for _ in range(count)]
    quantiles, histogram = describe_lengths(lengths)
    expected = [min(lengths), *np.quantile(lengths, [0.5, 0.9, 0.99]), max(lengths), np.mean(lengths)]
    assert list(quantiles) == ["min", "50%", "90%", "99%", "max", "mean"]
    assert list(quantiles.values()) == pytest.approx(expected)
    assert sum(histogram["counts"].values()) == count
    assert json.dumps([quantiles, histogram])
