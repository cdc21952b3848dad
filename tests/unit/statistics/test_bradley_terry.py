"""Tests of Bradley–Terry: published and other people's fits, likelihood equations, errors, coverage, edge cases."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from real_data import find_real

from sacpo_exp.statistics.comparisons import Comparisons, gather_comparisons
from sacpo_exp.statistics.ratings import Ratings, fit_bradley_terry

OUTCOMES = {"left": 1.0, "tie": 0.5, "right": 0.0}


def find_data() -> Path:
    return find_real("ratings")


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def expand(counts: list[tuple[str, str, int, int]]) -> Comparisons:
    """(left, right, wins of left, wins of right) to single verdicts, the left one always shown first."""
    rows = [
        (a, b, outcome) for a, b, *wins in counts for outcome, n in zip((1, 0), wins, strict=True) for _ in range(n)
    ]
    left, right, outcome = zip(*rows, strict=True)
    return gather_comparisons(left, right, outcome, [1] * len(rows))


def fit(comparisons: Comparisons, baseline: str, has_order_effect: bool = False) -> Ratings:
    return fit_bradley_terry(comparisons, baseline, has_order_effect=has_order_effect, confidence=0.95)


def coefficients(ratings: Ratings) -> dict[str, float]:
    return {rating.policy: rating.coefficient.value for rating in ratings.rated}


def read_baseball() -> tuple[Comparisons, dict[str, Any]]:
    folder = find_data()
    rows = read_rows(folder / "baseball.csv")
    games = [(row["home.team"], row["away.team"], int(row["home.wins"]), int(row["away.wins"])) for row in rows]
    return expand(games), json.loads((folder / "bradley_terry_published.json").read_text("utf-8"))


@pytest.mark.parametrize("has_order_effect", [False, True])
def test_baseball_coefficients_and_errors_are_the_published_ones(has_order_effect: bool) -> None:
    comparisons, publications = read_baseball()
    published = publications["baseball_with_order_effect" if has_order_effect else "baseball_no_order_effect"]
    ratings = fit(comparisons, published["reference"], has_order_effect)
    fitted = {rating.policy: rating.coefficient for rating in ratings.rated if rating.policy != "Baltimore"}
    if has_order_effect:
        assert ratings.order_effect is not None
        fitted["at.home"] = ratings.order_effect
    assert {name: round(each.value, 4) for name, each in fitted.items()} == published["coef"]
    assert {name: round(each.plain_error, 4) for name, each in fitted.items()} == published["se"]


def test_citations_coefficients_are_the_published_ones() -> None:
    published = json.loads((find_data() / "bradley_terry_published.json").read_text("utf-8"))["citations"]
    fitted = coefficients(fit(expand(published["pairs"]), published["reference"]))
    assert fitted.pop("Biometrika") == 0
    assert {name: round(value, 4) for name, value in fitted.items()} == published["coef"]


def read_matches(name: str) -> tuple[Comparisons, list[dict[str, str]]]:
    rows = read_rows(find_data() / f"{name}.csv")
    outcomes = [OUTCOMES[row["winner"]] for row in rows]
    return gather_comparisons([r["left"] for r in rows], [r["right"] for r in rows], outcomes, [0] * len(rows)), rows


@pytest.mark.parametrize("name", ["simple", "food"])
def test_evalica_and_its_golden_values_agree_ties_as_half(name: str) -> None:
    import evalica

    comparisons, rows = read_matches(name)
    golden = {r["item"]: float(r["score"]) for r in read_rows(find_data() / f"{name}-golden.csv")
              if r["algorithm"] == "bradley_terry"}  # fmt: skip
    winners = [
        {"left": evalica.Winner.X, "tie": evalica.Winner.Draw, "right": evalica.Winner.Y}[r["winner"]] for r in rows
    ]
    theirs = evalica.bradley_terry(
        [r["left"] for r in rows], [r["right"] for r in rows], winners, tie_weight=0.5
    ).scores
    baseline = comparisons.policies[0]
    for policy, value in coefficients(fit(comparisons, baseline)).items():
        assert value == pytest.approx(math.log(golden[policy] / golden[baseline]), abs=1e-6)
        assert value == pytest.approx(math.log(theirs[policy] / theirs[baseline]), abs=1e-4)  # its tolerance is 1e-6


@pytest.mark.parametrize("solver", ["ilsr_pairwise", "opt_pairwise"])
def test_choix_agrees_where_there_are_no_ties(solver: str) -> None:
    import choix

    comparisons, _ = read_matches("food")
    decided = comparisons.select(comparisons.outcome != 0.5)
    won = [
        (int(a), int(b)) if x else (int(b), int(a))
        for a, b, x in zip(decided.left, decided.right, decided.outcome, strict=True)
    ]
    theirs = getattr(choix, solver)(len(decided.policies), won, alpha=0)
    fitted = coefficients(fit(decided, decided.policies[0]))
    assert fitted.keys() == set(decided.policies)
    for index, policy in enumerate(decided.policies):
        assert fitted[policy] == pytest.approx(theirs[index] - theirs[0], abs=1e-5)


def simulate(
    seed: int, n_prompts: int, strengths: list[float], shared: float = 0.0, order: float = 0.0, repeats: int = 2
) -> Comparisons:
    """All pairs on all prompts in both orders; the share `shared` of a prompt's verdicts is decided by one draw."""
    random = np.random.default_rng(seed)
    pairs = [(a, b) for a in range(len(strengths)) for b in range(a)]
    grid = np.array([(p, a, b, s) for p in range(n_prompts) for a, b in pairs for s in (1, -1) for _ in range(repeats)])
    prompt, left, right, shown = grid.T
    chance = 1 / (1 + np.exp(-(np.take(strengths, left) - np.take(strengths, right) + order * shown)))
    own, common = random.random(len(grid)), random.random(n_prompts)[prompt]
    draw = np.where(random.random(len(grid)) < shared, common, own)
    names = tuple("abcdefgh"[: len(strengths)])
    return Comparisons(names, left, right, (draw < chance).astype(float), shown.astype(np.int8), prompt)


