"""Kills, reruns, races, damage: nothing stored is lost or half there."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from damage import overwrite
from tiny import TINY, make_run

from sacpo_exp.errors import StoreError
from sacpo_exp.pipeline import train_policies
from sacpo_exp.store.manifest import hash_file
from sacpo_exp.training.checkpoints import SEAL, discard_checkpoints, find_checkpoint, seal


def start(outputs: Path, *overrides: str) -> "subprocess.Popen[str]":
    """`sacpo_exp.train` in a process group of its own."""
    command = [sys.executable, "-m", "sacpo_exp.train", *TINY, f"paths.outputs={outputs}", *overrides]
    return subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def kill_group(process: "subprocess.Popen[str]") -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for(path: Path, pattern: str, process: "subprocess.Popen[str]", seconds: float = 120) -> Path:
    """The first file that matches, as soon as it is there."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := sorted(path.glob(pattern)):
            return found[0]
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    raise AssertionError(f"{pattern} did not appear in {path}")


def test_a_killed_second_stage_goes_on_and_ends_with_the_same_weights(outputs: Path, tmp_path: Path) -> None:
    slow = ["stages.safety.num_train_epochs=8", "stages.safety.global_batch_size=4"]
    whole = make_run(outputs, *slow)
    train_policies(whole)
    trained = whole.plan.stages[-1].artifact
    expected = hash_file(whole.store.path(trained) / "model.safetensors")

    process = start(tmp_path, *slow)
    second = whole.plan.stages[-1].artifact.id
    wait_for(tmp_path, f"store/stage/{second}.partial/checkpoints/checkpoint-*/{SEAL}", process)
    kill_group(process)
    run = make_run(tmp_path, *slow)
    assert not run.store.has(run.plan.stages[-1].artifact)

    again = start(tmp_path, *slow)
    output, _ = again.communicate(timeout=180)
    assert again.returncode == 0, output
    assert "resumes" in output
    folder = run.store.path(run.plan.stages[-1].artifact)
    assert hash_file(folder / "model.safetensors") == expected
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)
    assert set(range(1, 49)) <= set(steps)
    assert run.store.manifest(trained).metrics == pytest.approx(whole.store.manifest(trained).metrics)
    assert not run.store.partials()


def test_two_identical_commands_train_each_stage_once(tmp_path: Path) -> None:
    processes = [start(tmp_path, "base=none") for _ in range(2)]
    outputs = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert sum(output.count("trains ") for output in outputs) == 2


def test_a_changed_checkpoint_is_not_loaded(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoints" / "checkpoint-2"
    checkpoint.mkdir(parents=True)
    (checkpoint / "optimizer.pt").write_bytes(b"state")
    assert find_checkpoint(tmp_path) is None  # without a seal it was being written when its process died
    (checkpoint / SEAL).write_text(json.dumps({"optimizer.pt": hash_file(checkpoint / "optimizer.pt")}))
    assert find_checkpoint(tmp_path) == checkpoint
    newer = tmp_path / "checkpoints" / "checkpoint-4"
    newer.mkdir()
    for text in ("", '{"optimizer.pt": "ba78'):  # what a power cut may leave
        (newer / SEAL).write_text(text)
        assert find_checkpoint(tmp_path) == checkpoint
    (checkpoint / "optimizer.pt").write_bytes(b"other")
    with pytest.raises(StoreError, match="not as it was written"):
        find_checkpoint(tmp_path)


def test_what_a_kill_left_unsealed_pushes_no_sealed_checkpoint_out(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4, 5):
        (tmp_path / "checkpoints" / f"checkpoint-{step}").mkdir(parents=True)
        (tmp_path / "checkpoints" / f"checkpoint-{step}" / "optimizer.pt").write_text(str(step))
        if step <= 3:
            seal(tmp_path / "checkpoints" / f"checkpoint-{step}")
    discard_checkpoints(tmp_path / "checkpoints", kept=2)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["checkpoint-2", "checkpoint-3"]
    assert find_checkpoint(tmp_path) == tmp_path / "checkpoints" / "checkpoint-3"


def test_a_damaged_parent_is_named_with_what_to_do(tmp_path: Path) -> None:
    run = make_run(tmp_path, "order=helpful_only", "base=none")
    train_policies(run)
    damaged = run.store.path(run.plan.stages[0].artifact) / "model.safetensors"
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    overwrite(damaged, data)
    with pytest.raises(StoreError, match=r"is damaged: model.safetensors has another content than was written"):
        train_policies(make_run(tmp_path, "base=none"))


def test_a_loss_that_is_no_number_ends_with_exit_code_3(tmp_path: Path) -> None:
    process = start(tmp_path, "base=none", "order=helpful_only", "stages.helpfulness.learning_rate=1e30")
    output, _ = process.communicate(timeout=180)
    assert process.returncode == 3, output
    assert "training of the helpfulness stage diverged: the " in output
    assert "Traceback" not in output
