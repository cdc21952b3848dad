"""Tests of position bias and steadiness, on judges of known character and by hand."""

import math

import numpy as np
import pytest

from sacpo_exp.statistics.agreement import PositionBias, measure_positions
from sacpo_exp.statistics.intervals import Resampling

USUAL = Resampling(rounds=500, confidence=0.95, seed=0)

#: (prompt, shown, verdict, repeat)
Row = tuple[str, int, float, int]


def measure(rows: list[Row]) -> PositionBias:
    prompts, shown, outcomes, repeats = ([row[place] for row in rows] for place in range(4))
    return measure_positions(prompts, prompts, shown, outcomes, repeats, USUAL)


def both_orders(prompt: str, first: float, second: float, repeat: int = 0) -> list[Row]:
    """The policy's verdict shown first, and shown second."""
    return [(prompt, 1, first, repeat), (prompt, -1, second, repeat)]


def test_a_judge_that_sees_only_the_order_flips_always() -> None:
    bias = measure([row for index in range(40) for row in both_orders(f"p{index}", 1, 0)])
    assert (bias.flip_rate.value, bias.first_rate.value, bias.tie_rate.value) == (1, 1, 0)
    assert bias.flip_rate.high == 1 > bias.flip_rate.low > 0.9  # Wilson's: 40 of 40 is not certainty
    assert bias.flip_rate.n == 40


def test_a_judge_that_prefers_the_second_flips_as_often() -> None:
    bias = measure([row for index in range(40) for row in both_orders(f"p{index}", 0, 1)])
    assert (bias.flip_rate.value, bias.first_rate.value) == (1, 0)


def test_a_judge_that_sees_only_the_responses_never_flips() -> None:
    rows = [row for index in range(40) for row in both_orders(f"p{index}", index % 2, index % 2)]
    bias = measure(rows)
    assert (bias.flip_rate.value, bias.half_flip_rate.value) == (0, 0)
    assert (bias.first_rate.value, bias.first_rate.n) == (0.5, 40)
    assert 0.4 < bias.first_rate.low < 0.5 < bias.first_rate.high < 0.6
    assert bias.flip_rate.low == 0 < bias.flip_rate.high < 0.1


def test_a_tie_in_one_order_is_half_a_flip_and_in_both_none() -> None:
    bias = measure(
        both_orders("a", 0.5, 1) + both_orders("b", 0, 0.5) + both_orders("c", 0.5, 0.5) + both_orders("d", 1, 0)
    )
    assert (bias.flip_rate.value, bias.half_flip_rate.value) == (0.25, 0.5)
    assert bias.tie_rate.value == 0.5
    # For the first: a (tie, 0), b (0, tie), c ties, d (1, 1).
    assert bias.first_rate.value == pytest.approx((0.25 + 0.25 + 0.5 + 1) / 4)


def test_repeats_are_paired_with_their_like_and_averaged_per_prompt() -> None:
    rows = both_orders("a", 1, 0, 0) + both_orders("a", 1, 1, 1) + both_orders("b", 0, 0, 0)
    assert measure(rows).flip_rate.value == pytest.approx((0.5 + 0) / 2)


def test_a_pair_with_one_order_missing_counts_for_no_flip() -> None:
    bias = measure([*both_orders("a", 1, 0), ("b", 1, 1.0, 0), ("c", -1, 1.0, 0)])
    assert (bias.flip_rate.value, bias.flip_rate.n) == (1, 1)
    assert bias.first_rate.n == 3


def test_repeat_deviation_by_hand() -> None:
    rows: list[Row] = [
        ("a", 1, 1, 0),
        ("a", 1, 0, 1),
        ("a", -1, 1, 0),
        ("a", -1, 1, 1),
        ("b", 1, 0.5, 0),
        ("b", 1, 1, 1),
    ]
    # Prompt a: √½ in one order and 0 in the other; prompt b: √⅛.
    expected = ((math.sqrt(0.5) + 0) / 2 + math.sqrt(0.125)) / 2
    assert measure(rows).repeat_deviation.value == pytest.approx(expected)
    assert measure(rows).repeat_deviation.n == 2


def test_repeats_that_never_disagree_do_not_make_it_certain_that_they_never_will() -> None:
    bias = measure([(f"p{index}", 1, 1, repeat) for index in range(40) for repeat in (0, 1)])
    assert bias.repeat_deviation.value == bias.repeat_deviation.low == 0 < bias.repeat_deviation.high < 0.1


def test_without_repeats_or_orders_there_is_no_number() -> None:
    once = measure(both_orders("a", 1, 1) + both_orders("b", 0, 0))
    assert math.isnan(once.repeat_deviation.value)
    assert once.repeat_deviation.n == 0
    absolute = measure([("a", 0, 1.0, 0), ("b", 0, 0.5, 0)])
    assert (absolute.flip_rate.n, absolute.first_rate.n) == (0, 0)
    assert math.isnan(absolute.first_rate.value)
    assert absolute.tie_rate.value == 0.5
    assert measure([]).tie_rate.n == 0


def test_matches_on_one_prompt_are_paired_apart_and_drawn_together() -> None:
    prompts, units = ["p", "p", "p", "p"], ["x p", "x p", "y p", "y p"]
    bias = measure_positions(prompts, units, [1, -1, 1, -1], [1, 0, 1, 1], [0, 0, 0, 0], USUAL)
    assert (bias.flip_rate.value, bias.flip_rate.n) == (0.5, 1)


def test_rates_of_a_simulated_judge_are_found() -> None:
    # It follows the order with probability 0.3 and a fair quality otherwise, which the two orders of a prompt share.
    random = np.random.default_rng(0)
    rows = []
    for index in range(2000):
        quality, biased = float(random.random() < 0.5), random.random() < 0.3
        rows += both_orders(f"p{index}", 1 if biased else quality, 0 if biased else quality)
    bias = measure(rows)
    assert bias.flip_rate.low < 0.3 < bias.flip_rate.high
    assert bias.first_rate.low < 0.65 < bias.first_rate.high
