"""Dropping, filtering, flipping and mixing rows, with counts and the words for what leaves nothing."""

from collections import Counter
from typing import Any

import pytest
from rows import make_completion, make_pair, make_row, preferences

from sacpo_exp.config.data import DataSchema, DatasetConfig
from sacpo_exp.data.preferences import Preferences, Row
from sacpo_exp.data.selection import count_parts, flip, flip_labels, mix, select_rows
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


def test_weights_decide_how_many_rows_a_part_gives() -> None:
    assert count_parts([100, 10], [1, 1]) == [10, 10]  # the smaller one decides
    assert count_parts([1000, 1000], [0.7, 0.1]) == [1000, 142]
    assert count_parts([49, 49, 49], [0.1, 0.2, 0.7]) == [7, 14, 49]


def test_a_mixture_takes_no_row_twice_and_is_the_same_each_time() -> None:
    parts = [preferences(PKU, [make_row(f"{name} {n}") for n in range(size)]) for name, size in (("a", 40), ("b", 90))]
    mixture = mix(parts, [1, 2], seed=0)
    prompts = [row["prompt"] for row in mixture.rows]
    assert len(set(prompts)) == 120
    assert Counter(prompt[0] for prompt in prompts) == {"a": 40, "b": 80}
    assert 5 < Counter(prompt[0] for prompt in prompts[:60])["a"] < 35  # shuffled together
    assert mix(parts, [1, 2], seed=0) == mixture != mix(parts, [1, 2], seed=1)


def test_what_can_t_be_mixed_is_refused() -> None:
    pku, pairs = preferences(PKU, [make_row()]), preferences(PAIRS, [make_pair()] * 9, "safety")
    helpful = preferences(PAIRS, [make_pair()], "helpfulness")
    cases: dict[str, tuple[list[Preferences], list[float]]] = {
        "can't combine pku rows and pairs rows for safety": ([pku, pairs], [1, 1]),
        "can't combine pairs rows for safety and pairs rows for helpfulness": ([pairs, helpful], [1, 1]),
        "greater than 0, but one is -1": ([pairs, pairs], [1, -1]),
        "greater than 0, but one is nan": ([pairs, pairs], [1, float("nan")]),
        "takes no row of part 2": ([pairs, pairs], [20, 1]),
    }
    for message, (parts, weights) in cases.items():
        with pytest.raises(DataError, match=message):
            mix(parts, weights, seed=0)
