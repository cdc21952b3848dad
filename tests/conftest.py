"""Fixtures shared by all tests: the checkout, composed configurations, and the real command line."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import pytest

from sacpo_exp.cluster.commands import to_config
from sacpo_exp.config.loading import CONF, add_trainer_keys, register_schemas, register_trackers
from sacpo_exp.config.messages import SCHEMAS, translated_errors
from sacpo_exp.data.demo import generate_rows
from sacpo_exp.errors import ConfigError

REPO = Path(__file__).parents[1]

#: Set by launchers and users' shells; tests must not feel them.
FOREIGN = ("ACCELERATE_", "TORCHELASTIC_", "WANDB_", "RANK", "WORLD_SIZE", "LOCAL_RANK", "HYDRA_FULL_ERROR", "DS_")

#: What `--help`, `--cfg job`, `dry_run=true` and every mistake have to do without.
HEAVY = (
    "torch",
    "transformers",
    "trl",
    "datasets",
    "sklearn",
    "pandas",
    "seaborn",
    "mergekit",
    "accelerate",
    "peft",
    "bitsandbytes",
)

#: Runs `sacpo`, and fails when something heavy has been imported by its end.
RUN_LIGHT = f"""
import runpy, sys
try:
    runpy.run_module("sacpo_exp", run_name="__main__", alter_sys=True)
finally:
    if found := sorted(set({HEAVY!r}) & set(sys.modules)):
        raise SystemExit(f"imported {{', '.join(found)}}")
"""


@dataclass(frozen=True)
class Result:
    """How a command ended and what it printed."""

    code: int
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def repo() -> Path:
    """Root of the checkout."""
    return REPO


@pytest.fixture
def cli(tmp_path: Path) -> Callable[..., Result]:
    """`cli("train", "beta=0.1")` runs `sacpo train beta=0.1` in an empty folder.

    `light=True` also fails the command when it imports torch or anything else that is heavy.
    """

    def run(
        name: str, *arguments: str, light: bool = False, stdin: str = "", variables: dict[str, str] | None = None
    ) -> Result:
        command = [sys.executable, *(("-c", RUN_LIGHT) if light else ("-m", "sacpo_exp")), name]
        environment = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN)}
        environment |= {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(REPO)} | (variables or {})
        done = subprocess.run(
            [*command, *arguments],
            cwd=tmp_path,
            env=environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def configure() -> Callable[..., Any]:
    """`configure("beta=0.1", command="eval")` gives the checked configuration, as the command itself would see it."""
    register_schemas()
    composed: dict[tuple[str, ...], Any] = {}

    def run(*overrides: str, command: str = "train") -> Any:
        key = (command, *overrides)
        with translated_errors(CONF, command):
            if key not in composed:
                if command == "report":
                    register_trackers()
                    groups: Any = hydra.initialize(None, version_base="1.3")
                else:
                    groups = hydra.initialize_config_dir(str(CONF), version_base="1.3")
                with groups:
                    composed[key] = hydra.compose(command, [add_trainer_keys(override) for override in overrides])
            return to_config(composed[key], SCHEMAS[command], list(overrides))

    return run


@pytest.fixture(scope="session")
def problems_of(configure: Callable[..., Any]) -> Callable[..., list[str]]:
    """All sentences about what is wrong with these overrides."""

    def run(*overrides: str, command: str = "train") -> list[str]:
        with pytest.raises(ConfigError) as caught:
            configure(*overrides, command=command)
        return list(caught.value.problems)

    return run


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A folder that looks like a saved model from the outside."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    return folder


@pytest.fixture
def rows_file(tmp_path: Path) -> Path:
    """A file of preference rows in the schema of PKU-SafeRLHF."""
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in generate_rows("heldout", 0)), "utf-8")
    return path
