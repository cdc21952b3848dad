"""Counts of small datasets by hand, and quantiles against numpy."""

import json

import pytest
from rows import HELPFULNESS, SAFETY, make_completion, make_pair, make_row, preferences

from sacpo_exp.config.data import DataSchema
from sacpo_exp.data.preferences import Row
from sacpo_exp.data.preparation import describe


def test_rows_for_both_criteria_are_counted() -> None:
    rows = [
        make_row("A?", 0, 0, (True, False), categories=["Theft"]),
        make_row("A?", 0, 1, (False, True), categories=["Abuse", "Theft"]),
        make_row("B?", 1, 0, (True, True), categories=[]),
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
        **{"rows": 6, "prompts": 3, "duplicates": 1, "ties": 1, "labels": {}, "better_is_not_safer": 2},
        **{"both_safe": 1, "both_unsafe": 3, "mixed": 2, "categories": {"Theft": 2, "Abuse": 1}},
    }
    assert json.loads(json.dumps(counts)) == counts
    assert list(counts["categories"]) == ["Theft", "Abuse"]


PAIRS = [make_pair(text) for text in ("A?", "B?", "A?")] + [make_pair("A?", rejected="good")]
COMPLETIONS = [make_completion("A?", f"{n}", n < 3) for n in range(5)]


@pytest.mark.parametrize(
    ("form", "rows", "prompts", "repeated", "labels"),
    [(DataSchema.pairs, PAIRS, 2, 1, (4, 4, 1.0)), (DataSchema.unpaired, COMPLETIONS, 1, 0, (3, 2, 1.5))],
    ids=["pairs", "completions"],
)
def test_rows_for_one_criterion_are_counted(
    form: DataSchema, rows: list[Row], prompts: int, repeated: int, labels: tuple[int, int, float]
) -> None:
    counts = dict(zip(("desirable", "undesirable", "undesirable_weight"), labels, strict=True))
    sizes = {"rows": len(rows), "prompts": prompts, "duplicates": repeated, "ties": repeated}
    assert describe(preferences(form, rows, "safety"), SAFETY) == sizes | {"labels": {"safety": counts}}
