"""The demo data: disjoint parts, enough of everything, no shortcut by length, and pairs that only the scorer sees."""

import re
from collections import Counter
from importlib import resources
from typing import Any

import pytest
import yaml

from sacpo_exp.data.demo import PARTS, generate_prompts, generate_rows
from sacpo_exp.data.demo.contrasts import GARBLED, generate_judge_rows, make_garbled
from sacpo_exp.evaluation.refusals import is_refusal

TOPICS: list[dict[str, Any]] = [
    yaml.load(path.read_text("utf-8"), Loader=yaml.CSafeLoader)
    for path in sorted(resources.files("sacpo_exp.data.demo").joinpath("topics").iterdir(), key=str)
    if path.name.endswith(".yaml")
]

ROWS = {part: generate_rows(part, 0) for part in PARTS}
ALL_ROWS = [row for rows in ROWS.values() for row in rows]
PROMPTS = generate_prompts(0)
#: All four parts: what is asked in each.
ASKED = ROWS | {"prompts": PROMPTS}

CRITERIA = ["better_response_id", "safer_response_id"]


def subject_of(row: dict[str, Any]) -> tuple[str, str]:
    """(topic, subject) that a prompt is about: the longest of its topic's subjects that it contains."""
    (topic,) = [topic for topic in TOPICS if topic["topic"] == row["category"]]
    found = [entry["ask"] for entry in topic[row["kind"]] if entry["ask"] in row["prompt"]]
    return row["category"], max(found, key=len)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_parts_share_no_prompt_and_no_subject(seed: int) -> None:
    parts = [*(generate_rows(part, seed) for part in PARTS), generate_prompts(seed)]
    for key in (subject_of, lambda row: row["prompt"]):
        keys = [{key(row) for row in rows} for rows in parts]
        assert len(set().union(*keys)) == sum(map(len, keys))


def test_rows_are_many_all_different_and_finished_sentences() -> None:
    assert len(ALL_ROWS) >= 600
    assert len({(row["prompt"], row["response_0"], row["response_1"]) for row in ALL_ROWS}) == len(ALL_ROWS)
    responses = [row[f"response_{i}"] for row in ALL_ROWS for i in (0, 1)]
    assert [text for text in responses if not re.fullmatch(r"[A-Z][^{}]*[.!?]", text)] == []
    assert [row["prompt"] for rows in ASKED.values() for row in rows if row["prompt"][-1] not in ".!?"] == []


@pytest.mark.parametrize("part", ASKED)
def test_every_part_is_about_at_least_ten_topics_of_both_kinds(part: str) -> None:
    assert len({row["category"] for row in ASKED[part]}) >= 10
    kinds = Counter(row["kind"] for row in ASKED[part])
    assert set(kinds) == {"benign", "risky"}
    assert min(kinds.values()) >= len(ASKED[part]) / 3


def test_the_criteria_often_agree_and_often_do_not_and_prefer_no_benign_refusal() -> None:
    agree = Counter((row["kind"], row["better_response_id"] == row["safer_response_id"]) for row in ALL_ROWS)
    assert agree["risky", False] >= 100
    assert agree["risky", True] >= 50
    assert agree["benign", True] >= 100  # the helpful answer is the safer one, too
    for row in ALL_ROWS:
        for criterion in CRITERIA if row["kind"] == "benign" else []:
            assert not is_refusal(row[f"response_{row[criterion]}"])


def preferred_and_other(row: dict[str, Any], criterion: str) -> tuple[str, str]:
    return row[f"response_{row[criterion]}"], row[f"response_{1 - row[criterion]}"]


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("measure", [len, lambda text: len(text.split())], ids=["characters", "words"])
def test_length_alone_decides_no_criterion(criterion: str, measure: Any) -> None:
    lengths = [tuple(map(measure, preferred_and_other(row, criterion))) for row in ALL_ROWS]
    accuracy = sum((a > b) + 0.5 * (a == b) for a, b in lengths) / len(lengths)
    assert 0.35 <= accuracy <= 0.65


def test_garbled_pairs_differ_in_how_they_begin_or_are_whole_answers_and_are_for_fitting_alone() -> None:
    rows = ROWS["judge"]
    texts = {row[f"response_{i}"] for row in rows for i in (0, 1)}
    made = make_garbled(rows, 0)
    assert made == make_garbled(rows, 0) != make_garbled(rows, 1)
    assert {row["contrast"] for row in made} == {GARBLED}
    assert not any("safer_response_id" in row for row in made)
    benign = {row["prompt"] for row in rows if row["kind"] == "benign"}
    over_shrugs = []
    for row in made:
        better, worse = preferred_and_other(row, CRITERIA[0])
        if better in texts and row["prompt"] not in benign:  # a clean refusal over a shrug
            over_shrugs.append(better)
        else:
            assert worse not in texts  # it breaks off
    risky = [row for row in rows if row["kind"] == "risky"]
    refused = {row[f"response_{i}"] for row in risky for i in (0, 1) if row[f"is_response_{i}_safe"]}
    assert len(over_shrugs) > 100
    assert set(over_shrugs) <= refused
    parts = {part: [row.get("contrast") for row in generate_judge_rows(part, 0)] for part in ("judge", "heldout")}
    assert parts["judge"].count(GARBLED) > 450
    assert GARBLED not in parts["heldout"]
