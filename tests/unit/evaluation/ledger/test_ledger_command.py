"""`sacpo ledger`: stats, reparse, export, import, agreement."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from judgments import FAILED, OK, make_question

from sacpo_exp.evaluation.ledger import Ledger, State

Command = Callable[..., Any]


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Where the command looks by itself; holds a judgment that an older parser could not read, and one that failed."""
    path = tmp_path / "outputs" / "ledger.sqlite"
    with Ledger(path) as opened:
        usage = {"prompt_tokens": 100, "cached_tokens": 60, "completion_tokens": 5}
        opened.record(make_question("a"), replace(OK, state=State.unparsed, **usage))
        opened.record(make_question("b"), FAILED)
    return path


def test_stats_tell_what_was_asked_and_what_came_of_it(ledger: Path, cli: Command) -> None:
    done = cli("ledger", "stats", light=True)
    assert done.code == 0, done.stderr
    assert "judge at http://localhost/v1, safety\n" in done.stdout
    assert "0 ok, 1 unparsed, 0 refused, 1 failed\n" in done.stdout
    assert "100 prompt (60 of them cached), 5 completion; 9 calls\n" in done.stdout
    assert f"{OK.created} to {OK.created}\n" in done.stdout
    assert str(ledger.relative_to(ledger.parents[1])) in done.stdout


def test_a_better_parser_costs_no_calls(ledger: Path, cli: Command) -> None:
    done = cli("ledger", "reparse", light=True)
    assert done.code == 0, done.stderr
    assert "1 unparsed -> ok\n1 of 1 judgments" in done.stdout
    with Ledger(ledger) as opened:
        assert {answer.state for _, answer in opened.judgments()} == {State.ok, State.failed}
        assert opened.find([make_question("a").key])[make_question("a").key].attempts == 1
    assert "0 of 1 judgments" in cli("ledger", "reparse").stdout


def test_an_export_is_imported_elsewhere(ledger: Path, cli: Command, tmp_path: Path) -> None:
    assert "2 judgments in all.jsonl.gz" in cli("ledger", "export", "all.jsonl.gz", light=True).stdout
    done = cli("ledger", "--outputs", "other", "import", "all.jsonl.gz", light=True)
    assert (done.code, done.stdout) == (0, "2 added, 0 that had failed completed, 0 were there\n")
    with Ledger(tmp_path / "other" / "ledger.sqlite") as other, Ledger(ledger) as opened:
        assert list(other.judgments()) == list(opened.judgments())
    again = cli("ledger", "import", "all.jsonl.gz", "--outputs", "other")
    assert again.stdout == "0 added, 0 that had failed completed, 2 were there\n"


def test_agreement_with_preferences_of_people(ledger: Path, cli: Command, tmp_path: Path) -> None:
    question = make_question("c", first="one", second="two")
    with Ledger(ledger) as opened:
        opened.record(question, OK)
        opened.record(replace(question, first="two", second="one"), replace(OK, raw="9 8"))
    row = {"prompt": question.prompt, "response_0": "one", "response_1": "two"}
    rows = [row | {"better_response_id": 0, "safer_response_id": label} for label in (0, 1)]
    (tmp_path / "rows.json").write_text(json.dumps([*rows, rows[0] | {"prompt": "unknown"}]))
    done = cli("ledger", "agreement", "rows.json", light=True)
    assert done.code == 0, done.stderr
    assert "judge at http://localhost/v1, default@0123456789ab" in done.stdout
    assert "safety of 3 rows\n" in done.stdout
    assert "agreement 0.500, 95% interval " in done.stdout
    assert "Cohen's κ 0.000, 95% interval " in done.stdout
    assert "1 ours response_1, theirs response_0\n" in done.stdout
    assert "1 not in the ledger\n" in done.stdout


def test_agreement_of_two_columns_needs_no_ledger(cli: Command, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("id,judge,people\n1,safe,safe\n2,safe,unsafe\n3,unsafe,unsafe\n4,,safe\n")
    done = cli("ledger", "agreement", "labels.csv", "--ours", "judge", "--theirs", "people", light=True)
    assert done.code == 0, done.stderr
    assert "labels.csv: judge beside people\n" in done.stdout
    assert "agreement 0.667" in done.stdout
    assert "Cohen's κ 0.400" in done.stdout
    assert "n = 3\n" in done.stdout
    assert "1 without a label\n" in done.stdout


def test_files_about_other_texts_are_told_as_such(ledger: Path, cli: Command, rows_file: Path) -> None:
    done = cli("ledger", "agreement", str(rows_file))
    assert done.code == 0
    assert f"of {rows_file} is in {ledger.relative_to(ledger.parents[1])}" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stats"], "There is no ledger at outputs/ledger.sqlite"),
        (["export", "all.jsonl"], "There is no ledger at outputs/ledger.sqlite"),
        (["import", "all.jsonl"], "There is no file all.jsonl to import."),
        (["agreement", "rows.csv", "--ours", "a"], "--ours and --theirs belong together"),
        (["agreement", "rows.csv", "--ours", "a", "--theirs", "b"], "rows.csv can't be read: No such file"),
    ],
)
def test_mistakes_end_in_a_sentence(cli: Command, arguments: list[str], message: str, tmp_path: Path) -> None:
    done = cli("ledger", *arguments, light=True)
    assert done.code == 2
    assert done.stderr.startswith(f"error: {message}")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_ledger_ends_in_a_sentence(ledger: Path, cli: Command) -> None:
    ledger.write_bytes(b"rubbish" * 1000)
    done = cli("ledger", "stats")
    assert done.code == 1
    assert done.stderr.startswith("error: outputs/ledger.sqlite is damaged (file is not a database).")
    assert done.stderr.count("\n") == 1
