"""Verdicts from judgments: orders are averaged, failures are never ties; records are kept line by line."""

from pathlib import Path
from typing import Any

import pytest
from damage import leave_old

from sacpo_exp.evaluation.records import call_tie, combine, compare, read_records, write_records
from sacpo_exp.store import Store


def single(is_first: bool, score: float, opponent: float) -> dict[str, Any]:
    return {"is_first": is_first} | compare(score, opponent)


def lost(is_first: bool, state: str) -> dict[str, Any]:
    return {"is_first": is_first, "state": state}


def test_the_higher_score_wins_and_equal_scores_and_texts_are_ties() -> None:
    assert [compare(*scores)["verdict"] for scores in ((8, 7), (7, 8), (7, 7))] == [1.0, 0.0, 0.5]
    assert call_tie()["verdict"] == 0.5
    assert "singles" not in call_tie()
    # A judge that always prefers the first answer decides nothing.
    verdict = combine([single(True, 9, 2), single(False, 2, 9)])
    assert (verdict["state"], verdict["verdict"], verdict["score"]) == ("ok", 0.5, 5.5)
    # Orders weigh alike though one has lost a repeat; simply averaged they would give 2/3.
    singles = [single(True, 9, 2), single(True, 9, 2), single(False, 2, 9), lost(False, "failed")]
    assert combine(singles)["verdict"] == 0.5


def test_without_a_whole_order_there_is_no_verdict_but_a_reason() -> None:
    for *states, expected in (("unparsed",) * 3, ("unparsed", "refused", "refused"), ("refused", "failed", "failed")):
        verdict = combine([single(True, 9, 2), single(True, 9, 2), *(lost(False, state) for state in states)])
        assert (verdict["state"], verdict["verdict"]) == (expected, None)
        assert len(verdict["singles"]) == 4


@pytest.mark.parametrize("mark", ["\r\n", "\u2028", "é"], ids=ascii)
def test_records_are_read_as_written(tmp_path: Path, mark: str) -> None:
    records = [{"response": f"one{mark}two"}, {"response": "three"}]
    write_records(tmp_path / "records.jsonl", records)
    assert read_records(tmp_path / "records.jsonl") == records


def test_responses_of_an_older_version_are_refused_in_one_sentence(cli: Any, tmp_path: Path) -> None:
    folder = leave_old(Store(tmp_path / "outputs" / "store"), kind="responses")
    result = cli("eval", "model=tiny", f"responses=[{folder}]", "baseline=old", "dry_run=true", light=True)
    assert result.code == 2
    assert "plan on" not in result.stdout
    assert result.stderr.splitlines()[-1] == (
        f"error: {folder} was written by another version. Try: the command or file that it was made from"
    )
