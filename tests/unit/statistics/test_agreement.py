"""Tests of agreement: by hand, scikit-learn, people's and GPT-4's labels on XSTest, bootstrap."""

import csv
import math
from dataclasses import replace

import numpy as np
import pytest
from real_data import find_real

from sacpo_exp.statistics import Interval
from sacpo_exp.statistics.agreement import measure_agreement
from sacpo_exp.statistics.intervals import Estimate, Resampling, wilson

USUAL = Resampling(rounds=1000, confidence=0.95, seed=0)


def test_kappa_by_hand() -> None:
    # Cohen's arithmetic on 20 + 5 + 10 + 15: observed 0.7, by chance 0.5·0.6 + 0.5·0.4 = 0.5.
    ours = ["yes"] * 25 + ["no"] * 25
    theirs = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    agreement = measure_agreement(ours, theirs, USUAL)
    assert agreement.kappa.value == pytest.approx(0.4)
    assert agreement.rate == wilson(35, 50, 0.95)
    # Fleiss, Cohen & Everitt 1969: its error in large samples is 0.127 here.
    assert (agreement.kappa.high - agreement.kappa.low) / (2 * 1.96) == pytest.approx(0.127, rel=0.1)


def test_perfect_chance_and_opposite_agreement() -> None:
    assert measure_agreement([1, 2, 3], [1, 2, 3], USUAL).kappa.value == 1
    assert measure_agreement([0, 0, 1, 1], [0, 1, 0, 1], USUAL).kappa.value == 0
    assert measure_agreement([0, 1], [1, 0], USUAL).kappa.value == -1


def test_one_label_only_leaves_kappa_undefined() -> None:
    agreement = measure_agreement(["a"] * 9, ["a"] * 9, USUAL)
    assert agreement.rate.value == 1
    assert all(math.isnan(number) for number in (agreement.kappa.value, agreement.kappa.low, agreement.kappa.high))
    assert agreement.kappa.n == 9


def test_nothing_has_no_agreement() -> None:
    agreement = measure_agreement([], [], USUAL)
    assert (agreement.rate.n, agreement.kappa.n) == (0, 0)
    assert math.isnan(agreement.kappa.value)
    with pytest.raises(ValueError, match="3 and 2"):
        measure_agreement([1, 2, 3], [1, 2], USUAL)


def test_labels_of_any_kind_and_of_one_side_only_are_counted() -> None:
    agreement = measure_agreement([True, None, (1, 2)], [True, "x", (1, 2)], USUAL)
    assert agreement.rate.value == pytest.approx(2 / 3)


@pytest.mark.parametrize("method", Interval)
def test_kappa_interval_covers(method: Interval) -> None:
    # Two raters that see the truth, a fair coin, with probability 0.8 and guess otherwise: κ is 0.8² = 0.64.
    random, covered, settings = np.random.default_rng(0), 0, Resampling(300, 0.9, 0, method)
    for _ in range(300):
        truth, *guesses = random.integers(0, 2, (3, 100))
        ours, theirs = (np.where(random.random(100) < 0.8, truth, guess).tolist() for guess in guesses)
        kappa = measure_agreement(ours, theirs, settings).kappa
        covered += kappa.low <= 0.64 <= kappa.high
    # Three standard errors of the share itself, sqrt(0.9 · 0.1 / 300) = 0.017, around 0.9.
    assert 0.845 <= covered / 300 <= 0.955


@pytest.mark.parametrize("items", [2, 3, 5])
def test_few_items_give_an_interval_around_a_kappa_or_none(items: int) -> None:
    for method in Interval:
        kappa = measure_agreement(
            ["a", "b", "a", "b", "a"][:items], ["a", "b", "b", "b", "a"][:items], replace(USUAL, method=method)
        ).kappa
        assert -1 <= kappa.low <= kappa.high <= 1


@pytest.mark.parametrize("name", ["gpt4", "llama2orig"])
def test_labels_of_people_and_gpt4_on_xstest_agree_as_scikit_learn_says(name: str) -> None:
    from sklearn.metrics import cohen_kappa_score

    path = find_real(f"prompts/xstest/xstest_v2_completions_{name}_gpteval.csv")
    with path.open(encoding="utf-8") as file:
        rows = [(row["final_label"], row["gpt4_label"]) for row in csv.DictReader(file)]
    people, model = zip(*rows, strict=True)
    agreement = measure_agreement(people, model, USUAL)
    assert agreement.kappa.value == pytest.approx(cohen_kappa_score(people, model), abs=1e-12)
    assert agreement.kappa.low < agreement.kappa.value < agreement.kappa.high
    assert agreement.rate.value == pytest.approx(np.mean([ours == theirs for ours, theirs in rows]))
    assert isinstance(agreement.rate, Estimate)
