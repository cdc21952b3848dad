"""Mistakes in the settings of a choice, one sentence each."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sacpo_exp.config.studies import Over, find_choice_problems

Problems = Callable[..., list[str]]

MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "a family of one": (
        {"grid": [0.5]},
        "`grid` must have at least two entries to choose from, but has 1. Try: grid=[0.25,0.5,0.75,1]",
    ),
    "a policy twice": ({"over": Over.policies, "grid": ["A", "B", "A"]}, "`grid` must have every entry once."),
    "no numbers": (
        {"grid": [0.5, "a"]},
        "`grid` must hold numbers between 0 and 1 with over=merge_ratio, but has a.",
    ),
    "no strengths": (
        {"over": Over.beta, "grid": [-1, 2]},
        "`grid` must hold numbers greater than 0 with over=beta, but has -1.",
    ),
    "idle score": (
        {"acceptable_score": 7},
        "`acceptable_score` has no effect with measure=win_rate. Try: measure=acceptable_rate",
    ),
    "unknown constraint": (
        {"constraint": "honesty"},
        "choose needs criteria that are judged (helpfulness, safety), but honesty is not. Try: "
        "evaluated=[helpfulness,safety,honesty]",
    ),
    "further threshold": (
        {"thresholds": {"helpfulness": 2}},
        "`thresholds.helpfulness` must lie between 0 and 1, but is 2.",
    ),
    "constraint twice": (
        {"thresholds": {"safety": 0.5}},
        "`thresholds` must name other criteria than `constraint` = safety. Try: threshold=...",
    ),
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
            "`merge_ratio` has no effect: over=merge_ratio selects the policies. Try: grid=[...]",
        ),
        (["policies=all"], "`policies` has no effect: over=merge_ratio selects the policies. Try: grid=[...]"),
        (["over=beta", "beta=0.05"], "`beta` has no effect: over=beta selects the policies. Try: grid=[...]"),
        (
            ["measure=acceptable_rate", "judge=openai"],
            "`acceptable_score` must say from which score a response is acceptable: judge=openai has no zero. Try: "
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
        (["max_over_refusal=0.1"], False),  # which is worst at the safe end
        (["++thresholds={helpfulness:0.4}"], False),  # which pulls from the other end
        (["constraint=helpfulness", "maximise=safety"], True),
        (["over=policies", "grid=[A,B]"], False),  # none is known to be the safest
        (["procedure=holm"], False),
        (["max_over_refusal=0.1", "procedure=fixed_sequence"], True),
    ],
)
def test_policies_are_tested_in_sequence_where_one_end_is_known_to_be_safe(
    configure: Callable[..., Any], overrides: list[str], is_sequence: bool
) -> None:
    assert configure("threshold=0.6", *overrides, command="choose").is_sequence is is_sequence


def test_a_mistake_costs_no_import(cli: Callable[..., Any]) -> None:
    result = cli("choose", "threshold=7", light=True)
    assert (result.code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: `threshold` must be greater than 0 and below 1")
