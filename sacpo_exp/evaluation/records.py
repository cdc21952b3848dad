"""The format of stored responses, scores and verdicts: one JSON object per line."""

import json
from pathlib import Path
from typing import Any

RESPONSES, SCORES = "responses.jsonl", "scores.jsonl"
VERDICTS, DIVERGENCE = "verdicts.jsonl", "divergence.jsonl"


def write_records(path: Path, records: list[dict[str, Any]]) -> None:
    """Write one record per line."""
    path.write_bytes("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode())


def read_records(path: Path) -> list[dict[str, Any]]:
    """Read the records that `write_records` wrote."""
    with path.open(encoding="utf-8", newline="\n") as file:  # a response may hold other characters that end lines
        return [json.loads(line) for line in file]


def read_by_prompt(path: Path) -> dict[str, dict[str, Any]]:
    """Read records by prompt id."""
    return {record["prompt_id"]: record for record in read_records(path)}
