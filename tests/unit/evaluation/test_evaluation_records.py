"""Responses are kept line by line, whatever characters a policy writes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from damage import leave_old

from sacpo_exp.evaluation.contests import read_records, write_records
from sacpo_exp.store import Store


@pytest.mark.parametrize("mark", ["\n", "\r\n", "\u2028", "\u0085", "\u000b", "é"], ids=ascii)
def test_records_are_read_as_written(tmp_path: Path, mark: str) -> None:
    records = [{"response": f"one{mark}two"}, {"response": "three"}]
    write_records(tmp_path / "records.jsonl", records)
    assert read_records(tmp_path / "records.jsonl") == records


def test_responses_of_an_older_version_are_refused_in_one_sentence(cli: Callable[..., Any], tmp_path: Path) -> None:
    folder = leave_old(Store(tmp_path / "outputs" / "store"), kind="responses")
    result = cli("eval", "model=tiny", f"responses=[{folder}]", "baseline=old", "dry_run=true", light=True)
    assert (result.code, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1] == (
        f"error: {folder} was written by another version. Try: the command or file that it was made from"
    )
