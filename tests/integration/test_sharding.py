"""Several processes give what one gives: the same losses update by update, the same weights, plain files."""

import json
import subprocess
from pathlib import Path

import pytest
import torch
from loopback import find_free_port
from processes import finish
from tiny import make_run, read_losses, start_training, train_run, write_pairs
from transformers import AutoModelForCausalLM

from sacpo_exp.method.criteria import Criterion
from sacpo_exp.pipeline import Run, train_policies

#: Between one process and two: sums of gradients in another order, float32.
LOSS_TOLERANCE, WEIGHT_TOLERANCE = 1e-5, 1e-5

ZERO = {
    "0": ["hardware.zero_stage=0"],
    "1": ["hardware.zero_stage=1"],
    "2": ["hardware.zero_stage=2"],
    "3": ["hardware.zero_stage=3"],
    "3 offloaded": ["hardware.zero_stage=3", "hardware.offload_optimizer=cpu", "hardware.offload_param=cpu"],
}


def assert_alike(alone: Run, group: Run) -> None:
    for number, stage in enumerate(alone.plan.stages):
        assert group.plan.stages[number].artifact == stage.artifact  # the machine is no part of the identity
        assert read_losses(group, number) == pytest.approx(read_losses(alone, number), abs=LOSS_TOLERANCE)
        folders = [run.store.path(stage.artifact) for run in (alone, group)]
        expected, found = (AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in folders)
        torch.testing.assert_close(found, expected, rtol=0, atol=WEIGHT_TOLERANCE)
        assert not [path.name for path in folders[1].iterdir() if path.suffix in (".bin", ".pt")]


def train_in_two(outputs: Path, folder: Path, zero: str, *overrides: str) -> None:
    """Train on one process, without DeepSpeed, and on two with this stage of ZeRO, and compare."""
    alone, group = make_run(outputs, *overrides), make_run(folder, *overrides, "hardware=cpu_x2", *ZERO[zero])
    train_policies(alone)
    train_policies(group)
    assert_alike(alone, group)


def test_dpo_on_two_processes_is_as_on_one(outputs: Path, tmp_path: Path) -> None:
    train_in_two(outputs, tmp_path, "2", "base=none", "order=helpful_only")


@pytest.mark.slow
@pytest.mark.parametrize("zero", ZERO)
def test_sft_and_dpo_on_two_processes_are_as_on_one(outputs: Path, tmp_path: Path, zero: str) -> None:
    train_in_two(outputs, tmp_path, zero, "order=helpful_only")


@pytest.mark.slow
def test_an_adapter_on_shards_of_its_parent_is_as_on_one_process(outputs: Path, tmp_path: Path) -> None:
    train_in_two(outputs, tmp_path, "3", "base=none", "order=helpful_only", "adapter=lora")


@pytest.mark.slow
def test_bfloat16_without_a_float32_copy_trains_on_two_processes_as_torch_does_on_one(
    outputs: Path, tmp_path: Path
) -> None:
    short = ["base=none", "order=helpful_only", "optimization.dtype=bfloat16"]
    alone, copied, plain = (
        make_run(outputs, *short),
        make_run(tmp_path / "copied", *short, "hardware=cpu_x2", *ZERO["3"]),
        make_run(tmp_path / "plain", *short, "hardware=cpu_x2", *ZERO["3"], "optimization.float32_copy=false"),
    )
    for run in (alone, copied, plain):
        train_policies(run)
    artifact = alone.plan.stages[0].artifact
    assert plain.plan.stages[0].artifact == artifact != copied.plan.stages[0].artifact
    weights = []
    for run in (alone, copied, plain):
        folder = run.store.path(run.plan.stages[0].artifact)
        weights.append(AutoModelForCausalLM.from_pretrained(folder).state_dict())
    own, exact, rounded = (torch.cat([value.float().flatten() for value in each.values()]) for each in weights)
    # CPUs with bfloat16 instructions round a loss by the rows of its pass, up to 1e-4; weights tell the two apart.
    assert read_losses(plain) == pytest.approx(read_losses(alone), abs=2e-4)
    assert (rounded - own).abs().mean() < 1e-6 < 1e-5 < (exact - own).abs().mean()


