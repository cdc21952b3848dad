"""The steps of docs/extending.md, followed as they are written there in a copy of the package."""

import re
import shutil
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from processes import REPO, run_program
from tiny import TINY, read_lines

SHORT = (*TINY, "base=none", "order=helpful_only")


def blocks(heading: str) -> list[str]:
    """Code blocks of a section of docs/extending.md."""
    section = (REPO / "docs" / "extending.md").read_text("utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    return [textwrap.dedent(block) for block in re.findall(r"```\w+\n(.*?)\n *```", section, re.DOTALL)]


def train(package: Path, outputs: Path, objective: str) -> list[float]:
    """Training losses, update by update."""
    command = [sys.executable, "-m", "sacpo_exp.train", *SHORT, f"objective={objective}", f"paths.outputs={outputs}"]
    run_program(package, *command, PYTHONPATH=str(package))
    (metrics,) = outputs.glob("store/stage/*/metrics.jsonl")
    return [float(line["loss"]) for line in read_lines(metrics) if "loss" in line]


@pytest.mark.slow
def test_a_loss_is_added_in_the_steps_that_are_written_there(tmp_path: Path) -> None:
    package = tmp_path / "copy"
    for name in ("sacpo_exp", "conf", "hydra_plugins"):
        shutil.copytree(REPO / name, package / name, ignore=shutil.ignore_patterns("__pycache__"))
    row, function, objective = blocks("Add a loss")
    losses = package / "sacpo_exp" / "method" / "losses.py"
    end = "    )\n}\n"
    assert losses.read_text("utf-8").count(end) == 1
    losses.write_text(losses.read_text("utf-8").replace(end, f"        {row},\n{end}"), "utf-8")
    with (package / "sacpo_exp" / "training" / "pair_losses.py").open("a", encoding="utf-8") as file:
        file.write(f"\n\n{function}\n")
    (package / "conf" / "objective" / "logistic.yaml").write_text(objective + "\n", "utf-8")

    own, dpo = (train(package, tmp_path / name, name) for name in ("logistic", "dpo"))

    assert len(own) == 3
    assert max(abs(a - b) for a, b in zip(own, dpo, strict=True)) < 1e-6
    lines = [*row.splitlines(), *function.splitlines(), *objective.splitlines()]
    assert len([line for line in lines if line.strip()]) <= 40


def test_a_method_is_added_in_the_steps_that_are_written_there(cli: Callable[..., Any], tmp_path: Path) -> None:
    (design,) = blocks("Add a method")
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "helpful_again.yaml").write_text(design + "\n", "utf-8")
    sweep = ["-m", "--config-dir", str(tmp_path), "experiment=helpful_again", "beta=0.1,0.05"]
    done = cli("train", *sweep, "dry_run=true", light=True)
    assert done.code == 0, done.stderr
    assert all(done.stdout.count(f"dpo-s-b{beta}-from-base") for beta in (0.1, 0.05))
