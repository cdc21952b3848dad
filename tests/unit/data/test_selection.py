"""Dropping, filtering and flipping rows, with counts and the words for what leaves nothing."""

from typing import Any

import pytest
from rows import make_completion, make_pair, make_row, preferences

from sacpo_exp.config.data import DataSchema, DatasetConfig
from sacpo_exp.data.preferences import Row
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


@pytest.mark.parametrize(
    ("form", "tie", "other"),
    [(PKU, make_row(response_1="zero"), make_row()), (PAIRS, make_pair(rejected="good"), make_pair())],
    ids=["pku", "pairs"],
)
def test_rows_with_two_equal_responses_are_dropped(form: DataSchema, tie: Row, other: Row) -> None:
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
