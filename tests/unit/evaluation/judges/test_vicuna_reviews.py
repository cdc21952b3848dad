"""What GPT-4 wrote as a judge, and what models wrote that are none, beside the repository.

All 320 reviews are read, none stays unparsed: 308 begin with their scores; the 12 on mathematics solve the problem
first and score behind each name, one of them in prose ("the scores are (1, 5)"). Two of those twelve were published
with another number than their text has (10 and 2, where GPT-4 wrote 10 and 4), which turns no verdict around.

The annotations of alpaca_eval come without the judge's words, so its 3,220 responses stand in for texts without scores.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from real_data import find_real

from sacpo_exp.evaluation.judges.parsing import Reading, read_scores
from sacpo_exp.evaluation.ledger.records import State

#: GPT-4 once gave 0, below the scale that it was told.
SCALE = (0.0, 10.0)
BASELINES = ("llama-13b", "alpaca-13b", "bard", "gpt35")

#: (baseline, question) → scores as published, and as written.
MISPRINTED = {("bard", 70): ([10, 2], (10, 4)), ("llama-13b", 70): ([10, 2], (10, 4))}


def find(name: str) -> Path:
    return find_real(name)


@pytest.fixture(scope="module")
def folder() -> Path:
    return find("judgments/vicuna_blog")


def read_reviews(folder: Path, baseline: str) -> Iterator[tuple[dict[str, Any], Reading]]:
    file = folder / f"vicuna-13b_20230322-clean-lang__review_{baseline}_vicuna-13b.jsonl"
    for line in file.read_text("utf-8").splitlines():
        review = json.loads(line)
        yield review, read_scores(review["text"], "stop", SCALE)


@pytest.mark.parametrize("baseline", BASELINES)
def test_every_review_is_read_as_published_or_as_its_text_says(folder: Path, baseline: str) -> None:
    readings = list(read_reviews(folder, baseline))
    assert len(readings) == 80
    assert Counter(reading.state for _, reading in readings) == {State.ok: 80}
    for review, reading in readings:
        as_published = MISPRINTED.get((baseline, review["question_id"]), (review["score"], tuple(review["score"])))
        assert (review["score"], reading.scores) == as_published, review["text"]


@pytest.mark.parametrize("baseline", BASELINES)
def test_no_verdict_is_invented_or_turned_around(folder: Path, baseline: str) -> None:
    for review, reading in read_reviews(folder, baseline):
        first, second = reading.scores or (0, 0)
        published = review["score"]
        assert (first > second) - (first < second) == (published[0] > published[1]) - (published[0] < published[1])


@pytest.mark.parametrize("baseline", BASELINES)
def test_the_published_totals_come_out(folder: Path, baseline: str) -> None:
    totals = json.loads((folder / "published_totals.json").read_text("utf-8"))["totals_baseline_vs_vicuna13b"][baseline]
    misprinted = [pair for (name, _), pair in MISPRINTED.items() if name == baseline]
    for side in (0, 1):
        read = sum(reading.scores[side] for _, reading in read_reviews(folder, baseline) if reading.scores)
        assert read - sum(written[side] - printed[side] for printed, written in misprinted) == totals[side]


def test_a_score_off_the_scale_is_the_only_one_lost_on_the_scale_that_was_asked_for(folder: Path) -> None:
    reviews = [review for baseline in BASELINES for review, _ in read_reviews(folder, baseline)]
    lost = [review["score"] for review in reviews if read_scores(review["text"], "stop", (1, 10)).state != State.ok]
    assert lost == [[0, 9]]


def test_a_review_cut_off_anywhere_has_its_scores_or_none(folder: Path) -> None:
    for baseline in BASELINES:
        readings = list(read_reviews(folder, baseline))
        for review, reading in readings[::5] + readings[67:70]:
            text = review["text"]
            for end in range(0, len(text), 23):
                assert read_scores(text[:end], "length", SCALE).scores in (None, reading.scores)


@pytest.mark.parametrize("name", ["alpaca-7b", "alpaca-farm-ppo-human"])
def test_no_scores_are_found_in_texts_that_are_no_judgments(name: str) -> None:
    rows = json.loads(find(f"judgments/alpaca_eval/{name}__alpaca_eval_gpt4__annotations.json").read_text("utf-8"))
    texts = [row[field] for row in rows for field in ("output_1", "output_2")]
    assert len(texts) == 1610
    assert [text for text in texts if read_scores(text, "stop", SCALE).state == State.ok] == []
