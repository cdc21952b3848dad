"""A choice as it is stored, drawn and reported."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from judged import make_candidate, make_records, wins
from sacpo_exp.studies.choosing.storing import choice_artifact, count_others, store_choice

from sacpo_exp.config.choosing import ChooseConfig
from sacpo_exp.reporting.choice_figure import draw_choice, draw_figure
from sacpo_exp.reporting.choices import (
    SHARED,
    Choice,
    StoredChoice,
    choice_section,
    collect_choices,
    describe_choice,
    read_choice,
)
from sacpo_exp.statistics.intervals import Estimate
from sacpo_exp.store import Store
from sacpo_exp.studies.choosing.answering import answer
from sacpo_exp.studies.choosing.search import search


@pytest.fixture(scope="module")
def config(configure: Callable[..., Any]) -> ChooseConfig:
    chosen: ChooseConfig = configure("threshold=0.6", command="choose")
    return chosen


def look(config: ChooseConfig) -> Any:
    rates = ((1.0, 0.9, 0.5), (0.5, 0.8, 0.7), (0.25, 0.5, 0.9), (0.0, 0.9, 0.9))
    family = [make_candidate(q, make_records(wins(83, safe), wins(60, helpful))) for q, safe, helpful in rates]
    return search(family, config)


@pytest.fixture(scope="module")
def choice(config: ChooseConfig) -> Choice:
    return answer(look(config), config)


def test_a_choice_is_read_as_it_was_written(tmp_path: Path, choice: Choice) -> None:
    unknown = replace(choice, rate=Estimate(1.0, math.nan, math.nan, 1))
    for place, written in enumerate((choice, replace(choice, chosen=None, rate=None), unknown)):
        path = tmp_path / f"{place}.json"
        path.write_bytes(written.to_json())
        assert repr(read_choice(path)) == repr(written)  # NaN equals nothing
        assert json.loads(path.read_text("utf-8"))["sentence"] == choice.sentence


def test_the_figure_shows_thresholds_bounds_and_the_chosen_policy(choice: Choice) -> None:
    above, below = draw_figure(choice).axes
    lines = {str(line.get_label()): line for line in above.get_lines()}
    assert list(lines["threshold 0.6"].get_ydata()) == [0.6, 0.6]
    assert list(lines["certified"].get_xdata()) == [1.0, 0.5]
    assert list(lines["not certified"].get_xdata()) == [0.25]
    bounds = [row.findings[0].bound for row in choice.tested]
    assert list(lines["lower 95 % bound, each by itself"].get_ydata()) == bounds
    assert [bound >= 0.6 for bound in bounds] == [True, True, False]
    marked = [line for axes in (above, below) for line in axes.get_lines() if line.get_linewidth() == 6]
    assert [line.get_xdata()[0] for line in marked] == [0.5, 0.5]
    assert below.get_xlabel() == "merge ratio q"


@pytest.mark.parametrize("axis", ["β", ""])
def test_figures_of_the_same_choice_are_the_same_bytes(choice: Choice, axis: str) -> None:
    number = {"β": 0.01, "": None}[axis]
    drawn = replace(
        choice,
        axis=axis,
        tested=tuple(replace(row, number=None if number is None else row.number or number) for row in choice.tested),
    )
    first = draw_choice(drawn)
    if axis:
        assert first == draw_choice(drawn)
    assert first["png"].startswith(b"\x89PNG")
    assert b"</svg>" in first["svg"]


def test_a_report_has_a_row_per_policy_and_the_sentence(choice: Choice) -> None:
    section = choice_section(StoredChoice(choice, b"<svg/>", "2026", 0), 1)
    marks = [row[1] for row in section.rows[1:]]
    assert marks == ["certified", "chosen", "–"]
    note = " ".join(section.note.split())
    assert note == " ".join([choice.sentence, *choice.notes])
    assert max(map(len, section.note.splitlines())) < 120
    described = describe_choice(StoredChoice(choice, b"<svg/>", "2026", 1))
    assert described["picture"] == "data:image/svg+xml;base64,PHN2Zy8+"
    assert described["notes"][-1].startswith("With this judge and these prompts another choice was made")


def test_a_choice_is_stored_once_and_knows_of_others(tmp_path: Path, config: ChooseConfig) -> None:
    store, findings = Store(tmp_path), look(config)
    folder = store_choice(store, findings, config)
    assert store_choice(store, findings, config) == folder
    assert count_others(store, folder) == 0
    stricter = replace(config, threshold=0.65)
    other = store_choice(store, look(stricter), stricter)
    assert other != folder
    assert count_others(store, folder) == 1
    (stored,) = collect_choices(store).values()
    assert [entry.choice.question["threshold"] for entry in stored] == [0.6, 0.65]
    assert [entry.others for entry in stored] == [1, 1]
    key = tuple(findings.looks[0].evaluation.labels[name] for name in SHARED)
    assert list(collect_choices(store)) == [key]


def test_what_does_not_change_an_answer_is_no_part_of_its_id(config: ChooseConfig) -> None:
    findings = look(config)
    same = replace(config, margin=0.05, dry_run=True)
    assert choice_artifact(findings, same).id == choice_artifact(findings, config).id
    assert choice_artifact(findings, replace(config, confidence=0.9)).id != choice_artifact(findings, config).id
