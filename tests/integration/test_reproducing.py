"""The paper's experiments from the script's first line to the report."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from processes import run_program

from sacpo_exp.config.loading import CONF

#: Stands for Python: prints what it would run.
ECHO = '#!/bin/bash\necho "${@:2}"\n'
FIRST_STAGES = ["one_stage_dpo_h", "one_stage_kto_h", "one_stage_dpo_s"]


def run_script(repo: Path, python: str | Path, *arguments: str) -> list[str]:
    """Lines that the script prints; it starts in its own checkout."""
    command = ["bash", repo / "launchers" / "reproduce_paper.sh", *arguments]
    return run_program(repo, *command, PYTHON=str(python)).splitlines()


@pytest.mark.parametrize("setting", ["paper", "mini"])
def test_the_script_runs_every_experiment_and_reports(repo: Path, tmp_path: Path, setting: str) -> None:
    echo = tmp_path / "echo"
    echo.write_text(ECHO)
    echo.chmod(0o755)
    *lines, last = run_script(repo, echo, setting, "beta=0.1", "paths.outputs=there")
    commands = [re.fullmatch(r"sacpo_exp\.(\w+) experiment=(\w+)/(\w+) (.*)", line) for line in lines]
    found = [match.groups() for match in commands if match]
    assert len(found) == len(lines)
    assert {(folder, overrides) for _, folder, _, overrides in found} == {(setting, "beta=0.1 paths.outputs=there")}
    names = list(dict.fromkeys(name for *_, name, _ in found))
    assert names[:3] == FIRST_STAGES
    stems = [{path.stem for path in (CONF / "experiment" / each).glob("[!_]*.yaml")} for each in (setting, "paper")]
    assert set(names) == stems[0] & stems[1]  # other methods are none of the paper's
    assert [(command, name) for command, _, name, _ in found] == [
        (command, name) for name in names for command in ("train", "eval") if (command, name) != ("train", "published")
    ]
    against = "against=sacpo_table3 " if setting == "paper" else ""
    assert last == f"sacpo_exp.report figures=paper {against}paths.outputs=there"


@pytest.mark.slow
def test_the_script_prints_what_the_paper_costs(repo: Path) -> None:
    *planned, stages, hours, calls = run_script(repo, sys.executable, "dry_run=true")
    assert len(planned) == 12
    # First stages of three kinds and 16 second ones; supervised, first and four second ones of two further models.
    # By paths: 3, 4 × 4 × 2, 3 × 2 merges of two kinds, 4 × 3 of two further models.
    assert stages == ("in all   31 stages, 0 stored, 31 to train; a script that goes path by path would train 71")
    assert re.match(r" +about 94\.\d GPU hours of training with hardware=a100x8 ", hours)
    # 40 policies × (129 + 83) prompts × 2 answer orders × 3 judgments
    assert calls.startswith("judges   50,880 calls to gpt-5.4-mini")
    assert calls.endswith("(prices of 2026-06-04)")


@pytest.mark.slow
def test_a_miniature_goes_all_the_way(cli: Callable[..., Any], tmp_path: Path) -> None:
    for command in ("train", "eval"):
        assert cli(command, "experiment=mini/p_sacpo").code == 0
    result = cli("report", "figures=paper")
    assert result.code == 0
    for ratio in ("0.25", "0.5", "0.75"):
        assert re.search(rf"P-SACPO .*{ratio}", result.stdout)
    assert (tmp_path / "outputs" / "report" / "panels.pdf").is_file()
