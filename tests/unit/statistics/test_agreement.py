"""Tests of agreement with people, and of position bias and steadiness: by hand, scikit-learn, judges of known kinds."""

import math

import pytest

from sacpo_exp.statistics.agreement import PositionBias, measure_positions
from sacpo_exp.statistics.intervals import Resampling

USUAL = Resampling(rounds=500, confidence=0.95, seed=0)

#: (prompt, shown, verdict, repeat)
Row = tuple[str, int, float, int]


def measure(rows: list[Row]) -> PositionBias:
    return measure_positions([(row[0], *row) for row in rows], USUAL)


def both_orders(prompt: str, first: float, second: float, repeat: int = 0) -> list[Row]:
    """The policy's verdict shown first, and shown second."""
    return [(prompt, 1, first, repeat), (prompt, -1, second, repeat)]


def test_flips_and_first_rate_of_known_judges() -> None:
    for verdicts, flips, first_rate in (
        ([(1, 0)] * 40, 1, 1),  # the first is always preferred
        ([(0, 1)] * 40, 1, 0),
        ([(0, 0), (1, 1)] * 20, 0, 0.5),  # only the responses count
    ):
        bias = measure([row for index, each in enumerate(verdicts) for row in both_orders(f"p{index}", *each)])
        assert (bias.flip_rate.value, bias.first_rate.value, bias.tie_rate.value) == (flips, first_rate, 0)
        assert (bias.flip_rate.n, bias.first_rate.n, bias.half_flip_rate.value) == (40, 40, 0)
        # Wilson's: 40 of 40 is not certainty.
        assert (bias.flip_rate.low > 0.9) if flips else (0 < bias.flip_rate.high < 0.1)


def test_a_tie_in_one_order_is_half_a_flip_and_in_both_none() -> None:
    rows = both_orders("a", 0.5, 1) + both_orders("b", 0, 0.5) + both_orders("c", 0.5, 0.5) + both_orders("d", 1, 0)
    bias = measure(rows)
    assert (bias.flip_rate.value, bias.half_flip_rate.value, bias.tie_rate.value) == (0.25, 0.5, 0.5)
    # For the first: a (tie, 0), b (0, tie), c ties, d (1, 1).
    assert bias.first_rate.value == pytest.approx((0.25 + 0.25 + 0.5 + 1) / 4)


def test_pairs_are_of_one_match_and_repeat_and_are_averaged_per_prompt() -> None:
    rows = both_orders("a", 1, 0, 0) + both_orders("a", 1, 1, 1) + both_orders("b", 0, 0, 0)
    assert measure(rows).flip_rate.value == pytest.approx((0.5 + 0) / 2)
    lonely = measure([*both_orders("a", 1, 0), ("b", 1, 1.0, 0), ("c", -1, 1.0, 0)])
    assert (lonely.flip_rate.value, lonely.flip_rate.n, lonely.first_rate.n) == (1, 1, 3)
    verdicts = [("p", "x p", 1, 1.0, 0), ("p", "x p", -1, 0.0, 0), ("p", "y p", 1, 1.0, 0), ("p", "y p", -1, 1.0, 0)]
    matches = measure_positions(verdicts, USUAL)
    assert (matches.flip_rate.value, matches.flip_rate.n) == (0.5, 1)


def test_repeat_deviation_by_hand_and_without_repeats_or_orders_no_number() -> None:
    rows: list[Row] = [("a", 1, 1, 0), ("a", 1, 0, 1), ("a", -1, 1, 0), ("a", -1, 1, 1)]
    rows += [("b", 1, 0.5, 0), ("b", 1, 1, 1)]
    # Prompt a: √½ in one order and 0 in the other; prompt b: √⅛.
    expected = ((math.sqrt(0.5) + 0) / 2 + math.sqrt(0.125)) / 2
    assert measure(rows).repeat_deviation.value == pytest.approx(expected)
    assert measure(rows).repeat_deviation.n == 2
    steady = measure([(f"p{index}", 1, 1, repeat) for index in range(40) for repeat in (0, 1)]).repeat_deviation
    assert steady.value == steady.low == 0 < steady.high < 0.1  # equal so far, not certain to stay so
    assert math.isnan(measure(both_orders("a", 1, 1) + both_orders("b", 0, 0)).repeat_deviation.value)
    absolute = measure([("a", 0, 1.0, 0), ("b", 0, 0.5, 0)])
    assert (absolute.flip_rate.n, absolute.first_rate.n) == (0, 0)
    assert math.isnan(absolute.first_rate.value)
    assert absolute.tie_rate.value == 0.5
    assert measure([]).tie_rate.n == 0
