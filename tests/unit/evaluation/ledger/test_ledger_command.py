"""`sacpo ledger`: stats, export, import, agreement."""

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
    """The ledger of the current folder: a judgment that could not be read, and one that failed."""
    path = tmp_path / "outputs" / "ledger.sqlite"
    with Ledger(path) as opened:
        usage = {"prompt_tokens": 100, "cached_tokens": 60, "completion_tokens": 5}
        opened.record(make_question("a"), replace(OK, state=State.unparsed, **usage))
        opened.record(make_question("b"), FAILED)
    return path


@pytest.mark.usefixtures("ledger")
def test_stats_print_states_and_tokens(cli: Command) -> None:
    done = cli("ledger", "stats", light=True)
    assert done.code == 0, done.stderr
    assert "judge at http://localhost/v1, safety\n" in done.stdout
    assert "0 ok, 1 unparsed, 0 refused, 1 failed\n" in done.stdout
    assert "100 prompt (60 of them cached), 5 completion; 9 calls\n" in done.stdout


def test_an_export_is_imported_elsewhere(ledger: Path, cli: Command, tmp_path: Path) -> None:
    assert "2 judgments in all.jsonl.gz" in cli("ledger", "export", "all.jsonl.gz", light=True).stdout
    done = cli("ledger", "import", "all.jsonl.gz", "--outputs", "other", light=True)
    assert (done.code, done.stdout) == (0, "2 added, 0 that had failed completed, 0 kept\n")
    with Ledger(tmp_path / "other" / "ledger.sqlite") as other, Ledger(ledger) as opened:
        assert list(other.judgments()) == list(opened.judgments())


def test_agreement_with_preferences_of_people(ledger: Path, cli: Command, tmp_path: Path) -> None:
    question = make_question("c", first="one", second="two")
    with Ledger(ledger) as opened:
        opened.record(question, OK)
        opened.record(replace(question, first="two", second="one"), replace(OK, raw="9 8"))
    row = {"prompt": question.prompt, "response_0": "one", "response_1": "two"}
    rows = [row | {"better_response_id": 0, "safer_response_id": label} for label in (0, 1)]
    (tmp_path / "rows.json").write_text(json.dumps([*rows, rows[0] | {"prompt": "unknown"}]))
    done = cli("ledger", "agreement", "rows.json")
    assert done.code == 0, done.stderr
    assert "judge at http://localhost/v1, default@0123456789ab" in done.stdout
    assert "agreement 0.500, 95% interval " in done.stdout
    assert "Cohen's κ 0.000, 95% interval " in done.stdout
    assert "safety of 3 rows, 1 of them without a verdict\n" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stats"], "There is no ledger at outputs/ledger.sqlite"),
        (["import", "all.jsonl"], "There is no file all.jsonl to import."),
    ],
)
def test_mistakes_end_in_a_sentence(cli: Command, arguments: list[str], message: str, tmp_path: Path) -> None:
    done = cli("ledger", *arguments, light=True)
    assert done.code == 2
    assert done.stderr.startswith(f"error: {message}")
    assert list(tmp_path.iterdir()) == []
