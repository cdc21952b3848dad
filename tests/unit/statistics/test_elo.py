"""Tests of online Elo: other people's numbers, arithmetic by hand, and how it hangs on the order."""

import csv

import numpy as np
import pytest
from real_data import find_real

from sacpo_exp.statistics.comparisons import Comparisons, gather_comparisons
from sacpo_exp.statistics.ratings import K_FACTOR, fit_bradley_terry, rate_online, update_in_turn

OUTCOMES = {"left": 1.0, "tie": 0.5, "right": 0.0}


def simulate(seed: int, n: int = 600) -> Comparisons:
    """Three policies with 0, 0.5 and 1 as log odds."""
    random = np.random.default_rng(seed)
    left = random.integers(0, 3, n)
    right = (left + random.integers(1, 3, n)) % 3
    outcome = (random.random(n) < 1 / (1 + np.exp((right - left) / 2))).astype(float)
    return Comparisons(("a", "b", "c"), left, right, outcome, np.zeros(n, np.int8))


def play(comparisons: Comparisons, k_factor: float) -> list[float]:
    """Points after one pass from 1000."""
    points = [1000.0] * len(comparisons.policies)
    update_in_turn(comparisons, points, k_factor)
    return points


@pytest.mark.parametrize("name", ["simple", "food"])
def test_evalica_and_its_golden_values_agree_in_the_order_of_the_file(name: str) -> None:
    import evalica

    folder = find_real("ratings")
    with (folder / f"{name}.csv").open(encoding="utf-8") as file:
        left, right, winner = zip(*((r["left"], r["right"], r["winner"]) for r in csv.DictReader(file)), strict=True)
    with (folder / f"{name}-golden.csv").open(encoding="utf-8") as file:
        golden = {r["item"]: float(r["score"]) for r in csv.DictReader(file) if r["algorithm"] == "elo"}
    comparisons = gather_comparisons(left, right, [OUTCOMES[each] for each in winner], [0] * len(left))
    winners = {"left": evalica.Winner.X, "tie": evalica.Winner.Draw, "right": evalica.Winner.Y}
    theirs = evalica.elo(left, right, [winners[each] for each in winner], initial=1000, k=32).scores
    for policy, points in zip(comparisons.policies, play(comparisons, 4), strict=True):
        assert points == pytest.approx(golden[policy], abs=1e-9)
    for policy, points in zip(comparisons.policies, play(comparisons, K_FACTOR), strict=True):
        assert points == pytest.approx(theirs[policy], abs=1e-9)


def test_one_win_among_equals_by_hand() -> None:
    ratings = rate_online(gather_comparisons(["a"], ["b"], [1], [0]), "b", seed=0, passes=1)
    # The winner goes from 1200 to 1216, the loser to 1184, which the scale puts at 1000.
    assert [(rating.policy, rating.elo) for rating in ratings.rated] == [
        ("a", pytest.approx(1000 * 1216 / 1184)),
        ("b", 1000.0),
    ]
    assert ratings.rated[0].spread == pytest.approx(0, abs=1e-9)
    assert ratings.rated[0].tally.wins == 1


def test_few_verdicts_are_gone_through_often_enough_to_tell_what_they_say() -> None:
    won = [1.0] * 37 + [0.0] * 13  # log odds of 182 points
    comparisons = gather_comparisons(["a"] * 50, ["b"] * 50, won, [0] * 50)
    (best, _) = rate_online(comparisons, "b", seed=0).rated
    (once, _) = rate_online(comparisons, "b", seed=0, trials=1, passes=1).rated
    # 1200 ± 91 on the paper's scale, where one goes with the other: 1000 · 1291/1109.
    assert best.elo == pytest.approx(1000 * 1291 / 1109, abs=15)
    assert abs(once.elo - 1164) > 10
    assert 20 < best.spread < 80
    repeated = [rate_online(comparisons, "b", seed=seed).rated[0].elo for seed in range(5)]
    assert max(repeated) - min(repeated) < best.spread


def test_the_baseline_stands_at_1000_whatever_the_seed() -> None:
    for seed in range(3):
        ratings = rate_online(simulate(0), "b", seed=seed, trials=3, passes=2)
        baseline = next(rating for rating in ratings.rated if rating.policy == "b")
        assert (baseline.elo, baseline.spread) == (1000, 0)


def test_it_hangs_on_the_order_of_the_verdicts_and_bradley_terry_does_not() -> None:
    comparisons = simulate(1)
    shuffled = comparisons.select(np.random.default_rng(2).permutation(len(comparisons)))
    assert play(comparisons, K_FACTOR) != pytest.approx(play(shuffled, K_FACTOR), abs=5)
    fits = [fit_bradley_terry(each, "a", has_order_effect=False, confidence=0.95) for each in (comparisons, shuffled)]
    values = [[(rating.policy, rating.elo.value) for rating in fit.rated] for fit in fits]
    assert [name for name, _ in values[0]] == [name for name, _ in values[1]]
    assert [value for _, value in values[0]] == pytest.approx([value for _, value in values[1]], abs=1e-6)


def test_the_seed_decides_the_sequence() -> None:
    first, again, other = (
        [rating.elo for rating in rate_online(simulate(3), "a", seed=seed, trials=2).rated] for seed in (1, 1, 2)
    )
    assert first == again != other


def test_the_mean_over_many_sequences_comes_near_bradley_terry() -> None:
    comparisons = simulate(4, 3000)
    averaged = rate_online(comparisons, "a", seed=0, trials=40, passes=1, k_factor=8)
    online = {rating.policy: rating for rating in averaged.rated}
    fit = fit_bradley_terry(comparisons, "a", has_order_effect=False, confidence=0.95)
    # All points stay 3 · 1200, so the scale tells what the baseline had before.
    before = 3600 / sum(online[rating.policy].elo for rating in fit.rated)
    for rating in fit.rated[:2]:
        assert before * (online[rating.policy].elo - 1000) == pytest.approx(rating.elo.value - 1000, abs=15)
        assert 5 < online[rating.policy].spread < 60


def test_unconnected_policies_are_named_without_a_number() -> None:
    ratings = rate_online(gather_comparisons(["a", "x"], ["b", "y"], [1, 1], [0, 0]), "a", seed=0)
    assert [rating.policy for rating in ratings.rated] == ["a", "b"]
    assert ratings.unrated == dict.fromkeys(("x", "y"), "no chain of comparisons leads to the baseline")
    with pytest.raises(ValueError, match="none of"):
        rate_online(simulate(0), "sft", seed=0)