@pytest.mark.parametrize("has_order_effect", [False, True])
def test_both_errors_are_those_of_statsmodels_on_the_single_verdicts(has_order_effect: bool) -> None:
    import statsmodels.api as sm

    comparisons = simulate(0, 12, [0.0, 0.4, -0.3], shared=0.5, order=0.3)
    design = np.zeros((len(comparisons), 3))
    design[np.arange(len(comparisons)), comparisons.left] += 1
    design[np.arange(len(comparisons)), comparisons.right] -= 1
    columns = [design[:, 1], design[:, 2]] + [comparisons.shown] * has_order_effect
    model = sm.GLM(comparisons.outcome, np.column_stack(columns), family=sm.families.Binomial())
    plain, clustered = model.fit(), model.fit(cov_type="cluster", cov_kwds={"groups": comparisons.prompt})
    ratings = fit(comparisons, "a", has_order_effect)
    by_policy = {rating.policy: rating.coefficient for rating in ratings.rated}
    ours = [by_policy["b"], by_policy["c"]] + ([ratings.order_effect] if ratings.order_effect else [])
    assert [each.value for each in ours] == pytest.approx(list(plain.params), abs=1e-8)
    assert [each.plain_error for each in ours] == pytest.approx(list(plain.bse), rel=1e-6)
    assert [each.clustered_error for each in ours] == pytest.approx(list(clustered.bse), rel=1e-6)


def errors_of(comparisons: Comparisons) -> tuple[float, float]:
    coefficient = next(rating.coefficient for rating in fit(comparisons, "a").rated if rating.policy == "b")
    return coefficient.plain_error, coefficient.clustered_error


def test_clustered_errors_grow_with_what_verdicts_of_a_prompt_share() -> None:
    plain, clustered = errors_of(simulate(1, 300, [0.0, 0.5], shared=1.0, repeats=4))
    assert clustered == pytest.approx(plain * math.sqrt(8), rel=0.01)  # eight equal verdicts are worth one
    plain, clustered = errors_of(simulate(1, 300, [0.0, 0.5], shared=0.0, repeats=4))
    assert clustered == pytest.approx(plain, rel=0.1)


