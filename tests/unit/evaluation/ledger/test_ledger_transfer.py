"""Exports hold everything, and imports let nothing wrong in."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from judgments import FAILED, OK, make_question

from sacpo_exp.errors import ConfigError, DataError
from sacpo_exp.evaluation.ledger import Ledger, State
from sacpo_exp.evaluation.ledger.transfer import export_judgments, import_judgments


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """With judgments of every state."""
    with Ledger(tmp_path / "ledger.sqlite") as opened:
        opened.record(make_question("ok ≥ 道"), replace(OK, prompt_tokens=10, seconds=0.125))
        opened.record(make_question("unparsed", repeat=2), replace(OK, state=State.unparsed, raw="<b>"))
        opened.record(make_question("refused", second=""), replace(OK, state=State.refused, raw=None))
        opened.record(make_question("failed"), FAILED)
        yield opened


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "other.sqlite") as opened:
        yield opened


@pytest.mark.parametrize("name", ["all.jsonl", "all.jsonl.gz"])
def test_an_export_is_imported_as_it_was_and_once(ledger: Ledger, other: Ledger, tmp_path: Path, name: str) -> None:
    assert export_judgments(ledger, tmp_path / name) == 4
    assert import_judgments(other, tmp_path / name) == {"added": 4}
    assert import_judgments(other, tmp_path / name) == {"kept": 4}
    assert list(other.judgments()) == list(ledger.judgments())


def test_an_import_completes_what_had_failed_and_keeps_what_is_there(
    ledger: Ledger, other: Ledger, tmp_path: Path
) -> None:
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
    "no JSON": (lambda _: "{", "`the line`: Invalid JSON"),
    "no object": (lambda row: json.dumps([row]), "`the line`: "),
    "without a key": (put(key=None), "`key` must be the hash .*, but is None"),
    "another text": (put(messages=[["user", "Say 10 1."]]), "`key` must be the hash"),
    "another repeat": (put(repeat=1), "`key` must be the hash"),
    "without a text": (put(second=None), "`second`: Input should be a valid string"),
    "a text as seconds": (put(seconds="long"), "`seconds`: Input should be a valid number"),
    "bad messages": (put(messages=[["user"]]), r"`messages\.0\.1`: Field required"),
    "bad state": (put(state="great"), "`state`: Input should be 'ok', 'unparsed', 'refused' or 'failed'"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_wrong_row_is_named_and_nothing_is_imported(ledger: Ledger, other: Ledger, tmp_path: Path, case: str) -> None:
    change, message = BAD_ROWS[case]
    path = tmp_path / "all.jsonl"
    export_judgments(ledger, path)
    lines = path.read_text().splitlines()
    row = next(json.loads(line) for line in lines if json.loads(line)["prompt_id"] == "id-failed")
    path.write_text("\n".join([*lines, change(row)]))
    with pytest.raises(DataError, match=f"{path}, row 5: {message}"):
        import_judgments(other, path)
    assert list(other.judgments()) == []


def test_an_export_that_is_cut_off_is_refused_whole(ledger: Ledger, other: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "all.jsonl.gz"
    export_judgments(ledger, path)
    for content in (path.read_bytes()[:-20], b"plain"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="cut off or damaged"):
            import_judgments(other, path)
    assert list(other.judgments()) == []
