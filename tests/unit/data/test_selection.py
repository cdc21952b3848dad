"""Dropping, filtering, flipping and mixing rows, with counts and the words for what leaves nothing."""

from collections import Counter
from typing import Any

import pytest
from rows import HELPFULNESS, SAFETY

from sacpo_exp.config.data import DataSchema, DatasetConfig
from sacpo_exp.data.preferences import Preferences, Row, make_view, unpaired_view
from sacpo_exp.data.selection import (
    Selection,
    count_parts,
    drop_duplicates,
    drop_ties,
    flip,
    flip_labels,
    keep_categories,
    mix,
    select_rows,
)
from sacpo_exp.errors import DataError
from sacpo_exp.method.criteria import Criterion
from sacpo_exp.method.losses import View

PKU, PAIRS, UNPAIRED = DataSchema.pku, DataSchema.pairs, DataSchema.unpaired


def make_row(prompt: str = "Hi?", first: str = "zero", second: str = "one", better: int = 0, **more: Any) -> Row:
    row = {"prompt": prompt, "response_0": first, "response_1": second, "better_response_id": better}
    return row | {"is_response_0_safe": False, "is_response_1_safe": True, "safer_response_id": 1} | more


def turns(text: str, role: str = "user") -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


def make_pair(prompt: str = "Hi?", chosen: str = "good", rejected: str = "bad") -> Row:
    said = {"chosen": turns(chosen, "assistant"), "rejected": turns(rejected, "assistant")}
    return {"prompt": turns(prompt)} | said


def make_completion(prompt: str = "Hi?", text: str = "good", label: bool = True) -> Row:
    return {"prompt": turns(prompt), "completion": turns(text, "assistant"), "label": label}


def preferences(form: DataSchema, rows: list[Row], criterion: str | None = None) -> Preferences:
    return Preferences(form, form, criterion, tuple(rows))


def test_the_first_of_equal_rows_is_kept() -> None:
    turned = make_row(first="one", second="zero", better=1)
    turned |= {"is_response_0_safe": True, "is_response_1_safe": False, "safer_response_id": 0}
    other_label = make_row(better=1)
    rows = [make_row(categories=["a"]), make_row("Ho?"), turned, other_label, make_row()]
    assert drop_duplicates(PKU, rows) == Selection([rows[0], rows[1], other_label], 2)
    pairs = [make_pair(), make_pair(), make_pair(chosen="bad", rejected="good"), make_pair("Ho?")]
    assert drop_duplicates(PAIRS, pairs) == Selection([pairs[0], *pairs[2:]], 1)
    completions = [make_completion(), make_completion(label=False), make_completion()]
    assert drop_duplicates(UNPAIRED, completions) == Selection(completions[:2], 1)


@pytest.mark.parametrize(
    ("form", "tie", "other"),
    [(PKU, make_row(second="zero"), make_row()), (PAIRS, make_pair(rejected="good"), make_pair())],
    ids=["pku", "pairs"],
)
def test_rows_with_two_equal_responses_are_dropped(form: DataSchema, tie: Row, other: Row) -> None:
    assert drop_ties(form, [tie, other, tie]) == Selection([other], 2)
    with pytest.raises(DataError) as caught:
        drop_ties(form, [tie, tie])
    assert str(caught.value) == "`dataset.drop_ties=true` leaves no rows: all 2 have two equal responses."


def test_single_completions_are_no_ties() -> None:
    assert drop_ties(UNPAIRED, [make_completion()] * 2) == Selection([make_completion()] * 2, 0)


def test_rows_of_some_harm_categories_are_kept() -> None:
    rows = [make_row(categories=names) for names in (["Abuse", "Theft"], [], ["Drugs"], ["Theft"])] + [make_row()]
    assert keep_categories(rows, ["Theft"]) == Selection([rows[0], rows[3]], 3)
    assert keep_categories(rows, ["Drugs", "Abuse"]) == Selection([rows[0], rows[2]], 3)
    with pytest.raises(DataError) as caught:
        keep_categories(rows, ["Theft", "theft"])
    assert str(caught.value) == "`dataset.categories` has 'theft', but the rows have Abuse, Drugs, Theft."
    with pytest.raises(DataError) as caught:
        keep_categories([make_row()], ["Theft"])
    assert str(caught.value) == "`dataset.categories` needs rows with harm categories, but these have none."


def test_what_every_option_dropped_is_counted() -> None:
    rows = [make_row(categories=["a"]), make_row(), make_row("Ho?", second="zero", categories=["a"]), make_row("Ha?")]
    chosen = {"drop_duplicates": True, "drop_ties": True, "categories": ["a"]}
    data = preferences(PKU, rows)
    assert select_rows(data, DatasetConfig(name="local")) == (data, {})
    assert (
        select_rows(data, DatasetConfig(name="local", **chosen))
        == (  # type: ignore[arg-type]
            preferences(PKU, rows[:1]),
            {"drop_duplicates": 1, "drop_ties": 1, "categories": 1},
        )
    )


