"""Verdicts of the ledger beside the labels of people."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from judgments import FAILED, OK, make_question
from real_data import find_real

from sacpo_exp.errors import DataError
from sacpo_exp.evaluation.ledger import Answer, Question
from sacpo_exp.evaluation.ledger.agreement import match_judgments, read_preferences

ROW = {"prompt": "why", "response_0": "one", "response_1": "two", "better_response_id": 0, "safer_response_id": 1}


def judge(
    scores: tuple[str | None, str | None], row: dict[str, Any] = ROW, **changes: Any
) -> list[tuple[Question, Answer]]:
    """Judgments of a row: the answer with response_0 first, and with response_1 first; None: failed."""
    texts = row["response_0"], row["response_1"]
    return [
        (
            make_question(prompt=row["prompt"], first=first, second=second, **changes),
            FAILED if raw is None else replace(OK, raw=raw),
        )
        for raw, (first, second) in zip(scores, (texts, texts[::-1]), strict=True)
    ]


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        (("8 3", "3 8"), [("response_0", "response_1")]),
        (("3 8", "8 3"), [("response_1", "response_1")]),
        (("8 3", "5 5"), [("response_0", "response_1")]),
        (("8 3", "8 3"), []),  # a tie
        (("8 3", None), []),
        (("8 3", "Both are fine."), []),
    ],
)
def test_verdicts_of_both_orders_make_one_label(
    scores: tuple[str | None, str | None], expected: list[tuple[str, str]]
) -> None:
    unknown = ROW | {"prompt": "another"}
    assert list(match_judgments([unknown, ROW], judge(scores)).values()) == [expected]
    assert match_judgments([unknown], judge(scores)) == {}
    assert list(match_judgments([ROW], judge(scores)[:1]).values()) == [[]]  # judged in one order only


def test_criteria_and_judges_are_kept_apart_and_repeats_are_not() -> None:
    judgments = [
        *judge(("8 3", "3 8"), sampling={"temperature": 0.7, "seed": 0}),
        *judge(("3 8", "8 3"), repeat=1, sampling={"temperature": 0.7, "seed": 1}),
        *judge(("8 3", "3 8"), criterion="helpfulness"),
        *judge(("8 3", "3 8"), criterion="honesty"),  # people have not labelled it
        *judge(("3 8", "8 3"), model="another"),
    ]
    found = match_judgments([ROW], judgments)
    assert [(name.split(" at ")[0], criterion, len(each)) for (name, criterion), each in found.items()] == [
        ("another", "safety", 1),
        ("judge", "helpfulness", 1),
        ("judge", "safety", 0),  # its repeats say the opposite
    ]


def test_rows_that_are_no_preferences_are_named(tmp_path: Path) -> None:
    content = "prompt,response_0,response_1,better_response_id,safer_response_id\nwhy,one,two,0,1\n"
    (tmp_path / "rows.csv").write_text(content)
    assert read_preferences(str(tmp_path / "rows.csv")) == [ROW]
    rows = [ROW, {**ROW, "safer_response_id": 2}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match="row 2: `safer_response_id` must be 0 or 1, but is 2"):
        read_preferences(str(tmp_path / "rows.jsonl"))


def test_a_judge_with_people_s_preferences_agrees_on_every_real_row() -> None:
    rows = read_preferences(str(find_real("preferences/pku_saferlhf_sample_32.json")))
    scores = {0: ("9 2", "2 9"), 1: ("2 9", "9 2")}
    judgments = [entry for row in rows for entry in judge(scores[row["safer_response_id"]], dict(row))]
    (pairs,) = match_judgments(rows, judgments).values()
    assert len(pairs) == 32
    assert all(ours == theirs for ours, theirs in pairs)
