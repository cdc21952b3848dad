"""Held-out rows that are scored while a stage trains, and responses logged with them, change nothing of the stage."""

import math
from pathlib import Path

import pytest
from tiny import make_run, read_lines, read_losses, train_run
from tracked_commands import curves, read_run, run_folders

from sacpo_exp.pipeline import Run, train_policies
from sacpo_exp.reporting.lineage import read_curves
from sacpo_exp.reporting.tracking import track_policies
from sacpo_exp.store.manifest import hash_file

#: Three epochs, whose orders are drawn one after the other, and dropout.
PLAN = ("base=none", "order=helpful_only", "stages.helpfulness.num_train_epochs=3", "adapter=lora")
PLAN += ("adapter.lora_dropout=0.1",)
CURVES = ("++trainer.eval_strategy=steps", "++trainer.eval_steps=2", "log_completions=3")


def folder_of(run: Run) -> Path:
    return run.store.path(run.plan.stages[0].artifact)


def test_curves_and_responses_are_kept_and_weights_are_the_same(tmp_path: Path) -> None:
    plain, curved = make_run(tmp_path / "plain", *PLAN), make_run(tmp_path / "curved", *PLAN, *CURVES)
    for run in (plain, curved):
        train_policies(run)
    assert curved.plan.stages[0].artifact == plain.plan.stages[0].artifact
    hashes = [hash_file(folder_of(run) / "model.safetensors") for run in (plain, curved)]
    assert hashes[0] == hashes[1]
    last = plain.store.manifest(plain.plan.stages[0].artifact).metrics
    assert curved.store.manifest(curved.plan.stages[0].artifact).metrics == last
    updates = last["train/updates"]
    curve = read_curves(folder_of(curved))
    for name in ("eval_loss", "eval_rewards/accuracies"):
        assert [step for step, _ in curve[name]] == sorted({*range(2, updates + 1, 2), updates})
    assert len({value for _, value in curve["eval_loss"]}) > 2
    rows = read_lines(folder_of(curved) / "completions.jsonl")
    assert [row["step"] for row in rows] == [step for step, _ in curve["eval_loss"] for _ in range(3)]
    assert len({row["prompt"] for row in rows}) == 3


@pytest.mark.slow
@pytest.mark.parametrize("zero", [2, 3])
def test_two_processes_with_zero_log_too(tmp_path: Path, zero: int) -> None:
    group = (*PLAN[:3], "hardware=cpu_x2", f"hardware.zero_stage={zero}")
    plain, curved = make_run(tmp_path / "plain", *group), make_run(tmp_path / "curved", *group, *CURVES)
    for run in (plain, curved):
        train_policies(run)
    hashes = [hash_file(folder_of(run) / "model.safetensors") for run in (plain, curved)]
    assert hashes[0] == hashes[1]
    losses = read_losses(curved, name="eval_loss")
    rows = read_lines(folder_of(curved) / "completions.jsonl")
    assert len(rows) == 3 * len(losses) > 6
    assert all(map(math.isfinite, losses))


def test_a_tracker_has_curve_and_responses_also_afterwards(tmp_path: Path) -> None:
    run = train_run(tmp_path, *PLAN[:2], *CURVES, "tracker=wandb", "tracker.wandb.mode=offline")
    losses = read_losses(run, name="eval_loss")
    for count in (1, 2):  # each holds all that is known, since `wandb sync` lets the last one win
        pieces = [read_run(path) for path in sorted((tmp_path / "wandb").glob("offline-run-*"))]
        assert len(pieces) == count
        logged = curves(pieces[-1])
        assert logged["eval/loss"] == losses
        assert logged["completions.nrows"][0] == (3 if count == 1 else 3 * len(losses))
        track_policies(run.config.tracker, run.config.paths.outputs, run.store)
    assert run_folders(tmp_path)
