"""Exports hold everything, and imports let nothing wrong in; the `sacpo ledger` command."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from asked import FAILED, OK, make_question

from sacpo_exp.errors import ConfigError, DataError
from sacpo_exp.evaluation.ledger import Ledger, export_judgments, import_judgments
from sacpo_exp.evaluation.records import State


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """With judgments of every state."""
    with Ledger(tmp_path / "outputs" / "ledger.sqlite") as opened:
        usage = {"prompt_tokens": 100, "cached_tokens": 60, "completion_tokens": 5}
        opened.record(make_question("ok ≥ 道"), replace(OK, seconds=0.125, **usage))
        opened.record(make_question("unparsed", repeat=2), replace(OK, state=State.unparsed, raw="<b>"))
        opened.record(make_question("refused", second=""), replace(OK, state=State.refused, raw=None))
        opened.record(make_question("failed"), FAILED)
        yield opened


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "other.sqlite") as opened:
        yield opened


def test_the_command_counts_exports_and_imports(ledger: Ledger, cli: Any, tmp_path: Path) -> None:
    done = cli("ledger", "stats", light=True)
    assert done.code == 0, done.stderr
    assert "judge at http://localhost/v1, safety\n" in done.stdout
    assert "1 ok, 1 unparsed, 1 refused, 1 failed\n" in done.stdout
    assert "100 prompt (60 of them cached), 5 completion; 11 calls\n" in done.stdout
    assert "4 judgments in all.jsonl.gz" in cli("ledger", "export", "all.jsonl.gz", light=True).stdout
    done = cli("ledger", "import", "all.jsonl.gz", "--outputs", "other", light=True)
    assert (done.code, done.stdout) == (0, "4 added, 0 that had failed completed, 0 kept\n")
    with Ledger(tmp_path / "other" / "ledger.sqlite") as copy:
        assert list(copy.judgments()) == list(ledger.judgments())


MISSING = {"stats": "There is no ledger at outputs/ledger.sqlite", "import all.jsonl": "There is no file all.jsonl to"}


@pytest.mark.parametrize("arguments", MISSING)
def test_a_missing_file_is_told(cli: Any, arguments: str, tmp_path: Path) -> None:
    done = cli("ledger", *arguments.split(), light=True)
    assert done.code == 2
    assert done.stderr.startswith(f"error: {MISSING[arguments]}")
    assert list(tmp_path.iterdir()) == []


def test_an_import_completes_what_had_failed(ledger: Ledger, other: Ledger, tmp_path: Path) -> None:
    other.record(make_question("failed"), OK)
    other.record(make_question("ok ≥ 道"), replace(OK, raw="1 2"))
    other.record(make_question("unparsed", repeat=2), FAILED)
    export_judgments(other, tmp_path / "all.jsonl")
    before = {question.key: answer for question, answer in ledger.judgments()}
    assert import_judgments(ledger, tmp_path / "all.jsonl") == {"completed": 1, "kept": 2}
    assert {q.key: a for q, a in ledger.judgments()} == before | {make_question("failed").key: OK}


def test_an_export_that_fails_leaves_the_old_one(ledger: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "all.jsonl"
    path.write_text("old")
    ledger._database.execute("UPDATE judgments SET answer = '{}'")
    with pytest.raises(Exception, match="damaged"):
        export_judgments(ledger, path)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.glob("*all*")] == ["all.jsonl"]
    for wrong, message in (("ledger.sqlite", r"must be a \.jsonl"), ("nowhere/all.jsonl", "can't be written: No such")):
        with pytest.raises(ConfigError, match=message):
            export_judgments(ledger, tmp_path / wrong)


def put(**changes: Any) -> Callable[[dict[str, Any]], str]:
    return lambda row: json.dumps(row | changes)


BAD_ROWS: dict[str, tuple[Callable[[dict[str, Any]], str], str]] = {
    "no JSON": (lambda _: "{", "is not valid JSON lines: line 5"),
    "no object": (lambda row: json.dumps([row]), "row 5: `the line`: "),
    "without a key": (put(key=None), "row 5: `key` must be the hash .*, but is None"),
    "another text": (put(messages=[["user", "Say 10 1."]]), "row 5: `key` must be the hash"),
    "without a text": (put(second=None), "row 5: `second`: Input should be a valid string"),
    "bad messages": (put(messages=[["user"]]), r"row 5: `messages\.0\.1`: Field required"),
    "bad state": (put(state="great"), "row 5: `state`: Input should be 'ok', 'unparsed', 'refused' or 'failed'"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_wrong_row_is_named_and_nothing_is_imported(ledger: Ledger, other: Ledger, tmp_path: Path, case: str) -> None:
    spoil, message = BAD_ROWS[case]
    path = tmp_path / "all.jsonl"
    export_judgments(ledger, path)
    lines = path.read_text().splitlines()
    row = next(json.loads(line) for line in lines if json.loads(line)["prompt_id"] == "id-failed")
    path.write_text("\n".join([*lines, spoil(row)]))
    with pytest.raises(DataError, match=f"{path}.* {message}"):
        import_judgments(other, path)
    assert list(other.judgments()) == []