def test_intervals_cover_where_verdicts_of_a_prompt_hang_together() -> None:
    truth, rounds, covered, plainly = 0.5 * 400 / math.log(10), 300, 0, 0
    for seed in range(rounds):
        ratings = fit_bradley_terry(
            simulate(seed, 30, [0.0, 0.5, -0.5], shared=0.6), "a", has_order_effect=False, confidence=0.9
        )
        rating = next(each for each in ratings.rated if each.policy == "b")
        covered += rating.elo.low <= 1000 + truth <= rating.elo.high
        plainly += abs(rating.coefficient.value - 0.5) <= 1.645 * rating.coefficient.plain_error
    # Three standard errors of the share itself, sqrt(0.9 · 0.1 / 300) = 0.017, around 0.9.
    assert 0.848 <= covered / rounds <= 0.952
    assert plainly / rounds < 0.8


def test_the_order_effect_is_found_and_does_not_move_the_ratings() -> None:
    ratings = fit(simulate(3, 400, [0.0, 0.6, -0.6], order=0.8), "a", has_order_effect=True)
    assert ratings.order_effect is not None
    assert ratings.order_effect.value == pytest.approx(0.8, abs=4 * ratings.order_effect.plain_error)
    for policy, strength in (("b", 0.6), ("c", -0.6)):
        coefficient = next(each.coefficient for each in ratings.rated if each.policy == policy)
        assert coefficient.value == pytest.approx(strength, abs=4 * coefficient.clustered_error)


def test_a_judge_that_always_takes_the_first_rates_all_alike() -> None:
    sides, turned = ["a", "a", "b"] * 10, ["b", "c", "c"] * 10
    prompts = [f"p{index // 3}" for index in range(30)]
    ratings = fit(
        gather_comparisons(sides + sides, turned + turned, [1] * 30 + [0] * 30, [1] * 30 + [-1] * 30, prompts * 2),
        "b",
        has_order_effect=True,
    )
    assert ratings.order_effect is None
    assert ratings.note is not None
    assert "too closely" in ratings.note
    assert [rating.elo.value for rating in ratings.rated] == pytest.approx([1000] * 3)
    assert [rating.elo.high - rating.elo.low for rating in ratings.rated] == pytest.approx([0] * 3, abs=1e-6)


@pytest.mark.parametrize(
    ("shown", "reason"), [([0, 0, 0, 0], "says which response was shown"), ([1, 1, 1, 1], "the same order")]
)
def test_an_order_effect_that_cannot_be_told_is_left_out_with_a_note(shown: list[int], reason: str) -> None:
    comparisons = gather_comparisons(["a"] * 4, ["b"] * 4, [1, 1, 1, 0], shown)
    ratings = fit(comparisons, "b", has_order_effect=True)
    assert ratings.order_effect is None
    assert reason in str(ratings.note)
    assert coefficients(ratings)["a"] == pytest.approx(math.log(3))
    assert fit(comparisons, "b").note is None


def test_the_baseline_stands_at_1000_and_400_points_are_odds_of_10() -> None:
    comparisons = expand([("strong", "weak", 100, 10)])
    for baseline, other, points in (("weak", "strong", 1400), ("strong", "weak", 600)):
        ratings = fit(comparisons, baseline)
        by_policy = {rating.policy: rating for rating in ratings.rated}
        assert (by_policy[baseline].elo.value, by_policy[baseline].elo.low) == (1000, 1000)
        assert by_policy[other].elo.value == pytest.approx(points)
        assert by_policy[other].coefficient.plain_error == pytest.approx(math.sqrt(1 / 100 + 1 / 10))
        assert [rating.policy for rating in ratings.rated] == ["strong", "weak"]


