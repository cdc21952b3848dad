"""Tests of the columns of comparisons: names to numbers, counting, what is refused."""

import numpy as np
import pytest

from sacpo_exp.statistics.comparisons import Comparisons, Tally, count_outcomes, gather_comparisons


def build(left: list[int], right: list[int], outcome: list[float], shown: list[int]) -> Comparisons:
    columns = (np.array(left), np.array(right), np.array(outcome), np.array(shown, dtype=np.int8))
    return Comparisons(("a", "b", "c"), *columns)


def test_names_become_positions_and_prompts_numbers() -> None:
    comparisons = gather_comparisons(
        ["sft", "dpo", "sft"], ["dpo", "kto", "kto"], [1, 0.5, 0], [1, -1, 0], ["p9", "p1", "p9"]
    )
    assert comparisons.policies == ("dpo", "kto", "sft")
    assert [comparisons.policies[index] for index in comparisons.left] == ["sft", "dpo", "sft"]
    assert [comparisons.policies[index] for index in comparisons.right] == ["dpo", "kto", "kto"]
    assert comparisons.prompt is not None
    assert comparisons.prompt.tolist() == [1, 0, 1]
    assert len(comparisons) == 3


def test_nothing_gathered_is_nothing() -> None:
    comparisons = gather_comparisons([], [], [], [])
    assert len(comparisons) == 0
    assert comparisons.policies == ()
    assert count_outcomes(comparisons) == ()


def test_wins_ties_and_losses_are_counted_on_both_sides() -> None:
    comparisons = build([0, 0, 1, 1], [1, 1, 0, 2], [1, 0.5, 0, 0], [1, -1, 1, 1])
    assert count_outcomes(comparisons) == (Tally(3, 2, 1, 0), Tally(4, 0, 1, 3), Tally(1, 1, 0, 0))


def test_a_selection_keeps_policies_and_takes_rows_in_order() -> None:
    comparisons = gather_comparisons(["a", "b", "a"], ["b", "c", "c"], [1, 0.5, 0], [1, -1, 0], ["p", "q", "r"])
    turned = comparisons.select(np.array([2, 0]))
    assert turned.policies == comparisons.policies
    assert turned.outcome.tolist() == [0, 1]
    assert turned.shown.tolist() == [0, 1]
    assert turned.prompt is not None
    assert turned.prompt.tolist() == [2, 0]
    assert comparisons.select(comparisons.outcome == 1).left.tolist() == [0]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (([0, 1], [1], [1], [1]), "same length"),
        (([0], [3], [1], [1]), r"\[0, 3\), but are 0 to 3"),
        (([-1], [1], [1], [1]), "but are -1 to 1"),
        (([1], [1], [1], [1]), "with itself"),
        (([0], [1], [0.7], [1]), "`outcome`"),
        (([0], [1], [1], [2]), "`shown`"),
    ],
)
def test_columns_that_cannot_be_are_refused(columns: tuple[list[int], ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(*columns)
