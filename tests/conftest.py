"""Fixtures shared by all tests: the checkout, composed configurations, and the real command line."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import composing
import pytest
from fork_server import HEAVY
from hypothesis import settings
from tiny import write_lines

from sacpo_exp.config.messages import translated_errors
from sacpo_exp.data.demo import generate_rows
from sacpo_exp.errors import ConfigError

settings.register_profile("suite", max_examples=30, deadline=None)
settings.load_profile("suite")

REPO = Path(__file__).parents[1]
FORK_SERVER = Path(__file__).with_name("fork_server.py")

#: Set by launchers and users' shells; tests must not feel them.
FOREIGN = ("ACCELERATE_", "TORCHELASTIC_", "WANDB_", "RANK", "WORLD_SIZE", "LOCAL_RANK", "HYDRA_FULL_ERROR", "DS_")


#: Files that take longest: with two workers they have to begin first.
LONGEST = ("test_experiments", "test_tracking", "test_composition", "test_sharding", "test_mirrored_run", "test_losses")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.stem not in LONGEST)


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


@pytest.fixture(scope="session")
def fork_server() -> Iterator["subprocess.Popen[str]"]:
    """A process that runs commands in forks of itself."""
    environment = os.environ | {"PYTHONPATH": str(REPO), "HF_HUB_OFFLINE": "1"}
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, str(FORK_SERVER)], env=environment, **pipes) as process:
        yield process
        process.communicate()


@pytest.fixture
def cli(fork_server: "subprocess.Popen[str]", tmp_path: Path) -> Callable[..., Result]:
    """`cli("train", "beta=0.1")` runs `sacpo train beta=0.1` in an empty folder.

    `light=True` also fails the command when it imports torch or anything else that is heavy. It is forked
    from `fork_server`, or started anew where it has a PYTHONPATH of its own.
    """

    def run(
        *arguments: str, light: bool = False, allowed: Sequence[str] = (), variables: dict[str, str] | None = None
    ) -> Result:
        variables = variables or {}
        environment = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN)}
        environment |= {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(REPO)} | variables
        if "PYTHONPATH" in variables:
            command = [sys.executable, str(FORK_SERVER), *arguments]
            done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
            return Result(done.returncode, done.stdout, done.stderr)
        with TemporaryDirectory() as folder:
            files = [Path(folder, name) for name in ("in", "out", "err")]
            for file in files:
                file.touch()
            banned = sorted(HEAVY - set(allowed)) if light else []
            request = {"arguments": arguments, "folder": str(tmp_path), "environment": environment, "banned": banned}
            assert fork_server.stdin is not None
            assert fork_server.stdout is not None
            fork_server.stdin.write(json.dumps(request | {"files": list(map(str, files))}) + "\n")
            fork_server.stdin.flush()
            return Result(int(fork_server.stdout.readline()), *(file.read_text("utf-8") for file in files[1:]))

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
