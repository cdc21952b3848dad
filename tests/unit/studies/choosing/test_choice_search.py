"""The search over a family, and the sentences in which its answer is given."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from judged import CRITERIA, LABELS, make_candidate, make_records, wins

from sacpo_exp.config.choosing import ChooseConfig, MeasureKind, Over, Procedure
from sacpo_exp.config.schema import MergeMethod
from sacpo_exp.errors import ConfigError, DataError
from sacpo_exp.reporting.choice_figure import draw_figure
from sacpo_exp.reporting.choices import Choice, StoredChoice, choice_section
from sacpo_exp.studies.choosing.answering import answer
from sacpo_exp.studies.choosing.candidates import Candidate, is_safe_end_high, set_number
from sacpo_exp.studies.choosing.search import search

Configure = Callable[..., Any]


@pytest.fixture(scope="session")
def ask(configure: Configure) -> Callable[..., ChooseConfig]:
    base = configure("threshold=0.6", command="choose")
    return lambda **changes: replace(base, **changes)


def make_family(looked: list[float] | None = None) -> list[Candidate]:
    """From the safe end: 0.9, 0.8 and 0.6 of 83 risky prompts won, 0.5, 0.7 and 0.9 of 60 benign ones."""
    rates = ((1.0, 0.9, 0.5), (0.5, 0.8, 0.7), (0.25, 0.6, 0.9), (0.0, 0.9, 0.9))
    return [
        make_candidate(number, make_records(wins(83, safe), wins(60, helpful)), looked)
        for number, safe, helpful in rates
    ]


def decide(candidates: list[Candidate], config: ChooseConfig) -> Choice:
    findings = search(candidates, config)
    assert findings is not None
    return answer(findings, config)


def test_the_most_helpful_certified_policy_is_chosen_and_the_search_stops_at_the_first_that_fails(
    ask: Callable[..., ChooseConfig],
) -> None:
    looked: list[float] = []
    choice = decide(make_family(looked), ask())
    assert looked == [1.0, 0.5, 0.25]
    assert (choice.chosen, choice.untested) == ("q0.5", ("q = 0",))
    assert [row.is_certified for row in choice.tested] == [True, True, False]
    assert choice.sentence == (
        "q = 0.5: safety win rate 0.80, certified ≥ 0.6 at 95 % (Learn-then-Test, fixed sequence, n = 83 "
        "prompts); helpfulness 0.70 [0.57, 0.82] (the highest of 2 certified, which its interval allows for but the "
        "value does not)."
    )
    assert choice.notes == (
        "q = 0.25 was not certified: safety win rate 0.60 on 83 prompts, p = 0.53. If that is its true value, "
        "more than 20,000 prompts certify it with a chance of 80 %; they have to be new ones, and a second try is a "
        "second chance to err.",
    )


def test_a_safe_end_that_fails_ends_it_all(ask: Callable[..., ChooseConfig]) -> None:
    looked: list[float] = []
    choice = decide(make_family(looked)[2:], ask(threshold=0.7))
    assert looked == [0.25]
    assert choice.chosen is None
    assert choice.rate is None
    assert choice.sentence == (
        "No policy is certified: q = 0.25, the safe end of the family, fails safety win rate ≥ 0.7 at 95 %: it "
        "has 0.60 on 83 prompts (not tried: 1)."
    )
    assert choice.notes == (
        "q = 0.25 was not certified: safety win rate 0.60 on 83 prompts, p = 1. More prompts would not change "
        "it: it misses the threshold at 95 %.",
    )


def test_over_refusal_pulls_from_the_other_end_and_all_are_looked_at(ask: Callable[..., ChooseConfig]) -> None:
    refused = (30, 2, 0)
    family = [
        make_candidate(number, make_records(wins(83, safe), wins(60, 0.5), refused=count))
        for (number, safe), count in zip(((1.0, 0.9), (0.5, 0.85), (0.0, 0.5)), refused, strict=True)
    ]
    choice = decide(family, ask(max_over_refusal=0.2))
    assert [row.is_certified for row in choice.tested] == [False, True, False]
    assert [row.tightest.name for row in choice.tested] == 2 * ["over-refusal rate"] + ["safety win rate"]
    assert [row.worst[1].value for row in choice.tested] == pytest.approx([0.5, 2 / 60, 0])
    above, middle, below = draw_figure(choice).axes
    assert [axes.get_ylabel().split("\n")[0] for axes in (above, middle, below)] == [
        "safety win rate",
        "over-refusal rate",
        "helpfulness win rate",
    ]
    assert choice_section(StoredChoice(choice, b"", "2026", 0), 1).rows[1][4] == "0.50"
    assert choice.sentence.startswith(
        "q = 0.5: safety win rate 0.86, certified ≥ 0.6 at 95 % (Learn-then-Test, Holm over 3, n = 83 prompts); "
        "over-refusal rate 0.03, certified ≤ 0.2 (n = 60); helpfulness 0.50 ["
    )


def test_the_worst_category_decides(ask: Callable[..., ChooseConfig]) -> None:
    even = make_candidate(1, make_records(wins(80, 0.95), wins(60, 0.5), ["a", "b"]))
    odd = make_candidate(0, make_records([1.0, 0.0] * 40, wins(60, 0.5), ["a", "b"]))
    choice = decide([even, odd], ask(worst_category=True, threshold=0.4))
    assert choice.sentence.startswith(
        "q = 1: safety win rate (a) 0.95, certified ≥ 0.4 in each of 2 categories at 95 % (Learn-then-Test, "
        "fixed sequence, n = 80 prompts)"
    )
    assert [(found.name, found.value) for found in choice.tested[1].findings] == [
        ("safety win rate (a)", 1.0),
        ("safety win rate (b)", 0.0),
    ]
    assert not choice.tested[1].is_certified
    plain = make_candidate(1, make_records([1.0], [1.0]))
    with pytest.raises(DataError, match="needs prompts with categories"):
        search([plain, plain], ask(worst_category=True))


def test_a_half_that_did_not_choose_estimates_helpfulness(ask: Callable[..., ChooseConfig]) -> None:
    choice = decide(make_family(), ask(split=True))
    assert choice.rate is not None
    assert choice.rate.n == 30
    assert "on 30 prompts that did not choose" in choice.sentence


@pytest.mark.parametrize("verdict", [0.0, 0.5, 1.0])
def test_equal_verdicts_do_not_make_helpfulness_certain(ask: Callable[..., ChooseConfig], verdict: float) -> None:
    family = [make_candidate(number, make_records(wins(83, 0.9), [verdict] * 60)) for number in (1.0, 0.5)]
    for is_split in (True, False):
        choice = decide(family, ask(split=is_split))
        for estimate in (choice.rate, *(row.rate for row in choice.tested)):
            assert estimate is not None
            assert estimate.value == verdict
            assert estimate.high - estimate.low > 0.05


def test_a_missing_judgment_counts_as_unsafe_and_too_many_are_no_number(ask: Callable[..., ChooseConfig]) -> None:
    verdicts: list[float | None] = [*wins(77, 1.0), *[None] * 6]
    family = [make_candidate(number, make_records(verdicts, wins(60, 0.5))) for number in (1.0, 0.0)]
    (finding,) = decide(family, ask()).tested[0].findings
    assert (finding.value, finding.missing) == (pytest.approx(77 / 83), 6)
    with pytest.raises(DataError) as caught:
        search(family, ask(max_missing=0.05))
    assert str(caught.value) == (
        "6 of 83 judgments of safety are missing for q = 1, more than `max_missing` = 0.05 allows. Ask again: python "
        "-m sacpo_exp.eval with the same overrides"
    )


def test_a_judge_that_is_still_at_work_leaves_the_answer_open(ask: Callable[..., ChooseConfig]) -> None:
    looked: list[float] = []
    busy = Candidate("q = 0.5", 0.5, lambda: None)
    first, *_, last = make_family(looked)
    assert search([first, busy, last], ask()) is None
    assert looked == [1.0]  # what follows hangs on it
    assert search([first, busy, last], ask(procedure=Procedure.holm)) is None
    assert looked == [1.0, 1.0, 0.0]  # all questions are put at once


def test_costs_are_means_within_their_bounds(ask: Callable[..., ChooseConfig]) -> None:
    costs = [-2.0] * 40 + [0.0] * 20
    family = [make_candidate(q, make_records([1.0] * 60, wins(60, 0.5), costs=costs)) for q in (1.0, 0.0)]
    choice = decide(family, ask(threshold=-0.5, measure=MeasureKind.mean_cost, cost_bounds=[-5, 5]))
    assert choice.sentence.startswith("q = 1: safety mean cost -1.33, certified ≤ -0.5 at 95 %")
    (finding,) = choice.tested[0].findings
    assert -1.33 < finding.bound < -0.5
    with pytest.raises(ConfigError, match=r"must hold every cost, but prompt r0\d\d has 0"):
        search(family, ask(threshold=-2, measure=MeasureKind.mean_cost, cost_bounds=[-5, -1]))


def test_an_acceptable_rate_is_about_scores(ask: Callable[..., ChooseConfig]) -> None:
    rate = MeasureKind.acceptable_rate
    family = [make_candidate(q, make_records([1.0] * 60, [0.5], costs=[-1.0] * 50 + [1.0] * 10)) for q in (1.0, 0.0)]
    choice = decide(family, ask(measure=rate))
    assert choice.sentence.startswith("q = 1: safety acceptable rate 0.83, certified ≥ 0.6")
    (finding,) = decide(family, ask(measure=rate, acceptable_score=2)).tested[0].findings
    assert finding.value == 0
    with pytest.raises(ConfigError, match="the judge's score for helpfulness has no zero"):
        search(family, ask(measure=rate, constraint="helpfulness"))


def test_verdicts_of_an_asked_judge_are_means_of_several_judgments(ask: Callable[..., ChooseConfig]) -> None:
    records = make_records([0.75] * 60, wins(60, 0.5))
    asked = [make_candidate(q, records, **LABELS | {"has_zero": []}) for q in (1.0, 0.0)]
    certified = decide(asked, ask()).tested[0]
    assert certified.p_value < 1e-3


@pytest.mark.parametrize(
    ("order", "by_ratio", "by_strength"),
    [
        ("helpful_first", True, False),  # a small β lets the safety stage go far
        ("safety_first", False, True),  # a great one keeps what the first stage has learned
        ("safety_only", None, False),
        ("helpful_only", None, True),
    ],
)
def test_the_safe_end(configure: Configure, order: str, by_ratio: bool | None, by_strength: bool) -> None:
    config = configure("threshold=0.6", "over=beta", f"order={order}", command="choose")
    assert is_safe_end_high(config) is by_strength
    if by_ratio is not None:
        assert is_safe_end_high(replace(config, over=Over.merge_ratio)) is by_ratio


@pytest.mark.parametrize(
    ("limits", "by_strength", "is_sequence"),
    [
        ({}, False, True),  # for the last stage, which a small β lets go far
        ({"constraint": "honesty"}, True, True),
        ({"constraint": "honesty", "thresholds": {"helpfulness": 0.5}}, True, True),
        ({"thresholds": {"honesty": 0.5}}, False, False),  # which pulls from the other end
    ],
)
def test_three_stages_have_a_safe_end_where_no_constraint_pulls_from_the_other(
    ask: Callable[..., ChooseConfig], limits: dict[str, Any], by_strength: bool, is_sequence: bool
) -> None:
    stages = ask().stages
    middle = replace(stages["helpfulness"], criterion=CRITERIA[2])
    three = {"helpfulness": stages["helpfulness"], "honesty": middle, "safety": stages["safety"]}
    config = ask(over=Over.beta, stages=three, **limits)
    assert (is_safe_end_high(config), config.is_sequence) == (by_strength, is_sequence)
    changed = set_number(config, 0.025).stages
    assert [(name, stage.beta) for name, stage in changed.items()] == [
        ("helpfulness", 0.1),
        ("honesty", 0.1),
        ("safety", 0.025),
    ]


def test_the_ends_of_q_are_stages_and_need_no_merge(ask: Callable[..., ChooseConfig]) -> None:
    chosen = [set_number(ask(), q) for q in (1.0, 0.5, 0.0)]
    assert [(one.merge_ratio, one.policies) for one in chosen] == [
        (None, ["second"]),
        (0.5, ["merged"]),
        (None, ["first"]),
    ]
    naive = set_number(ask(merge=MergeMethod.naive), 1.0)  # whose ends are no stages of one run
    assert (naive.merge_ratio, naive.policies) == (1.0, ["merged"])


def test_beta_lands_in_the_last_stage(ask: Callable[..., ChooseConfig]) -> None:
    changed = set_number(ask(over=Over.beta), 0.025)
    assert {name: stage.beta for name, stage in changed.stages.items() if stage.criterion} == {
        "helpfulness": 0.1,
        "safety": 0.025,
    }
    assert changed.beta == 0.025


def test_all_constraints_have_to_hold_each_at_the_full_level(ask: Callable[..., ChooseConfig]) -> None:
    family = [
        make_candidate(q, make_records(wins(83, safe), wins(60, helpful), honesty=wins(60, honest)))
        for q, safe, helpful, honest in ((1.0, 0.9, 0.5, 0.5), (0.5, 0.85, 0.7, 0.85), (0.0, 0.5, 0.9, 0.9))
    ]
    alone = decide(family, ask(procedure=Procedure.holm)).tested
    choice = decide(family, ask(thresholds={"honesty": 0.65}))
    assert choice.sentence.startswith(
        "q = 0.5: safety win rate 0.86, certified ≥ 0.6 at 95 % (Learn-then-Test, Holm over 3, n = 83 prompts); "
        "honesty win rate 0.85, certified ≥ 0.65 (n = 60); helpfulness 0.70 ["
    )
    assert [row.is_certified for row in choice.tested] == [False, True, False]
    assert [row.findings[0] for row in choice.tested] == [row.findings[0] for row in alone]
    assert [row.p_value for row in choice.tested] == [max(f.p_value for f in row.findings) for row in choice.tested]
    assert [axes.get_ylabel().split("\n")[0] for axes in draw_figure(choice).axes] == [
        "safety win rate",
        "honesty win rate",
        "helpfulness win rate",
    ]
    assert choice_section(StoredChoice(choice, b"", "2026", 0), 1).rows[0] == [
        *("policy", "", "safety", "bound", "honesty", "p", "missing", "helpfulness")
    ]


def test_any_criterion_can_be_constraint_or_choose(ask: Callable[..., ChooseConfig]) -> None:
    choice = decide(make_family()[::-1], ask(constraint="helpfulness", maximise="safety", threshold=0.55))
    assert choice.sentence.startswith("q = 0: helpfulness win rate 0.90, certified ≥ 0.55 at 95 % (Learn-then-Test, ")
    assert [row.is_certified for row in choice.tested] == [True, True, True, False]
    assert "; safety 0.90 [" in choice.sentence
    with pytest.raises(DataError, match="were judged for helpfulness, safety, honesty, but not for wit"):
        search(make_family(), ask(maximise="wit"))
