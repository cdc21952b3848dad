"""The commands in blocks of `bash` of the README and docs/: each exists, composes, and prints its plan."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from loopback import JsonHandler, listen
from processes import REPO, run_program
from tiny import SCORER, TINY, write_lines

from sacpo_exp.__main__ import COMMANDS, WITH_OPTIONS
from sacpo_exp.cluster.sweeps import list_experiments
from sacpo_exp.data.demo import generate_rows

PAGES = {path.name: path for path in (REPO / "README.md", *sorted((REPO / "docs").glob("*.md")))}
PROGRAMS = ("sacpo", "make", "pip", "python", "launchers/local.sh", "launchers/reproduce_paper.sh")
PROGRAMS += ("launchers/gpu_check.sh",)
#: Notes its name and arguments, a NUL after each, and the end of the call.
STAND_IN = """#!/bin/sh
printf '%s\\0' "${0#$BIN/}" "$@" >> "$NOTES"; printf '\\036' >> "$NOTES"
"""
#: Commands that compose a configuration and can print a plan; `report` is run over a store.
PLANNED = set(COMMANDS) - {*WITH_OPTIONS, "report", "oracle", "completion"}

Calls = list[list[str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the commands name."""
    folder = tmp_path_factory.mktemp("user")
    rows = generate_rows("heldout", 0)
    pairs = [{"prompt": row["prompt"], "chosen": row["response_0"], "rejected": row["response_1"]} for row in rows]
    answers = [{"prompt": row["prompt"], "response": row["response_0"], "kind": "benign"} for row in rows[:4]]
    prompts = [{"prompt": row["prompt"], "kind": "benign"} for row in rows]
    many = generate_rows("train", 0)  # more than a batch of optimization=paper
    for name, content in {"rows": many, "more": rows, "helpful": pairs, "safe": pairs, "prompts": prompts}.items():
        write_lines(folder / f"{name}.jsonl", content)
    for name in ("a", "b", "labelled"):
        (folder / f"{name}.json").write_text(json.dumps(rows if name == "labelled" else answers), "utf-8")
    model = folder / "my-model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def calls_of(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Calls]:
    """By page the commands of its `bash` blocks as bash would start them."""
    programs = tmp_path_factory.mktemp("bin")
    for name in PROGRAMS:
        place = (folder if "/" in name else programs) / name
        place.parent.mkdir(exist_ok=True)
        place.write_text(STAND_IN)
        place.chmod(0o755)
    found = {}
    for page, path in PAGES.items():
        environment = {"PATH": str(programs), "NOTES": str(programs / page), "BIN": str(programs)}
        (programs / page).touch()
        for block in re.findall(r"^ *```bash\n(.*?)^ *```", path.read_text("utf-8"), re.DOTALL | re.MULTILINE):
            command = ["/bin/bash", "-eu", "-c", block]
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{block}{done.stderr}"
        found[page] = [call.split("\0")[:-1] for call in (programs / page).read_text("utf-8").split("\036")[:-1]]
    return found


def test_every_command_exists(calls_of: dict[str, Calls]) -> None:
    targets = re.findall(r"^([\w-]+):", (REPO / "Makefile").read_text("utf-8"), re.MULTILINE)
    extras = tomllib.loads((REPO / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    for program, *arguments in (call for calls in calls_of.values() for call in calls):
        if program == "sacpo":
            assert arguments[0] in {*COMMANDS, "--help", "--version"}
        elif program == "make":
            assert arguments[0] in targets
        elif program == "pip":
            named = {extra for group in re.findall(r"\[(.*)\]", arguments[-1]) for extra in group.split(",")}
            assert named <= set(extras)
        else:
            assert (REPO / (arguments[0] if program == "python" else program)).is_file()


def test_files_that_the_text_names_are_there() -> None:
    for path in (*PAGES.values(), REPO / "CONTRIBUTING.md", *REPO.glob("*/README.md")):
        for name in re.findall(r"(?<![\w/.:-])(?:[a-z]\w*/)+\w+\.(?:py|sh|sbatch|yaml)\b", path.read_text("utf-8")):
            is_example = any(
                part in name
                for part in ("NAME", "honesty", "logistic", "helpful_again", "trl/", "constant.py", "gpt4_")
            )
            assert is_example or (REPO / name).is_file() or (REPO / "sacpo_exp" / name).is_file(), (path.name, name)


def is_planned(call: list[str]) -> bool:
    """Whether a call of `sacpo` can be given `dry_run=true`."""
    return call[0] == "sacpo" and call[1] in PLANNED and "--help" not in call


def first_of_sweep(override: str) -> str:
    """An override with the first of the values that `-m` would sweep over."""
    parsed = OverridesParser.create().parse_override(override)
    return (
        f"{parsed.get_key_element()}={next(parsed.sweep_string_iterator())}" if parsed.is_sweep_override() else override
    )


@pytest.mark.parametrize(
    "pages", [["README.md"], pytest.param([*PAGES], marks=pytest.mark.slow)], ids=["README", "all"]
)
def test_overrides_compose(
    configure: Callable[..., Any],
    calls_of: dict[str, Calls],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    pages: list[str],
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    planned = (call for page in pages for call in filter(is_planned, calls_of[page]))
    for command, *given in {(each[1], *(first_of_sweep(a) for a in each[2:] if a != "-m")): None for each in planned}:
        if not list_experiments(given):  # whose own experiments have tests, with their sweeps
            configure(*given, command=command)


def sacpo(folder: Path, *arguments: str) -> str:
    """What a command prints; it fails the test if it fails."""
    variables = {"OPENAI_API_KEY": "none", "WANDB_MODE": "offline"}
    return run_program(folder, sys.executable, "-m", "sacpo_exp", *arguments, **variables)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_prints_its_plan(calls_of: dict[str, Calls], folder: Path, page: str) -> None:
    for _, *arguments in filter(is_planned, calls_of[page]):
        printed = sacpo(folder, *arguments, *([] if "dry_run=true" in arguments else ["dry_run=true"]))
        assert re.search(r"plan|to make|stored|rows|policies", printed), arguments


class Judge(JsonHandler):
    """A server that prefers the first answer."""

    def do_POST(self) -> None:
        self.read_body()
        scores = json.dumps({"reason": "It is longer.", "first": 7, "second": 5})
        choice = {"message": {"role": "assistant", "content": scores}, "finish_reason": "stop", "index": 0}
        self.send(200, {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]})


@pytest.mark.slow
def test_commands_over_what_is_stored_run(calls_of: dict[str, Calls], folder: Path) -> None:
    sacpo(folder, "train", "-m", *TINY)  # a sweep of one job, for `store sweep`
    sacpo(folder, "eval", *TINY, *SCORER, "policies=all")
    with listen(Judge) as address:
        judge = ["judge=local", f"judge.base_url={address}/v1"]
        sacpo(folder, "eval", "model=tiny", "responses=[a.json,b.json]", "baseline=a", *judge)
    calls = [call for page in PAGES for call in calls_of[page] if call[0] == "sacpo" and "--help" not in call]
    run = [call[1:] for call in calls if call[1] in ("report", "store", "ledger")]
    assert {command for command, *_ in run} == {"report", "store", "ledger"}
    for arguments in run:
        if arguments != ["report", "model=local"]:  # of the reader's own model
            sacpo(folder, *arguments)
