"""A tiny plan that goes all the way in seconds."""

import json
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from composing import configure
from processes import start_command

from sacpo_exp.config.data import DataSchema
from sacpo_exp.config.judges import ScorerJudgeConfig
from sacpo_exp.config.schema import EvalConfig
from sacpo_exp.data.demo import generate_rows
from sacpo_exp.data.preferences import Preferences, make_view
from sacpo_exp.evaluation.judging import fit, scorer_artifact
from sacpo_exp.method.criteria import Criterion
from sacpo_exp.method.losses import View
from sacpo_exp.pipeline import Run, open_run, train_policies
from sacpo_exp.report import report
from sacpo_exp.store import Manifest, Store

TINY = ["model=tiny", "dataset.max_rows=24", "dataset.max_heldout_rows=8", "prompts.limit=12"]
TINY += ["generation.max_new_tokens=8", "generation.kl_prompts=4", "hardware.save_minutes=1000"]
#: And with a checkpoint after every update, which takes as long as the update.
SAVING = [*TINY, "hardware.save_minutes=0"]
SCORER = ["model@judge.encoder=tiny", "judge.layer=2"]


def make_config(outputs: Path, *overrides: str) -> EvalConfig:
    """The tiny configuration, composed as the command line of `eval` would."""
    return compose_tiny("eval", outputs, *overrides)


def write_report(outputs: Path, *overrides: str) -> None:
    """Report on everything there; quickly, with wide intervals."""
    report(configure("report", f"paths.outputs={outputs}", "bootstrap_rounds=100", *overrides))


def stored(outputs: Path, *kinds: str) -> list[tuple[Path, Manifest]]:
    """Folders and manifests of these kinds of artifacts."""
    return [entry for entry in Store(outputs / "store").manifests() if entry[1].kind in kinds]


def make_run(outputs: Path, *overrides: str) -> Run:
    """The tiny plan, as `train` opens it."""
    return open_run(compose_tiny("train", outputs, *overrides))


def train_run(outputs: Path, *overrides: str) -> Run:
    """The tiny plan, trained."""
    run = make_run(outputs, *overrides)
    train_policies(run)
    return run


def start_training(outputs: Path, *overrides: str, **variables: str) -> "subprocess.Popen[str]":
    """`sacpo train` on the tiny plan, with a checkpoint after every update, as users start it."""
    return start_command(outputs, "train", *SAVING, f"paths.outputs={outputs}", *overrides, **variables)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Rows of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def write_lines(path: Path, rows: Iterable[Any]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return path


def read_losses(run: Run, number: int = 0, name: str = "loss") -> list[float]:
    """Of every update of a stage."""
    lines = read_lines(run.store.path(run.plan.stages[number].artifact) / "metrics.jsonl")
    return [line[name] for line in lines if name in line]


def compose_tiny(command: str, outputs: Path, *overrides: str) -> Any:
    """The tiny configuration of a command."""
    judge = [] if any(override.startswith("judge=") for override in overrides) else SCORER
    chosen = [*TINY, *judge, f"paths.outputs={outputs}", *overrides]
    return configure(command, *chosen)


def write_pairs(path: Path, part: str, count: int, criterion: Criterion) -> None:
    """Write so many pairs of the demo, by a criterion, as a file of a user's."""
    data = Preferences(DataSchema.pku, DataSchema.pku, None, tuple(generate_rows(part, 0)[:count]))
    write_lines(path, make_view(data, View.pairs, criterion))


def write_criterion(folder: Path, name: str, letter: str = "T", **fields: Any) -> str:
    """Write a criterion of a user's into a folder of configurations, and return the override that finds it."""
    (folder / "criterion").mkdir(parents=True, exist_ok=True)
    content = {"defaults": [{"/dataset@dataset": None}], "criterion": {"name": name, "letter": letter} | fields}
    text = f"# @package stages.{name}\n{yaml.safe_dump(content)}"
    (folder / "criterion" / f"{name}.yaml").write_text(text, "utf-8")
    return f"hydra.searchpath=[file://{folder}]"


def copy_artifacts(source: Path, target: Path, *ids: str) -> None:
    """Copy finished artifacts from one outputs folder to another."""
    for folder in (source / "store").glob("*/*"):
        copy = target / folder.relative_to(source)
        if folder.name in ids and not copy.exists():
            shutil.copytree(folder, copy)


def share(source: Path, target: Path, *overrides: str) -> Run:
    """Copy model, data, stages and scorer of a plan from outputs in which they are made once; return the plan."""
    run = open_run(make_config(source, *overrides))
    train_policies(run)
    judge = run.config.judge
    assert isinstance(judge, ScorerJudgeConfig)
    fit(run, judge)
    scorer = scorer_artifact(judge, run.config, run.fingerprints)
    copy_artifacts(source, target, *(spec.id for spec in run.plan.training()), scorer.id, *scorer.parents)
    return run
