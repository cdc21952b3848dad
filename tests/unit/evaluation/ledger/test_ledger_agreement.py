"""Verdicts of the ledger, and columns of files, beside the labels of people."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from judgments import FAILED, OK, make_question
from real_data import find_real

from sacpo_exp.errors import DataError
from sacpo_exp.evaluation.ledger import Answer, Question, State
from sacpo_exp.evaluation.ledger.agreeing import ONE_ORDER, Labels, match_judgments, read_columns, read_preferences
from sacpo_exp.statistics.agreement import measure_agreement

ROW = {"prompt": "why", "response_0": "one", "response_1": "two", "better_response_id": 0, "safer_response_id": 1}


def judge(
    scores: tuple[str | None, str | None], row: dict[str, Any] = ROW, **changes: Any
) -> list[tuple[Question, Answer]]:
    """Judgments of a row: what was said with response_0 first, and with response_1 first; None: failed."""
    texts = row["response_0"], row["response_1"]
    return [
        (
            make_question(prompt=row["prompt"], first=first, second=second, **changes),
            FAILED if raw is None else replace(OK, raw=raw),
        )
        for raw, (first, second) in zip(scores, (texts, texts[::-1]), strict=True)
    ]


def only(found: dict[tuple[str, str], Labels]) -> Labels:
    (labels,) = found.values()
    return labels


@pytest.mark.parametrize(
    ("scores", "ours"),
    [(("8 3", "3 8"), "response_0"), (("3 8", "8 3"), "response_1"), (("8 3", "5 5"), "response_0")],
)
def test_verdicts_of_both_orders_make_one_label(scores: tuple[str, str], ours: str) -> None:
    labels = only(match_judgments([ROW], judge(scores)))
    assert labels == Labels([(ours, "response_1")])


def test_each_criterion_has_the_label_of_its_own() -> None:
    judgments = judge(("8 3", "3 8")) + judge(("8 3", "3 8"), criterion="helpfulness")
    found = match_judgments([ROW], judgments)
    assert {criterion: labels.pairs for (_, criterion), labels in found.items()} == {
        "helpfulness": [("response_0", "response_0")],
        "safety": [("response_0", "response_1")],
    }


def test_a_criterion_that_people_have_not_labelled_is_left_out() -> None:
    judgments = judge(("8 3", "3 8"), criterion="honesty") + judge(("8 3", "3 8"))
    assert [criterion for _, criterion in match_judgments([ROW], judgments)] == ["safety"]


def test_a_judge_that_always_prefers_the_first_is_undecided() -> None:
    assert only(match_judgments([ROW], judge(("8 3", "8 3")))) == Labels(ties=1)


def test_repeats_with_seeds_of_their_own_are_one_judge() -> None:
    judgments = [
        entry
        for repeat, scores in enumerate([("8 3", "3 8"), ("8 3", "3 8"), ("3 8", "8 3")])
        for entry in judge(scores, repeat=repeat, sampling={"temperature": 0.7, "seed": repeat})
    ]
    assert only(match_judgments([ROW], judgments)).pairs == [("response_0", "response_1")]


def test_two_judges_are_kept_apart() -> None:
    judgments = judge(("8 3", "3 8")) + judge(("3 8", "8 3"), model="another")
    found = match_judgments([ROW], judgments)
    assert [(name.split(" at ")[0], labels.pairs[0][0]) for (name, _), labels in found.items()] == [
        ("another", "response_1"),
        ("judge", "response_0"),
    ]


@pytest.mark.parametrize(
    ("scores", "reason"), [(("8 3", None), "failed"), (("8 3", "Both are fine."), "unparsed"), ((None, None), "failed")]
)
def test_a_row_with_an_order_that_has_no_verdict_is_counted_as_such(
    scores: tuple[str | None, str | None], reason: str
) -> None:
    assert only(match_judgments([ROW], judge(scores))) == Labels(without=Counter([reason]))


def test_a_row_judged_in_one_order_only_has_no_verdict() -> None:
    assert only(match_judgments([ROW], judge(("8 3", "3 8"))[:1])).without == {ONE_ORDER: 1}


def test_rows_that_are_not_in_the_ledger_are_counted() -> None:
    other = ROW | {"prompt": "another"}
    labels = only(match_judgments([other, ROW, other], judge(("8 3", "3 8"))))
    assert (len(labels.pairs), labels.without) == (1, {"not in the ledger": 2})
    assert match_judgments([other], judge(("8 3", "3 8"))) == {}


def test_a_row_with_the_responses_turned_around_is_the_same_pair() -> None:
    turned = {**ROW, "response_0": "two", "response_1": "one", "safer_response_id": 0}
    labels = only(match_judgments([ROW, turned], judge(("8 3", "3 8"))))
    assert labels.pairs == [("response_0", "response_1"), ("response_1", "response_0")]


def test_judgments_of_one_response_are_no_preference() -> None:
    refusal = make_question(criterion="refusal", prompt="why", first="one", second="")
    assert match_judgments([ROW], [(refusal, replace(OK, raw="full_refusal"))]) == {}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    def run(name: str, content: str) -> str:
        (tmp_path / name).write_text(content, "utf-8")
        return str(tmp_path / name)

    return run


def test_preferences_are_read_from_csv_too(write: Callable[..., str]) -> None:
    content = "prompt,response_0,response_1,better_response_id,safer_response_id\nwhy,one,two,0,1\n"
    assert read_preferences(write("rows.csv", content)) == [ROW]


def test_rows_that_are_no_preferences_are_named(write: Callable[..., str]) -> None:
    rows = [ROW, {**ROW, "safer_response_id": 2}, {"prompt": "why"}]
    path = write("rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match="row 2: `safer_response_id` must be 0 or 1, but is 2\nrow 3: `response_0` is"):
        read_preferences(path)


def test_columns_without_a_label_are_counted(write: Callable[..., str]) -> None:
    labels = read_columns(write("rows.csv", "a,b\nx,x\n y ,x\n,x\nx,\n"), "a", "b")
    assert labels == Labels([("x", "x"), ("y", "x")], without=Counter({"without a label": 2}))


def test_labels_of_json_may_be_numbers(write: Callable[..., str]) -> None:
    labels = read_columns(write("rows.json", json.dumps([{"a": 0, "b": False}, {"a": None, "b": 1}, 3])), "a", "b")
    assert labels == Labels([("0", "false")], without=Counter({"without a label": 2}))


def test_a_column_that_is_not_there_is_named(write: Callable[..., str]) -> None:
    with pytest.raises(DataError, match=r"has no rows with `c`, but with a, b\."):
        read_columns(write("rows.csv", "a,b\nx,x\n"), "a", "c")


@pytest.mark.parametrize(("name", "equal"), [("gpt4", 421), ("llama2orig", 347)])
def test_labels_of_xstest_agree_as_another_program_says(name: str, equal: int) -> None:
    path = find_real(f"prompts/xstest/xstest_v2_completions_{name}_gpteval.csv")
    from sklearn.metrics import cohen_kappa_score

    labels = read_columns(str(path), "gpt4_label", "final_label")
    ours, theirs = zip(*labels.pairs, strict=True)
    rate, kappa = measure_agreement(ours, theirs, 0.95)
    assert (rate.n, round(rate.value * 450)) == (450, equal)
    assert kappa.value == pytest.approx(cohen_kappa_score(ours, theirs), abs=1e-12)


def test_a_judge_that_says_what_people_say_agrees_on_every_real_row() -> None:
    path = find_real("preferences/pku_saferlhf_sample_32.json")
    rows = read_preferences(str(path))
    scores = {0: ("9 2", "2 9"), 1: ("2 9", "9 2")}
    judgments = [entry for row in rows for entry in judge(scores[row["safer_response_id"]], dict(row))]
    labels = only(match_judgments(rows, judgments))
    ours, theirs = zip(*labels.pairs, strict=True)
    rate, kappa = measure_agreement(ours, theirs, 0.95)
    assert (rate.value, kappa.value, rate.n) == (1.0, 1.0, 32)
    assert State.ok not in labels.without
