"""Commands with trackers, in processes of their own; packages of trackers, in folders of their own."""

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from tiny import SCORER, TINY

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
    foreign = ("WANDB_", "MLFLOW_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    paths = [str(Path(__file__).parents[2]), *([str(packages)] if packages else [])]
    # Whoever runs the tests may have logged in to wandb.
    environment |= {"PYTHONPATH": os.pathsep.join(paths), "NETRC": os.devnull, **variables}
    plan = {"train": TINY, "eval": [*TINY, *SCORER], "report": []}[command]
    line = [sys.executable, "-m", f"sacpo_exp.{command}", *plan, f"paths.outputs={outputs}", *overrides]
    return subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def output_of(process: "subprocess.Popen[str]") -> str:
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return output


def query(database: Path, sql: str) -> list[tuple[object, ...]]:
    """Rows of a database that another process may be writing."""
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            return connection.execute(sql).fetchall()
    except sqlite3.OperationalError:  # no such file or table yet
        return []


def wait_for_update(database: Path, update: int, process: "subprocess.Popen[str]") -> None:
    """Until MLflow's database has the loss of a later update."""
    for _ in range(3000):
        if query(database, f"SELECT 1 FROM metrics WHERE key = 'loss' AND step > {update} LIMIT 1"):
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    raise AssertionError("no curve appeared")