@pytest.mark.slow
@pytest.mark.parametrize("zero", ["2", "3"])
def test_bfloat16_weights_with_zero_lose_no_small_updates(outputs: Path, tmp_path: Path, zero: str) -> None:
    """ZeRO updates a float32 copy, so its losses stay with float32's; without it updates are rounded away."""
    long = ["base=none", "order=helpful_only", "stages.helpfulness.num_train_epochs=10"]
    short = [*long, "optimization.dtype=bfloat16"]
    exact, alone = make_run(outputs, *long), make_run(outputs, *short)
    group = make_run(tmp_path, *short, "hardware=cpu_x2", *ZERO[zero])
    for run in (exact, alone, group):
        train_policies(run)
    near, far = (
        max(abs(a - b) for a, b in zip(read_losses(exact), read_losses(run), strict=True)) for run in (group, alone)
    )
    assert near < far / 2, (near, far)
    settings = next((tmp_path / "logs").rglob("deepspeed.json"))
    assert json.loads(settings.read_text("utf-8"))["communication_data_type"] == "bf16"  # of gradients


@pytest.fixture(scope="module")
def thirteen(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides for SFT and DPO with batches of 8 on 13 rows, three epochs each."""
    folder, overrides = tmp_path_factory.mktemp("thirteen"), ["dataset=local", "dataset.criterion=helpfulness"]
    criterion = Criterion("helpfulness", "H", preferred="better_response_id")
    for key, part, count in (("path", "train", 13), ("heldout_path", "heldout", 8)):
        write_pairs(folder / f"{part}.jsonl", part, count, criterion)
        overrides.append(f"dataset.{key}={folder / part}.jsonl")
    overrides += [f"stages.{name}.num_train_epochs=3" for name in ("sft", "helpfulness")]
    return [*overrides, "stages.sft.global_batch_size=8", "order=helpful_only"]


@pytest.mark.parametrize(
    "hardware",
    ["hardware.per_device_train_batch_size=2", pytest.param("hardware=cpu_x2", marks=pytest.mark.slow)],
)
def test_a_remainder_trains_alike(outputs: Path, tmp_path: Path, thirteen: list[str], hardware: str) -> None:
    """Of the 13 rows every epoch leaves out the last five of its order."""
    whole = make_run(outputs, *thirteen)  # 8 rows at once
    train_policies(whole)
    shared = train_run(tmp_path, *thirteen, hardware)
    assert_alike(whole, shared)
    assert [len(read_losses(whole, number)) for number in (0, 1)] == [3, 3]


@pytest.mark.slow
@pytest.mark.parametrize("zero_stage", [0, 2])
def test_kto_runs_on_two_processes(tmp_path: Path, zero_stage: int) -> None:
    alone = ("base=none", "order=safety_only", "objective=kto")
    group = train_run(tmp_path, *alone, "hardware=cpu_x2", f"hardware.zero_stage={zero_stage}")
    assert all(0 < loss < 2 for loss in read_losses(group))


NODES = ["base=none", "order=helpful_only", "hardware=cpu_x2", "hardware.nodes=2", "hardware.zero_stage=2"]


def start_node(outputs: Path, node: int, port: int, *overrides: str) -> "subprocess.Popen[str]":
    meeting = {"NODE_RANK": str(node), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return start_training(outputs, *NODES, *overrides, **meeting)


@pytest.mark.slow
def test_two_nodes_train_one_stage_together(outputs: Path, tmp_path: Path) -> None:
    port = find_free_port()
    second, first = start_node(tmp_path, 1, port), start_node(tmp_path, 0, port)
    said = [finish(process) for process in (first, second)]
    assert "trains " in said[0]
    assert "trains " not in said[1]
    alone = train_run(outputs, "base=none", "order=helpful_only")
    group = make_run(tmp_path, *NODES)
    assert_alike(alone, group)
    logs = tmp_path / "logs" / group.plan.stages[0].artifact.id
    assert {"launcher-0.log", "launcher-1.log", "rank-0.log", "rank-1.log"} <= {path.name for path in logs.iterdir()}


@pytest.mark.slow
def test_a_failure_on_the_first_node_ends_the_second_one(tmp_path: Path) -> None:
    port = find_free_port()
    broken = "stages.helpfulness.learning_rate=1e30"
    processes = [start_node(tmp_path, node, port, broken) for node in (0, 1)]
    said = [finish(process, 3) for process in processes]
    assert "the helpfulness stage diverged" in said[0]
