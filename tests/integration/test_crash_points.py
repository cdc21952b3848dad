"""A command that is killed at any change of a file ends, when it is given again, as if it had not been killed."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from asking import plain_judge, served, write_responses
from tiny import SAVING, SCORER, TINY

from sacpo_exp.evaluation.ledger import Ledger
from sacpo_exp.store.manifest import hash_file

HERE = Path(__file__).parent
KILLED = -9

FIRST = ["train", *SAVING, "base=none", "order=helpful_only"]
BOTH = ["train", *SAVING, "base=none"]
MERGE = [*BOTH, "merge_ratio=0.5"]
EVAL = ["eval", *TINY, *SCORER, "base=none", "order=helpful_only"]
ASK = ["eval", *TINY, "judge=local", "judge.concurrency=2", "baseline=one"]


@dataclass(frozen=True)
class Change:
    """A change of a file, by its place among all that a command makes, from 1."""

    number: int
    what: str
    path: str


class Commands:
    """Commands under one `paths.outputs`, each in a fork of a process that has imported what they need."""

    def __init__(self, folder: Path) -> None:
        self.outputs, self._folder = folder / "outputs", folder
        library = folder / "crash_points.so"
        source = HERE / "crash_points.c"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-Wall", "-o", library, source, "-ldl"], check=True)
        settings = {"LD_PRELOAD": str(library), "PYTHONPATH": str(HERE.parents[1]), "DS_ACCELERATOR": "cpu"}
        settings |= {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}  # no threads before a fork
        settings |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        command = [sys.executable, str(HERE / "crash_server.py")]
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._server = subprocess.Popen(command, env=os.environ | settings, cwd=folder, **pipes)

    def run(self, command: list[str], at: int = 0) -> int:
        """Exit code of a command, which is killed at a change or not (0)."""
        said: dict[str, Any] = {"command": command, "at": at}
        said |= {name: str(self._folder / name) for name in ("output", "changes")} | {"folder": str(self.outputs)}
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(said) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())

    def said(self) -> str:
        """What the last command printed."""
        return (self._folder / "output").read_text("utf-8", "replace")

    def changes(self) -> list[Change]:
        """What the last command changed."""
        lines = (self._folder / "changes").read_text("utf-8").splitlines()
        return [Change(number, *line.split(" ", 1)) for number, line in enumerate(lines, 1)]

    def succeed(self, command: list[str]) -> None:
        assert self.run(command) == 0, self.said()

    def begin(self, kept: Path | None = None) -> None:
        """Empty outputs, or those that were kept."""
        shutil.rmtree(self.outputs, ignore_errors=True)
        if kept is not None:
            shutil.copytree(kept, self.outputs)

    def stop(self) -> None:
        self._server.communicate()


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    if not sys.platform.startswith("linux") or shutil.which("cc") is None:
        pytest.skip("needs Linux and a C compiler, for the library that kills a process at a change of a file")
    commands = Commands(tmp_path_factory.mktemp("crashes"))
    yield commands
    commands.stop()


def look(outputs: Path) -> dict[str, Any]:
    """What lies there, by path, but for what says when and how long."""
    found: dict[str, Any] = {}
    for path in sorted(outputs.rglob("*")):
        name = path.relative_to(outputs)
        if path.is_dir() or path.name in ("metrics.jsonl", "ledger.sqlite"):
            found[str(name)] = path.is_dir()
        elif path.name == "manifest.json":
            said = json.loads(path.read_text("utf-8"))
            said["files"].pop("metrics.jsonl", None)
            found[str(name)] = said["id"], said["files"]
        else:
            found[str(name)] = hash_file(path)
    if (outputs / "ledger.sqlite").is_file():
        with Ledger(outputs / "ledger.sqlite") as ledger:
            found["judgments"] = {question.key: answer.raw for question, answer in ledger.judgments()}
    return found


def every(changes: list[Change]) -> list[int]:
    """Before each change, and after each that a native writer makes; of many writes to one file the first and last."""
    points = []
    for (what, path), group in groupby(changes, key=lambda change: (change.what, change.path)):
        numbers = [change.number for change in group]
        points += dict.fromkeys((numbers[0], numbers[-1])) if what == "write" else numbers
        if what == "write" and Path(path).name.startswith(".tmp"):
            points.append(-numbers[-1])
    return points


def crash(commands: Commands, command: list[str], *before: list[str]) -> str:
    """Kill a command once at each point, give it again each time, and compare; says how often that was."""
    start, kept = time.monotonic(), commands.outputs.with_name("kept")
    commands.begin()
    for earlier in before:
        commands.succeed(earlier)
    shutil.rmtree(kept, ignore_errors=True)
    commands.outputs.mkdir(exist_ok=True)
    shutil.copytree(commands.outputs, kept)
    commands.succeed(command)
    changes, expected = commands.changes(), look(commands.outputs)
    points, killed, wrong = every(changes), 0, []
    for point in points:
        commands.begin(kept)
        killed += commands.run(command, at=point) == KILLED
        code = commands.run(command)
        found = look(commands.outputs)
        if code or found != expected:
            change = changes[abs(point) - 1]
            where = f"{'before' if point > 0 else 'after'} {change.what} {change.path}"
            differing = sorted(name for name in found | expected if found.get(name) != expected.get(name))
            wrong.append(f"{where}: exit code {code}, {differing[:5]}, {commands.said()[-500:] if code else ''}")
    assert not wrong, "\n".join([f"{len(wrong)} of {len(points)} points", *wrong])
    return f"{killed} kills in {len(changes)} changes, {time.monotonic() - start:.0f} s"


def test_every_crash_point_of_a_build(commands: Commands, capsys: pytest.CaptureFixture[str]) -> None:
    said = crash(commands, ["build", str(commands.outputs)])
    with capsys.disabled():
        print(f"\ncrash points, a build: {said}")  # noqa: T201


#: A command that is killed, and those before it.
SCENES = {
    "a stage": [BOTH, FIRST],
    "a merge": [MERGE, BOTH],
    "generation and judging": [EVAL, FIRST, [*EVAL, "policies=[baseline]"]],
    "asking a judge": [ASK],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENES)
def test_every_crash_point(commands: Commands, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ExitStack() as stack:
        arguments = [f"paths.outputs={commands.outputs}"]
        if name == "asking a judge":
            arguments += prepare_questions(tmp_path, stack)
        said = crash(commands, *([*command, *arguments] for command in SCENES[name]))
    with capsys.disabled():
        print(f"\ncrash points, {name}: {said}")  # noqa: T201


def prepare_questions(folder: Path, stack: ExitStack) -> list[str]:
    """Responses of two policies to two prompts, and a judge that answers, as overrides."""
    said = {name: [f"{name} says."] * 2 for name in ("one", "two")}
    paths = write_responses(folder, ["Prompt benign?", "Prompt risky?"], said, ["benign", "risky"])
    return [f"responses=[{','.join(paths)}]", *plain_judge(folder, stack.enter_context(served(folder)).url)]
