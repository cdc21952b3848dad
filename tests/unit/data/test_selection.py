"""Counting, dropping, filtering and flipping rows, by hand, and the words for what leaves nothing."""

import json
from typing import Any

import pytest
from rows import HELPFULNESS, SAFETY, make_completion, make_pair, make_row, preferences

from sacpo_exp.config.data import DataSchema, DatasetConfig
from sacpo_exp.data.preferences import Row
from sacpo_exp.data.preparation import describe
from sacpo_exp.data.selection import flip, flip_labels, select_rows
from sacpo_exp.errors import DataError

PKU, PAIRS, UNPAIRED = DataSchema.pku, DataSchema.pairs, DataSchema.unpaired


def select(form: DataSchema, rows: list[Row], **settings: Any) -> tuple[list[Row], dict[str, int]]:
    data, dropped = select_rows(preferences(form, rows), DatasetConfig(name="local", **settings))
    return list(data.rows), dropped


def test_the_first_of_equal_rows_is_kept() -> None:
    swapped = flip(PKU, make_row(response_0="one", response_1="zero"))
    other_label = make_row(better=1)
    rows = [make_row(categories=["a"]), make_row("Ho?"), swapped, other_label, make_row()]
    assert select(PKU, rows, drop_duplicates=True) == ([rows[0], rows[1], other_label], {"drop_duplicates": 2})
    pairs = [make_pair(), make_pair(), make_pair(chosen="bad", rejected="good"), make_pair("Ho?")]
    assert select(PAIRS, pairs, drop_duplicates=True)[0] == [pairs[0], *pairs[2:]]
    completions = [make_completion(), make_completion(label=False), make_completion()]
    assert select(UNPAIRED, completions, drop_duplicates=True)[0] == completions[:2]


def test_rows_with_two_equal_responses_are_dropped() -> None:
    pku, pairs = (make_row(response_1="zero"), make_row()), (make_pair(rejected="good"), make_pair())
    for form, (tie, other) in ((PKU, pku), (PAIRS, pairs)):
        assert select(form, [tie, other, tie], drop_ties=True) == ([other], {"drop_ties": 2})
        with pytest.raises(DataError, match="all 2 have two equal responses"):
            select(form, [tie, tie], drop_ties=True)


def test_rows_of_some_harm_categories_are_kept() -> None:
    rows = [make_row(categories=names) for names in (["Abuse", "Theft"], [], ["Drugs"], ["Theft"])] + [make_row()]
    assert select(PKU, rows, categories=["Theft"]) == ([rows[0], rows[3]], {"categories": 3})
    assert select(PKU, rows, categories=["Drugs", "Abuse"])[0] == [rows[0], rows[2]]
    with pytest.raises(DataError, match="'theft', but the harm categories of the rows are Abuse, Drugs, Theft"):
        select(PKU, rows, categories=["Theft", "theft"])
    with pytest.raises(DataError, match="the rows are none"):
        select(PKU, [make_row()], categories=["Theft"])


ROWS = {
    PKU: [make_row(f"{n}", better=n % 2) for n in range(50)],
    PAIRS: [make_pair(f"{n}") for n in range(50)],
    UNPAIRED: [make_completion(f"{n}", label=n % 3 > 0) for n in range(50)],
}


@pytest.mark.parametrize("form", ROWS)
def test_a_fraction_of_the_labels_is_flipped(form: DataSchema) -> None:
    rows = ROWS[form]
    after, count = flip_labels(form, rows, 0.3, seed=0)
    is_flipped = [before != row for before, row in zip(rows, after, strict=True)]
    assert (count, sum(is_flipped)) == (15, 15)
    assert [flip(form, row) if flipped else row for row, flipped in zip(rows, is_flipped, strict=True)] == after
    assert flip_labels(form, rows, 0.3, seed=0)[0] == after != flip_labels(form, rows, 0.3, seed=1)[0]
    assert flip_labels(form, rows, 0, seed=0) == (rows, 0)
    assert flip_labels(form, flip_labels(form, rows, 1, seed=0)[0], 1, seed=1) == (rows, 50)


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
    data = preferences(PKU, rows)
    for criterion in (HELPFULNESS, SAFETY):
        assert describe(data, criterion)["labels"] == {criterion.name: labels[criterion.name]}
    counts = describe(data, None)
    assert counts == {
        **{"rows": 6, "prompts": 3, "duplicates": 1, "ties": 1, "labels": {}, "better_is_not_safer": 2},
        **{"both_safe": 1, "both_unsafe": 3, "mixed": 2, "categories": {"Theft": 2, "Abuse": 1}},
    }
    assert json.loads(json.dumps(counts)) == counts
    assert list(counts["categories"]) == ["Theft", "Abuse"]


REPEATED = [make_pair(text) for text in ("A?", "B?", "A?")] + [make_pair("A?", rejected="good")]
COMPLETIONS = [make_completion("A?", f"{n}", n < 3) for n in range(5)]


def test_rows_for_one_criterion_are_counted() -> None:
    for form, rows, prompts, repeated, labels in (
        (PAIRS, REPEATED, 2, 1, (4, 4, 1.0)),
        (UNPAIRED, COMPLETIONS, 1, 0, (3, 2, 1.5)),
    ):
        counts = dict(zip(("desirable", "undesirable", "undesirable_weight"), labels, strict=True))
        sizes = {"rows": len(rows), "prompts": prompts, "duplicates": repeated, "ties": repeated}
        assert describe(preferences(form, rows, "safety"), SAFETY) == sizes | {"labels": {"safety": counts}}
