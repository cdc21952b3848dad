"""The search over a family, the answer in one sentence, and how it is stored, drawn and reported."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sacpo_exp.config.schema import MergeMethod
from sacpo_exp.config.studies import ChooseConfig, MeasureKind, Over, Procedure
from sacpo_exp.errors import ConfigError, DataError
from sacpo_exp.method.criteria import Criterion
from sacpo_exp.reporting.choices import SHARED, Choice, StoredChoice, choice_section, collect_choices, read_choice
from sacpo_exp.reporting.collect import Evaluation
from sacpo_exp.reporting.figures import draw_choice, draw_tested
from sacpo_exp.reporting.page import describe_choice
from sacpo_exp.statistics.intervals import Estimate
from sacpo_exp.statistics.selection import Outcome, count_prompts
from sacpo_exp.store import Store
from sacpo_exp.studies.candidates import Candidate, is_safe_end_high, set_number
from sacpo_exp.studies.choosing import answer, count_others, foresee, search, store_choice

KINDS = (("helpfulness", "H", "benign"), ("safety", "S", "risky"), ("honesty", "O", "benign"))
CRITERIA = [Criterion(name, letter, prompt_kinds=[kind]) for name, letter, kind in KINDS]
LABELS = {"judge": "scorer", "judge_id": "scorer-1", "prompts": "demo", "prompts_id": "5eed", "has_zero": ["safety"]}
LABELS |= {"baseline_id": "sft", "opponent_id": "sft", "answers": "c0de"}
LABELS |= {"criteria": [criterion.to_judge() for criterion in CRITERIA]}


Verdicts = Sequence[float | None]


def make_records(
    safety: Verdicts, helpfulness: Verdicts, refused: int = 0, scores: Verdicts = (), honesty: Verdicts = ()
) -> list[dict[str, Any]]:
    """Risky prompts with these verdicts (None: failed) and scores, then benign ones, the first of which are refused."""
    records = []
    for place, verdict in enumerate(safety):
        entry = _judge(verdict, scores[place] if scores else verdict)
        records.append({"prompt_id": f"r{place:03}", "kind": "risky", "is_refusal": False, "safety": entry})
    for place, verdict in enumerate(helpfulness):
        record = {"prompt_id": f"b{place:03}", "kind": "benign", "is_refusal": place < refused}
        record |= {"helpfulness": _judge(verdict, verdict)}
        records.append(record | ({"honesty": _judge(honesty[place], 1.0)} if place < len(honesty) else {}))
    return records


def _judge(verdict: float | None, score: float | None) -> dict[str, Any]:
    return {"state": "failed" if verdict is None else "ok", "verdict": verdict, "score": score}


def make_candidate(number: float, records: list[dict[str, Any]], looked: list[float] | None = None) -> Candidate:
    """A policy with these verdicts; `looked` records that it was looked at."""
    title = f"q = {number:g}"
    own = LABELS | {"policy_id": f"q{number:g}", "policy": title, "merge_ratio": number}

    def look() -> Evaluation:
        if looked is not None:
            looked.append(number)
        return Evaluation(own, records, {}, "2026")

    return Candidate(title, number, look)


def wins(n: int, share: float) -> list[float]:
    """n verdicts of which this share is won."""
    return [1.0] * round(share * n) + [0.0] * (n - round(share * n))


@pytest.fixture(scope="session")
def ask(configure: Any) -> Any:
    base = configure("threshold=0.6", command="choose")
    return lambda **changes: replace(base, **changes)


def make_family(looked: list[float] | None = None) -> list[Candidate]:
    """From the safe end: 0.9, 0.8 and 0.6 of 83 risky prompts won, 0.5, 0.7 and 0.9 of 60 benign ones."""
    rates = ((1.0, 0.9, 0.5), (0.5, 0.8, 0.7), (0.25, 0.6, 0.9), (0.0, 0.9, 0.9))
    return [make_candidate(q, make_records(wins(83, safe), wins(60, helpful)), looked) for q, safe, helpful in rates]


def decide(candidates: list[Candidate], config: ChooseConfig) -> Choice:
    return answer(search(candidates, config), config)


@pytest.fixture(scope="module")
def choice(ask: Any) -> Choice:
    return decide(make_family(), ask())


def test_the_most_helpful_certified_policy_is_chosen_and_the_search_stops_at_the_first_that_fails(ask: Any) -> None:
    looked: list[float] = []
    choice = decide(make_family(looked), ask())
    assert looked == [1.0, 0.5, 0.25]
    assert (choice.chosen, choice.untested) == ("q0.5", ("q = 0",))
    assert [row.is_certified for row in choice.tested] == [True, True, False]
    assert choice.sentence == (
        "q = 0.5: safety win rate 0.80, certified ≥ 0.6 at 95 % (Learn-then-Test, fixed sequence, n = 83 "
        "prompts); helpfulness 0.70 [0.57, 0.82] (the highest of 2 certified; its interval allows for that, the value "
        "does not)."
    )


def test_over_refusal_pulls_from_the_other_end_and_all_are_tested(ask: Any) -> None:
    family = [
        make_candidate(number, make_records(wins(83, safe), wins(60, 0.5), refused=count))
        for number, safe, count in ((1.0, 0.9, 30), (0.5, 0.85, 2), (0.0, 0.5, 0))
    ]
    choice = decide(family, ask(max_over_refusal=0.2))
    assert [row.is_certified for row in choice.tested] == [False, True, False]
    assert [row.findings[1].value for row in choice.tested] == pytest.approx([0.5, 58 / 60, 1])
    labels = [axes.get_ylabel().split("\n")[0] for axes in draw_tested(choice).axes]
    assert labels == ["safety win rate", "answered benign prompts", "helpfulness win rate"]
    assert choice_section(StoredChoice(choice, b"", 0), 1).rows[1][4] == "0.50"
    assert choice.sentence.startswith(
        "q = 0.5: safety win rate 0.86, certified ≥ 0.6 at 95 % (Learn-then-Test, Holm over 3, n = 83 prompts); "
        "answered benign prompts 0.97, certified ≥ 0.8 (n = 60); helpfulness 0.50 ["
    )


def test_all_constraints_have_to_hold_each_at_the_full_level(ask: Any) -> None:
    family = [
        make_candidate(q, make_records(wins(83, safe), wins(60, helpful), honesty=wins(60, honest)))
        for q, safe, helpful, honest in ((1.0, 0.9, 0.5, 0.5), (0.5, 0.85, 0.7, 0.85), (0.0, 0.5, 0.9, 0.9))
    ]
    alone = decide(family, ask(procedure=Procedure.holm)).tested
    choice = decide(family, ask(thresholds={"honesty": 0.65}))
    assert "honesty win rate 0.85, certified ≥ 0.65 (n = 60)" in choice.sentence
    assert [row.is_certified for row in choice.tested] == [False, True, False]
    assert [row.findings[0] for row in choice.tested] == [row.findings[0] for row in alone]
    assert [row.p_value for row in choice.tested] == [max(f.p_value for f in row.findings) for row in choice.tested]
    header = choice_section(StoredChoice(choice, b"", 0), 1).rows[0]
    assert header == ["policy", "", "safety", "bound", "honesty", "p", "missing", "helpfulness"]


@pytest.mark.parametrize("verdict", [0.5, 1.0])
def test_equal_verdicts_do_not_make_helpfulness_certain(ask: Any, verdict: float) -> None:
    family = [make_candidate(number, make_records(wins(83, 0.9), [verdict] * 60)) for number in (1.0, 0.5)]
    choice = decide(family, ask())
    for estimate in (choice.rate, *(row.rate for row in choice.tested)):
        assert estimate.value == verdict
        assert estimate.high - estimate.low > 0.05


def test_a_missing_judgment_counts_as_unsafe_and_too_many_are_no_number(ask: Any) -> None:
    verdicts: list[float | None] = [*wins(77, 1.0), *[None] * 6]
    family = [make_candidate(number, make_records(verdicts, wins(60, 0.5))) for number in (1.0, 0.0)]
    (finding,) = decide(family, ask()).tested[0].findings
    assert (finding.value, finding.missing) == (pytest.approx(77 / 83), 6)
    with pytest.raises(DataError, match="6 of 83 judgments of safety are missing for q = 1, more than `max_missing`"):
        search(family, ask(max_missing=0.05))


def test_an_acceptable_rate_is_about_scores(ask: Any) -> None:
    rate = MeasureKind.acceptable_rate
    records = make_records([1.0] * 60, [0.5], scores=[1.0] * 50 + [-1.0] * 10)
    family = [make_candidate(q, records) for q in (1.0, 0.0)]
    choice = decide(family, ask(measure=rate))
    assert choice.sentence.startswith("q = 1: safety acceptable rate 0.83, certified ≥ 0.6")
    assert decide(family, ask(measure=rate, acceptable_score=2)).tested[0].findings[0].value == 0
    with pytest.raises(ConfigError, match="the judge's score for helpfulness has no zero"):
        search(family, ask(measure=rate, constraint="helpfulness"))


#: Of merge ratios and of β of the last stage, whether the safe end is the high one.
ENDS = {
    "helpful_first": (True, False),  # a small β lets the safety stage go far
    "safety_first": (False, True),  # a large one keeps what the first stage has learned
    "safety_only": (None, False),
    "helpful_only": (None, True),
}


@pytest.mark.parametrize("order", ENDS)
def test_the_safe_end(configure: Any, order: str) -> None:
    by_ratio, by_strength = ENDS[order]
    config = configure("threshold=0.6", "over=beta", f"order={order}", command="choose")
    assert is_safe_end_high(config) is by_strength
    assert by_ratio in (None, is_safe_end_high(replace(config, over=Over.merge_ratio)))


def test_three_stages_have_a_safe_end(ask: Any) -> None:
    stages = ask().stages
    middle = replace(stages["helpfulness"], criterion=CRITERIA[2])
    three = {"helpfulness": stages["helpfulness"], "honesty": middle, "safety": stages["safety"]}
    for limits, by_strength, is_sequence in (
        ({}, False, True),  # for the last stage, which a small β lets go far
        ({"constraint": "honesty", "thresholds": {"helpfulness": 0.5}}, True, True),
        ({"thresholds": {"honesty": 0.5}}, False, False),  # which pulls from the other end
    ):
        config = ask(over=Over.beta, stages=three, **limits)
        assert (is_safe_end_high(config), config.is_sequence) == (by_strength, is_sequence)
        changed = set_number(config, 0.025)
        assert [stage.beta for stage in changed.stages.values()] == [0.1, 0.1, 0.025]
        assert changed.beta == 0.025


def test_the_ends_of_q_are_stages_and_need_no_merge(ask: Any) -> None:
    configs = [set_number(ask(), q) for q in (1.0, 0.5, 0.0)]
    configs.append(set_number(ask(merge=MergeMethod.naive), 1.0))  # whose ends are no stages of one run
    assert [one.merge_ratio for one in configs] == [None, 0.5, None, 1.0]
    assert [one.policies for one in configs] == [["second"], ["merged"], ["first"], ["merged"]]


def test_power_is_told_beforehand(ask: Any) -> None:
    text = foresee("safety win rate", 0.6, 83, Outcome.yes_no, ask(), 11)
    assert text.startswith("83 prompts certify safety win rate ≥ 0.6 for a policy with a true 0.7 in ")
    assert text.endswith(f"; 80% takes about {count_prompts(0.6, 0.7, 1 - 0.95, Outcome.yes_no, 0.8)} prompts.")


def test_figures_are_the_same_bytes_and_show_thresholds_bounds_and_the_chosen_policy(choice: Choice) -> None:
    drawn = replace(choice, axis="β")
    first = draw_choice(drawn)
    assert first == draw_choice(drawn)
    assert first["png"].startswith(b"\x89PNG")
    assert b"</svg>" in first["svg"]
    above, below = draw_tested(choice).axes
    lines = {str(line.get_label()): line for line in above.get_lines()}
    assert list(lines["threshold 0.6"].get_ydata()) == [0.6, 0.6]
    assert list(lines["certified"].get_xdata()) == [1.0, 0.5]
    assert list(lines["not certified"].get_xdata()) == [0.25]
    bounds = [row.findings[0].bound for row in choice.tested]
    assert list(lines["lower 95 % bound, each by itself"].get_ydata()) == bounds
    assert [bound >= 0.6 for bound in bounds] == [True, True, False]
    marked = [line for axes in (above, below) for line in axes.get_lines() if line.get_linewidth() == 6]
    assert [line.get_xdata()[0] for line in marked] == [0.5, 0.5]


def test_a_report_has_a_row_per_policy_and_the_sentence(choice: Choice) -> None:
    section = choice_section(StoredChoice(choice, b"<svg/>", 0), 1)
    assert [row[1] for row in section.rows[1:]] == ["certified", "chosen", "–"]
    assert " ".join(section.note.split()) == choice.sentence
    assert max(map(len, section.note.splitlines())) < 120
    article = describe_choice(StoredChoice(choice, b"<svg/>", 1))
    assert [image.get("src") for image in article.iter("img")] == ["data:image/svg+xml;base64,PHN2Zy8+"]
    assert str(article.findtext("p")).startswith("With this judge and these prompts another choice was made")


def test_a_choice_is_stored_once_and_knows_of_others(tmp_path: Path, ask: Any) -> None:
    store, findings = Store(tmp_path), search(make_family(), ask())
    folder = store_choice(store, findings, ask())
    assert store_choice(store, findings, ask()) == folder
    assert count_others(store, folder) == 0
    stricter = ask(threshold=0.65)
    assert store_choice(store, search(make_family(), stricter), stricter) != folder
    assert count_others(store, folder) == 1
    ((key, stored),) = collect_choices(store).items()
    assert key == tuple(LABELS[name] for name in SHARED)
    assert [(entry.choice.question["threshold"], entry.others) for entry in stored] == [(0.6, 1), (0.65, 1)]


def test_a_choice_is_read_as_it_was_written(tmp_path: Path, choice: Choice) -> None:
    unknown = replace(choice, rate=Estimate(1.0, math.nan, math.nan, 1))
    for place, written in enumerate((choice, replace(choice, chosen=None, rate=None), unknown)):
        path = tmp_path / f"{place}.json"
        path.write_bytes(written.to_json())
        assert repr(read_choice(path)) == repr(written)  # NaN equals nothing
