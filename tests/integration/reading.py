"""What wandb wrote offline, read back by its own reader."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def run_folders(outputs: Path) -> dict[str, Path]:
    """Folders of offline runs by run id; of a run in several pieces the newest."""
    return {path.name.split("-", 3)[3]: path for path in sorted((outputs / "wandb").glob("offline-run-*"))}


def read_run(folder: Path) -> list[dict[str, Any]]:
    """Records of an offline run."""
    command = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def of_type(records: list[dict[str, Any]], kind: str) -> Iterator[dict[str, Any]]:
    return (record[kind] for record in records if record["type"] == kind)


def curves(records: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Logged values by name, in order."""
    found: dict[str, list[Any]] = {}
    for history in of_type(records, "history"):
        for name, value in history["item"].items():
            found.setdefault(name, []).append(value)
    return found