def test_another_baseline_shifts_all_ratings_and_scales_none() -> None:
    comparisons = simulate(4, 40, [0.0, 0.7, -0.4, 0.1])
    first, second = ({each.policy: each.elo.value for each in fit(comparisons, b).rated} for b in "ad")
    shifts = [second[policy] - first[policy] for policy in first]
    assert shifts == pytest.approx([shifts[0]] * 4, abs=1e-4)


def test_the_side_a_policy_is_written_on_changes_nothing() -> None:
    comparisons = simulate(5, 25, [0.0, 0.7, -0.4], shared=0.4, order=0.5)
    turn = np.random.default_rng(0).random(len(comparisons)) < 0.5
    turned = Comparisons(
        comparisons.policies,
        np.where(turn, comparisons.right, comparisons.left),
        np.where(turn, comparisons.left, comparisons.right),
        np.where(turn, 1 - comparisons.outcome, comparisons.outcome),
        np.where(turn, -comparisons.shown, comparisons.shown),
        comparisons.prompt,
    )
    ours, theirs = (fit(each, "a", has_order_effect=True) for each in (comparisons, turned))
    for one, other in zip(ours.rated, theirs.rated, strict=True):
        assert one.policy == other.policy
        assert (one.elo.value, one.elo.low) == pytest.approx((other.elo.value, other.elo.low), abs=1e-5)
        assert one.tally == other.tally


def test_unrated_policies_get_a_reason_and_move_nothing() -> None:
    even = [("a", "b", 3, 2), ("b", "c", 2, 2)]
    alone, beside = (fit(expand(counts), "a") for counts in (even, [*even, ("a", "poor", 4, 0), ("best", "c", 2, 0)]))
    assert beside.unrated == {"poor": "never wins", "best": "never loses"}
    assert coefficients(beside) == pytest.approx(coefficients(alone), abs=1e-9)
    tallies = {rating.policy: rating.tally for rating in beside.rated}
    assert (tallies["a"].comparisons, tallies["a"].wins) == (9, 7)  # what the unrated have met is counted


def test_without_anybody_to_rate_only_the_baseline_stands() -> None:
    for has_order_effect in (False, True):
        ratings = fit(expand([("a", "b", 3, 0)]), "a", has_order_effect)
        assert [rating.policy for rating in ratings.rated] == ["a"]
        assert ratings.unrated == {"b": "never wins"}
        assert ratings.note is None


def test_one_prompt_gives_ratings_without_interval_and_no_prompts_the_plain_one() -> None:
    columns = (["a"] * 4, ["b"] * 4, [1, 1, 1, 0], [0] * 4)
    single, plain = (fit(gather_comparisons(*columns, prompts), "b").rated[0] for prompts in (["p"] * 4, None))
    assert single.elo.value == plain.elo.value
    assert math.isnan(single.elo.low)
    assert math.isnan(single.coefficient.clustered_error)
    error = math.sqrt(1 / 3 + 1)
    assert plain.elo.high - plain.elo.value == pytest.approx(1.96 * error * 400 / math.log(10), rel=1e-4)
    assert (single.elo.n, plain.elo.n) == (1, 4)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 4), st.sampled_from([0.0, 0.5, 1.0])).filter(
            lambda m: m[0] != m[1]
        ),
        min_size=1,
        max_size=40,
    )
)
def test_each_rated_policy_wins_as_often_as_its_rating_predicts(matches: list[tuple[int, int, float]]) -> None:
    # The likelihood equations: at the maximum expected and observed wins are equal, policy by policy.
    left, right, outcome = zip(*((str(a), str(b), x) for a, b, x in matches), strict=True)
    ratings = fit(gather_comparisons(left, right, outcome, [0] * len(matches)), left[0])
    strength = coefficients(ratings)
    assert strength.keys() | ratings.unrated.keys() == {*left, *right}
    surplus = dict.fromkeys(strength, 0.0)
    for a, b, won in zip(left, right, outcome, strict=True):
        if a in strength and b in strength:
            residual = won - 1 / (1 + math.exp(strength[b] - strength[a]))
            surplus[a] += residual
            surplus[b] -= residual
    assert list(surplus.values()) == pytest.approx([0] * len(surplus), abs=1e-5)
