"""What can be wrong with a question about a family of policies, one sentence each."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sacpo_exp.config.choosing import MeasureKind, Over, find_choice_problems

Problems = Callable[..., list[str]]

COST = {"measure": MeasureKind.mean_cost}
MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "threshold outside the scale": (
        {"threshold": 1.5},
        "`threshold` must lie between 0 and 1, the scale of measure=win_rate, but is 1.5.",
    ),
    "threshold outside the bounds": (
        COST | {"threshold": 9, "cost_bounds": [-5, 5]},
        "`threshold` must lie between -5 and 5, the scale of measure=mean_cost, but is 9.",
    ),
    "certainty": (
        {"confidence": 1},
        "`confidence` must lie between 0 and 1, but is 1: no number of prompts makes certain. Try: confidence=0.95",
    ),
    "a family of one": (
        {"grid": [0.5]},
        "`grid` must have at least two entries to choose among, but has 1. Try: grid=[0.25,0.5,0.75,1]",
    ),
    "no family": (
        {"over": Over.policies},
        "`grid` must have at least two entries to choose among, but has 0. Try: grid=[A,B]",
    ),
    "unsorted": (
        {"grid": [0.5, 0.25, 1]},
        "`grid` must go upwards, each value once: the order of the tests is fixed by it. Try: grid=[0.25,0.5,1]",
    ),
    "twice": (
        {"grid": [0.5, 0.5, 1]},
        "`grid` must go upwards, each value once: the order of the tests is fixed by it. Try: grid=[0.5,1]",
    ),
    "a policy twice": (
        {"over": Over.policies, "grid": ["A", "B", "A"]},
        "`grid` must name every policy once, but has A several times.",
    ),
    "no numbers": ({"grid": ["a", "b"]}, "`grid` must hold numbers with over=merge_ratio, but has a."),
    "no ratios": ({"grid": [0.5, 2]}, "`grid` must lie between 0 and 1 with over=merge_ratio, but has 2."),
    "no strengths": (
        {"over": Over.beta, "grid": [-1, 2]},
        "`grid` must hold numbers greater than 0 with over=beta, but has -1.",
    ),
    "policies of the plan": (
        {"policies": "all"},
        "`policies` has no effect: `over` and `grid` say which policies are meant.",
    ),
    "no bounds": (
        COST,
        "`cost_bounds` must be the least and greatest possible cost, but is null. Try: cost_bounds=[-5,5]",
    ),
    "idle bounds": (
        {"cost_bounds": [-5, 5]},
        "`cost_bounds` has no effect: measure=win_rate does not read it. Try: measure=mean_cost",
    ),
    "idle score": (
        {"acceptable_score": 7},
        "`acceptable_score` has no effect: measure=win_rate does not read it. Try: measure=acceptable_rate",
    ),
    "unknown constraint": (
        {"constraint": "honesty"},
        "`constraint` must name criteria that are judged (helpfulness, safety), but has honesty. Try: "
        "evaluated=[helpfulness,safety,honesty]",
    ),
    "unknown further constraint": (
        {"thresholds": {"honesty": 0.5}},
        "`thresholds` must name criteria that are judged (helpfulness, safety), but has honesty. Try: "
        "evaluated=[helpfulness,safety,honesty]",
    ),
    "further threshold outside the scale": (
        {"thresholds": {"helpfulness": 2}},
        "`thresholds.helpfulness` must lie between 0 and 1, the scale of measure=win_rate, but is 2.",
    ),
    "constraint twice": (
        {"thresholds": {"safety": 0.5}},
        "`thresholds` must name other criteria than `constraint` = safety. Try: threshold=...",
    ),
    "margin": ({"margin": 0}, "`margin` must be greater than 0 and less than 1, but is 0."),
}


@pytest.mark.parametrize(("changes", "sentence"), MISTAKES.values(), ids=list(MISTAKES))
def test_a_mistake_is_one_sentence(configure: Callable[..., Any], changes: dict[str, Any], sentence: str) -> None:
    config = replace(configure("threshold=0.6", command="choose"), **changes)
    assert list(find_choice_problems(config, [])) == [sentence]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["order=helpful_only"],
            "`over=merge_ratio` needs two stages, but the chosen order has 1. Try: order=helpful_first",
        ),
        (
            ["merge_ratio=0.5"],
            "`merge_ratio` has no effect: over=merge_ratio says which policies are meant. Try: grid=[...]",
        ),
        (
            ["merge_weights=[0.5,0.5]"],
            "`merge_weights` has no effect: over=merge_ratio says which policies are meant. Try: grid=[...]",
        ),
        (
            ["over=beta", "beta=0.05"],
            "`beta` has no effect: over=beta says which policies are meant. Try: grid=[...]",
        ),
        (
            ["measure=acceptable_rate", "judge=openai"],
            "`acceptable_score` must say from which score on a response is acceptable: judge=openai has no zero. Try: "
            "acceptable_score=7",
        ),
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence(
    problems_of: Problems, overrides: list[str], sentence: str
) -> None:
    assert problems_of("threshold=0.6", *overrides, command="choose") == [sentence]


def test_the_threshold_has_to_be_given(problems_of: Problems) -> None:
    assert problems_of(command="choose") == ["`threshold` has no value. Try: threshold=..."]


@pytest.mark.parametrize(
    ("overrides", "is_sequence"),
    [
        ([], True),
        (["over=beta"], True),
        (["merge=naive"], True),  # whose ratio is what is chosen
        (["max_over_refusal=0.1"], False),  # which is worst at the safe end
        (["++thresholds={helpfulness:0.4}"], False),  # which pulls from the other end
        (["constraint=helpfulness", "maximise=safety"], True),
        (["over=policies", "grid=[A,B]"], False),  # of which none is known to be safest
        (["procedure=holm"], False),
        (["max_over_refusal=0.1", "procedure=fixed_sequence"], True),
    ],
)
def test_policies_are_tested_in_sequence_where_one_end_is_known_to_be_safe(
    configure: Callable[..., Any], overrides: list[str], is_sequence: bool
) -> None:
    assert configure("threshold=0.6", *overrides, command="choose").is_sequence is is_sequence


@pytest.mark.parametrize(
    ("overrides", "key"),
    [(["threshold=7"], "threshold"), (["threshold=0.6", "thresholds={helpfulness:7}"], "thresholds.helpfulness")],
)
def test_a_mistake_costs_no_import(cli: Callable[..., Any], overrides: list[str], key: str) -> None:
    result = cli("choose", *overrides, light=True)
    assert (result.code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: `{key}` must lie between 0 and 1")
