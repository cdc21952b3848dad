"""Kills, reruns, races, damage: nothing stored is lost or half there."""

import json
import logging
from pathlib import Path

import pytest
from damage import overwrite
from processes import fork_command, wait_until
from tiny import SAVING, copy_artifacts, make_run, read_lines, train_run

from sacpo_exp.errors import DivergedError, StoreError
from sacpo_exp.pipeline import Run, train_policies
from sacpo_exp.store.manifest import hash_file
from sacpo_exp.training.checkpoints import SEAL, find_checkpoint


def kill_second_stage(outputs: Path, folder: Path, caplog: pytest.LogCaptureFixture, *overrides: str) -> Run:
    """Kill a command while it trains the second stage, go on, and compare with what was trained without a break."""
    whole = train_run(outputs, *overrides)
    *earlier, second = whole.plan.training()
    copy_artifacts(outputs, folder, *(spec.id for spec in earlier))

    process = fork_command(folder, "train", *SAVING, f"paths.outputs={folder}", *overrides)
    seals = f"store/stage/{second.id}.partial/checkpoints/checkpoint-*/{SEAL}"
    wait_until(lambda: list(folder.glob(seals)) or not process.is_alive())
    process.kill()
    process.join()
    run = make_run(folder, *overrides)
    assert not run.store.has(second)

    with caplog.at_level(logging.INFO):
        train_policies(run)
    assert "resumes" in caplog.text
    for path in whole.store.path(second).rglob("*.safetensors"):
        assert hash_file(run.store.path(second) / path.relative_to(whole.store.path(second))) == hash_file(path)
    assert run.store.manifest(second).metrics == pytest.approx(whole.store.manifest(second).metrics)
    assert not run.store.partials()
    return run


def test_a_killed_second_stage_goes_on_and_ends_with_the_same_weights(
    outputs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    slow = ("stages.safety.num_train_epochs=2", "stages.safety.global_batch_size=4")
    slow += ("++trainer.eval_strategy=steps", "++trainer.eval_steps=4", "log_completions=1")
    run = kill_second_stage(outputs, tmp_path, caplog, *slow)
    folder = run.store.path(run.plan.stages[-1].artifact)
    steps = [line["step"] for line in read_lines(folder / "metrics.jsonl")]
    assert steps == sorted(steps)
    assert set(range(1, 13)) <= set(steps)
    logged = [line["step"] for line in read_lines(folder / "completions.jsonl")]
    assert logged == [4, 8, 12]


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


def test_a_damaged_parent_is_named_with_what_to_do(outputs: Path, tmp_path: Path) -> None:
    run = train_run(outputs, "order=helpful_only", "base=none")
    copy_artifacts(outputs, tmp_path, *(spec.id for spec in run.plan.training()))
    run = make_run(tmp_path, "order=helpful_only", "base=none")
    damaged = run.store.path(run.plan.stages[0].artifact) / "model.safetensors"
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    overwrite(damaged, data)
    with pytest.raises(StoreError, match=r"is damaged: model.safetensors has another content than was written"):
        train_run(tmp_path, "base=none")


def test_a_loss_that_is_no_number_ends_with_exit_code_3(tmp_path: Path) -> None:
    run = make_run(tmp_path, "base=none", "order=helpful_only", "stages.helpfulness.learning_rate=1e30")
    with pytest.raises(DivergedError, match="training of the helpfulness stage diverged: the ") as caught:
        train_policies(run)
    assert caught.value.exit_code == 3
