"""Commands with trackers, in processes of their own; packages of trackers, in folders of their own."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

from processes import REPO, start_command, wait_until
from tiny import SCORER, TINY


def run_folders(outputs: Path) -> dict[str, Path]:
    """Folders of offline runs by run id; of a run in several pieces the newest."""
    return {path.name.split("-", 3)[3]: path for path in sorted((outputs / "wandb").glob("offline-run-*"))}


@cache
def read_run(folder: Path) -> list[dict[str, Any]]:
    """Records of an offline run that has ended."""
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


BIN = Path(sys.executable).parent
ONE_STAGE = ["base=none", "order=helpful_only"]
LONG = [*ONE_STAGE, "stages.helpfulness.num_train_epochs=60"]


def install(folder: Path, *requirements: str) -> Path:
    """Packages in a folder of their own, to be put on the path: what is installed here stays as it is."""
    frozen = subprocess.run([BIN / "uv", "pip", "freeze", "--python", sys.executable], capture_output=True, text=True)
    ours = [line for line in frozen.stdout.splitlines() if "==" in line and not line.startswith(("pillow", "certifi"))]
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(ours), "utf-8")
    command = [BIN / "uv", "pip", "install", "-q", "--python", sys.executable, "--target", folder / "packages"]
    subprocess.run([*command, "--constraint", constraints, *requirements], check=True)
    return folder / "packages"


def start(
    outputs: Path, *overrides: str, command: str = "train", packages: Path | None = None, **variables: str
) -> "subprocess.Popen[str]":
    """A command of ours on the tiny plan, with `packages` on its path and no tracker's variables but `variables`."""
    paths = [str(REPO), *([str(packages)] if packages else [])]
    # Whoever runs the tests may have logged in to wandb.
    variables = {"PYTHONPATH": os.pathsep.join(paths), "NETRC": os.devnull} | variables
    plan = TINY if command == "train" else [*TINY, *SCORER]
    outputs.mkdir(parents=True, exist_ok=True)
    return start_command(outputs, command, *plan, f"paths.outputs={outputs}", *overrides, **variables)


def query(database: Path, sql: str) -> list[tuple[object, ...]]:
    """Rows of a database that another process may be writing."""
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            return connection.execute(sql).fetchall()
    except sqlite3.OperationalError:  # no such file or table yet
        return []


def wait_for_update(database: Path, update: int, process: "subprocess.Popen[str]") -> None:
    """Until MLflow's database has the loss of a later update."""
    sql = f"SELECT 1 FROM metrics WHERE key = 'loss' AND step > {update} LIMIT 1"
    wait_until(lambda: query(database, sql), process)
