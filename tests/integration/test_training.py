"""Real TRL trainers on the tiny model: both losses, both criteria, both stages, both orders."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import make_run

from sacpo_exp.pipeline import locate, train_policies


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("order", ["helpful_first", "safety_first"])
@pytest.mark.parametrize("objective", ["dpo", "kto", "dpo_then_kto"])
def test_a_plan_trains_and_every_parameter_moves(outputs: Path, order: str, objective: str) -> None:
    run = make_run(outputs, f"order={order}", f"objective={objective}")
    train_policies(run)
    for stage in run.plan.stages:
        before = weights(Path(locate(run, stage.parent).path))
        after = weights(run.store.path(stage.artifact))
        still = [name for name in after if torch.equal(before[name], after[name])]
        assert not still, (stage.name, still)


@pytest.mark.parametrize("order", ["helpful_only", "safety_only"])
def test_one_stage_orders_reuse_the_first_stage_of_two_stage_ones(outputs: Path, order: str) -> None:
    other = order.replace("only", "first")
    train_policies(make_run(outputs, f"order={other}"))
    run = make_run(outputs, f"order={order}")
    assert [run.store.has(stage.artifact) for stage in run.plan.stages] == [True, True]


def test_dpo_starts_at_ln_2_and_logs_its_measurements(outputs: Path) -> None:
    run = make_run(outputs)
    train_policies(run)
    second = run.plan.stages[-1].artifact
    lines = [json.loads(line) for line in (run.store.path(second) / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)
    metrics = run.store.manifest(second).metrics
    assert {"heldout/loss", "heldout/rewards/accuracies", "heldout/rewards/margins", "train/updates"} <= set(metrics)
    assert 0 <= metrics["heldout/rewards/accuracies"] <= 1


def test_a_stage_holds_plain_weights_and_no_paths_of_this_machine(outputs: Path) -> None:
    run = make_run(outputs)
    train_policies(run)
    for stage in run.plan.stages:
        folder = run.store.path(stage.artifact)
        assert not list(folder.rglob("*.bin")) + list(folder.rglob("*.pt"))
        for file in folder.rglob("*.json*"):
            assert str(outputs) not in file.read_text("utf-8"), file


def test_the_second_stage_refers_to_the_first_policy(outputs: Path) -> None:
    """Trained with the base model as reference instead, the first loss would not be ln 2, and the weights others."""
    run = make_run(outputs)
    assert run.plan.stages[2].parent == run.plan.stages[1].artifact
    assert run.plan.stages[2].artifact.parents == (run.plan.stages[1].artifact.id, run.plan.stages[2].data.id)