ROWS = {
    PKU: [make_row(f"{n}", better=n % 2, severity=[3, n % 2]) for n in range(50)],
    PAIRS: [make_pair(f"{n}") for n in range(50)],
    UNPAIRED: [make_completion(f"{n}", label=n % 3 > 0) for n in range(50)],
}


@pytest.mark.parametrize("form", ROWS)
def test_a_fraction_of_the_labels_is_turned_around(form: DataSchema) -> None:
    rows = ROWS[form]
    selection = flip_labels(form, rows, 0.3, seed=0)
    turned = [before != after for before, after in zip(rows, selection.rows, strict=True)]
    assert (selection.count, sum(turned)) == (15, 15)
    assert [flip(form, row) if is_turned else row for row, is_turned in zip(rows, turned, strict=True)] == (
        selection.rows
    )
    assert flip_labels(form, rows, 0.3, seed=0) == selection != flip_labels(form, rows, 0.3, seed=1)
    assert flip_labels(form, rows, 0, seed=0) == Selection(rows, 0)
    assert flip_labels(form, flip_labels(form, rows, 1, seed=0).rows, 1, seed=1) == Selection(rows, 50)


@pytest.mark.parametrize("criterion", [HELPFULNESS, SAFETY], ids=lambda criterion: criterion.name)
def test_a_flipped_row_has_its_pairs_and_labels_the_other_way_round(criterion: Criterion) -> None:
    row, flipped = make_row(), flip(PKU, make_row())
    (pair,), (other,) = (make_view(preferences(PKU, [each]), View.pairs, criterion) for each in (row, flipped))
    assert (pair["chosen"], pair["rejected"]) == (other["rejected"], other["chosen"])
    labels = [[entry["label"] for entry in unpaired_view([each], criterion)] for each in (row, flipped)]
    assert labels[0] == [not label for label in labels[1]]


def test_flipping_leaves_the_given_rows_alone() -> None:
    row = make_row(severity=[1, 2])
    assert flip(PKU, row) == {
        "prompt": "Hi?",
        "response_0": "zero",
        "response_1": "one",
        "better_response_id": 1,
        "safer_response_id": 0,
        "is_response_0_safe": True,
        "is_response_1_safe": False,
        "severity": [2, 1],
    }
    assert row == make_row(severity=[1, 2])


SHARES = {
    "equal": ([100, 100], [1, 1], [100, 100]),
    "the smaller one decides": ([100, 10], [1, 1], [10, 10]),
    "three to one": ([90, 100], [3, 1], [90, 30]),
    "fractions": ([1000, 1000], [0.7, 0.1], [1000, 142]),
    "thirds": ([49, 49, 49], [0.1, 0.2, 0.7], [7, 14, 49]),
    "one part": ([7], [0.3], [7]),
}


@pytest.mark.parametrize(("sizes", "weights", "counts"), SHARES.values(), ids=list(SHARES))
def test_the_weights_decide_how_many_rows_a_part_gives(
    sizes: list[int], weights: list[float], counts: list[int]
) -> None:
    assert count_parts(sizes, weights) == counts


def test_a_mixture_takes_no_row_twice_and_is_the_same_each_time() -> None:
    parts = [preferences(PKU, [make_row(f"{name} {n}") for n in range(size)]) for name, size in (("a", 40), ("b", 90))]
    mixture = mix(parts, [1, 2], seed=0)
    assert mixture.taken == [40, 80]
    prompts = [row["prompt"] for row in mixture.preferences.rows]
    assert len(set(prompts)) == 120
    assert Counter(prompt[0] for prompt in prompts) == {"a": 40, "b": 80}
    assert 5 < Counter(prompt[0] for prompt in prompts[:60])["a"] < 35  # shuffled together
    assert mix(parts, [1, 2], seed=0) == mixture != mix(parts, [1, 2], seed=1)


def test_what_can_t_be_mixed_is_told() -> None:
    pku, pairs = preferences(PKU, [make_row()]), preferences(PAIRS, [make_pair()] * 9, "safety")
    helpful = preferences(PAIRS, [make_pair()], "helpfulness")
    complaints = {
        "`dataset.mix` can't put together pku rows and pairs rows for safety.": ([pku, pairs], [1, 1]),
        "`dataset.mix` can't put together pairs rows for safety and pairs rows for helpfulness.": (
            [pairs, helpful],
            [1, 1],
        ),
        "weights of `dataset.mix` must be greater than 0, but one is -1.": ([pairs, pairs], [1, -1]),
        "weights of `dataset.mix` must be greater than 0, but one is nan.": ([pairs, pairs], [1, float("nan")]),
        "`dataset.mix` leaves nothing of its part 2: with weights 20, 1 and 9, 9 rows it would give 0.": (
            [pairs, pairs],
            [20, 1],
        ),
    }
    for sentence, (parts, weights) in complaints.items():
        with pytest.raises(DataError) as caught:
            mix(parts, weights, seed=0)
        assert str(caught.value) == sentence
