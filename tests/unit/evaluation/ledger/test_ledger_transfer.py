"""Exports hold everything, and imports let nothing wrong in."""

import gzip
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
        opened.record(make_question("ok"), replace(OK, prompt_tokens=10, seconds=0.125))
        opened.record(make_question("unparsed", repeat=2), replace(OK, state=State.unparsed, raw="<b>"))
        opened.record(make_question("refused", second=""), replace(OK, state=State.refused, raw=None))
        opened.record(make_question("failed"), FAILED)
        yield opened


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "other.sqlite") as opened:
        yield opened


@pytest.mark.parametrize("name", ["all.jsonl", "all.jsonl.gz"])
def test_the_way_out_and_back_changes_nothing(ledger: Ledger, other: Ledger, tmp_path: Path, name: str) -> None:
    path, again = tmp_path / name, tmp_path / f"again-{name}"
    assert export_judgments(ledger, path) == 4
    assert import_judgments(other, path) == {"added": 4}
    assert list(other.judgments()) == list(ledger.judgments())
    export_judgments(other, again)
    assert again.read_bytes() == path.read_bytes()


def test_an_import_repeated_changes_nothing(ledger: Ledger, tmp_path: Path) -> None:
    before = list(ledger.judgments())
    export_judgments(ledger, tmp_path / "all.jsonl")
    assert import_judgments(ledger, tmp_path / "all.jsonl") == {"kept": 4}
    assert list(ledger.judgments()) == before


def test_an_import_completes_what_had_failed_and_keeps_what_is_there(
    ledger: Ledger, other: Ledger, tmp_path: Path
) -> None:
    other.record(make_question("failed"), OK)
    other.record(make_question("ok"), replace(OK, raw="1 2"))
    other.record(make_question("unparsed", repeat=2), FAILED)
    export_judgments(other, tmp_path / "all.jsonl")
    before = {question.key: answer for question, answer in ledger.judgments()}
    assert import_judgments(ledger, tmp_path / "all.jsonl") == {"completed": 1, "kept": 2}
    assert {q.key: a for q, a in ledger.judgments()} == before | {make_question("failed").key: OK}


def test_a_name_that_says_nothing_of_lines_is_refused(ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must be a \.jsonl or \.jsonl\.gz file"):
        export_judgments(ledger, tmp_path / "ledger.sqlite")


def test_an_export_that_fails_leaves_the_old_one(ledger: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "all.jsonl"
    path.write_text("old")
    ledger._database.execute("UPDATE judgments SET state = 'great' WHERE repeat = 2")
    with pytest.raises(Exception, match="damaged"):
        export_judgments(ledger, path)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.glob("*all*")] == ["all.jsonl"]


def test_an_export_into_no_folder_is_refused(ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be written: No such file"):
        export_judgments(ledger, tmp_path / "nowhere" / "all.jsonl")


def drop(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda row: {key: value for key, value in row.items() if key != name}


def put(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda row: row | changes


BAD_ROWS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no object": (lambda row: [row], "must be an object, but is list"),
    "without a key": (drop("key"), "`key` must be the hash .*, but is None"),
    "another key": (put(key="0" * 64), "`key` must be the hash .*, but is '000"),
    "another model": (put(model="cheaper"), "`key` must be the hash"),
    "another text": (put(messages=[["user", "Say 10 1."]]), "`key` must be the hash"),
    "another repeat": (put(repeat=1), "`key` must be the hash"),
    "without a text": (drop("second"), "`second` is missing"),
    "a number as text": (put(prompt=3), "`prompt` must be a text, but is 3"),
    "a flag as count": (put(attempts=True), "`attempts` must be a count, but is True"),
    "a negative count": (put(prompt_tokens=-1), "`prompt_tokens` must be a count or null, but is -1"),
    "a huge count": (put(attempts=10**30), "`attempts` must be a count, but is 1000"),
    "a text as seconds": (put(seconds="1"), "`seconds` must be a number, but is '1'"),
    "a list as sampling": (put(sampling=[]), r"`sampling` must be an object, but is \[\]"),
    "bad messages": (put(messages=[["user"]]), "`messages` must hold pairs"),
    "bad scale": (put(scale=[1]), "`scale` must be two numbers"),
    "bad state": (put(state="great"), "`state` must be one of ok, unparsed, refused, failed, but is 'great'"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_wrong_row_is_named_and_nothing_is_imported(ledger: Ledger, other: Ledger, tmp_path: Path, case: str) -> None:
    change, message = BAD_ROWS[case]
    path = tmp_path / "all.jsonl"
    export_judgments(ledger, path)
    lines = path.read_text().splitlines()
    row = next(json.loads(line) for line in lines if json.loads(line)["prompt_id"] == "id-ok")
    path.write_text("\n".join([*lines, json.dumps(change(row))]))
    with pytest.raises(DataError, match=f"{path}, row 5: {message}"):
        import_judgments(other, path)
    assert list(other.judgments()) == []


def test_a_line_that_is_no_json_is_named(other: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "all.jsonl"
    path.write_text("{\n")
    with pytest.raises(DataError, match="row 1 is not an object of JSON: Expecting"):
        import_judgments(other, path)
    path.write_bytes(b"\xff\n")
    with pytest.raises(DataError, match="row 1 is not an object of JSON"):
        import_judgments(other, path)


def test_an_export_that_is_cut_off_is_refused_whole(ledger: Ledger, other: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "all.jsonl.gz"
    export_judgments(ledger, path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="cut off or damaged"):
        import_judgments(other, path)
    path.write_text("plain")
    with pytest.raises(DataError, match="cut off or damaged"):
        import_judgments(other, path)
    assert list(other.judgments()) == []


def test_lines_written_by_others_may_be_unescaped(ledger: Ledger, other: Ledger, tmp_path: Path) -> None:
    ledger.record(make_question("größer ≥ 道"), OK)
    export_judgments(ledger, tmp_path / "all.jsonl.gz")
    with gzip.open(tmp_path / "all.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    (tmp_path / "plain.jsonl").write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), "utf-8")
    assert import_judgments(other, tmp_path / "plain.jsonl") == {"added": 5}
    assert list(other.judgments()) == list(ledger.judgments())
