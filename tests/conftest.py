"""Fixtures shared by all tests: the checkout, composed configurations, and the real command line."""

import gc
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import composing
import processes
import pytest
from hypothesis import settings
from tiny import write_lines

from sacpo_exp.config.messages import translated_errors
from sacpo_exp.data.demo import generate_rows
from sacpo_exp.errors import ConfigError

settings.register_profile("suite", max_examples=30, deadline=None)
settings.load_profile("suite")

#: Files that take longest, in the order in which two workers best begin with them.
LONGEST = ("test_sharding", "test_oracle", "test_objective", "test_command_line", "test_tracking", "test_hub")
LONGEST += ("test_asked_evaluation", "test_choosing", "test_experiments", "test_composition", "test_training")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONGEST)))


@dataclass(frozen=True)
class Result:
    """How a command ended and what it printed."""

    code: int
    stdout: str
    stderr: str


@pytest.fixture(scope="module", autouse=True)
def _frozen() -> None:
    """Take what has been imported by now out of the look for cycles, which is taken after every stage."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def repo() -> Path:
    """Root of the checkout."""
    return processes.REPO


@pytest.fixture(scope="session")
def forks() -> Iterator["subprocess.Popen[str]"]:
    """A process that runs commands in forks of itself."""
    command, pipes = [sys.executable, processes.__file__], {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=processes.environment(), text=True, **pipes) as process:
        yield process
        process.communicate()


@pytest.fixture
def cli(forks: "subprocess.Popen[str]", tmp_path: Path) -> Callable[..., Result]:
    """`cli("train", "beta=0.1")` runs `sacpo train beta=0.1` in an empty folder.

    `light=True` also fails the command when it imports torch or anything else that is heavy. Otherwise it is a fork of
    this process, which has imported that, unless it has variables of its own, which libraries read when imported.
    """

    def run_light(request: dict[str, Any]) -> int:
        assert forks.stdin is not None
        assert forks.stdout is not None
        forks.stdin.write(json.dumps(request) + "\n")
        forks.stdin.flush()
        return int(forks.stdout.readline())

    def run(
        *words: str, light: bool = False, allowed: Sequence[str] = (), variables: dict[str, str] | None = None
    ) -> Result:
        with TemporaryDirectory() as folder:
            files = {name: f"{folder}/{name}" for name in ("output", "errors")}
            if not light and not variables and "torch" in sys.modules:
                process = processes.fork_command(tmp_path, *words, variables=processes.environment(), **files)
                process.join()
                code = process.exitcode or 0
            else:
                request = {"variables": processes.environment(**(variables or {})), "words": words, **files}
                banned = sorted(processes.HEAVY - set(allowed)) if light else []
                code = run_light(request | {"folder": str(tmp_path), "banned": banned})
            return Result(code, *(Path(file).read_text("utf-8") for file in files.values()))

    return run


@pytest.fixture(scope="session")
def configure() -> Callable[..., Any]:
    """`configure("beta=0.1", command="eval")` gives the checked configuration, as the command itself would see it."""

    def run(*overrides: str, command: str = "train") -> Any:
        with translated_errors(command):
            return composing.configure(command, *overrides)

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
    return write_lines(tmp_path / "rows.jsonl", generate_rows("heldout", 0))
