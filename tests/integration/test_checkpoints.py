"""Saving inside a stage: how often, in how much room, and what is left when it is cut off in the middle."""

import logging
import os
import random
import resource
import shutil
import signal
import time
from pathlib import Path

import psutil
import pytest
from processes import finish, fork_command, wait_until
from tiny import SAVING, make_run, start_training, train_run

from sacpo_exp.cluster.disk import checkpoint_bytes
from sacpo_exp.pipeline import Run
from sacpo_exp.store.manifest import hash_file
from sacpo_exp.training.checkpoints import SEAL, find_checkpoint, list_files, seal

LONG = ("base=none", "order=helpful_only", "stages.helpfulness.global_batch_size=4")
LONG += ("stages.helpfulness.num_train_epochs=5",)  # 30 updates
#: Large enough that hashing takes a while: 2 M parameters.
LARGE = ("model.shape.hidden_size=256", "model.shape.intermediate_size=1024")
#: So large that what else lies there counts little: 0.4 M parameters.
WIDER = ("model.shape.hidden_size=128", "model.shape.intermediate_size=256")
SEALS = f"store/stage/*.partial/checkpoints/checkpoint-*/{SEAL}"


def weights_of(run: Run) -> str:
    """Hash of the last stage's weights."""
    return hash_file(run.store.path(run.plan.stages[-1].artifact) / "model.safetensors")


def partial_of(run: Run) -> Path:
    folder = run.store.path(run.plan.stages[-1].artifact)
    return folder.with_name(folder.name + ".partial")


def assert_goes_on(outputs: Path, folder: Path, caplog: pytest.LogCaptureFixture, *overrides: str) -> None:
    """The same command resumes, and ends with the weights of one that was not cut off; no more is saved."""
    overrides = (*overrides, "hardware.save_minutes=1000")
    with caplog.at_level(logging.INFO):
        run = train_run(folder, *overrides)
    assert "resumes" in caplog.text
    assert weights_of(run) == weights_of(train_run(outputs, *overrides))


def test_a_stage_shorter_than_save_minutes_writes_no_checkpoint(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for minutes, count in (("1000", 0), ("0", 5)):
        run = train_run(tmp_path, *LONG, "stages.helpfulness.num_train_epochs=1", f"hardware.save_minutes={minutes}")
        assert caplog.text.count("saved    ") == count  # after each of 6 updates but the last
        shutil.rmtree(run.store.path(run.plan.stages[0].artifact))


def test_all_ranks_hash_and_the_one_before_stays_until_the_seal(tmp_path: Path) -> None:
    older, newer = (tmp_path / "checkpoints" / f"checkpoint-{step}" for step in (1, 2))
    for checkpoint in (older, newer):
        (checkpoint / "global_step").mkdir(parents=True)
        for rank in range(3):
            (checkpoint / "global_step" / f"{rank}.pt").write_text(f"{checkpoint.name} {rank}" * (rank + 1))
        (checkpoint / "latest").write_text("global_step")
        if checkpoint == older:
            seal(older, list_files(older))
    for rank in (2, 1):
        seal(newer, list_files(newer), rank, 3)
        assert find_checkpoint(tmp_path) == older
    seal(newer, list_files(newer), 0, 3)
    assert find_checkpoint(tmp_path) == newer
    assert not older.exists()
    assert len(list_files(newer)) == 4  # no hashes of single ranks are left


def test_a_disk_that_is_full_during_a_save_costs_that_checkpoint_only(
    outputs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = (*LONG, "stages.helpfulness.num_train_epochs=2")
    process = fork_command(tmp_path, "train", *SAVING, *given, f"paths.outputs={tmp_path}")
    wait_until(lambda: list(tmp_path.glob(SEALS)) or not process.is_alive())
    resource.prlimit(process.pid or 0, resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))  # of any file
    process.join()
    printed = (tmp_path / "printed").read_text("utf-8")
    assert process.exitcode == 1, printed
    assert "run the same command again" in printed.splitlines()[-1]
    assert find_checkpoint(partial_of(make_run(tmp_path, *given))) is not None
    assert_goes_on(outputs, tmp_path, caplog, *given)


@pytest.mark.slow
def test_a_stop_during_hashing_leaves_one_whole_checkpoint(
    outputs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = (*LONG, *LARGE)
    partial = partial_of(make_run(tmp_path, *given))
    process = start_training(tmp_path, *given)
    wait_until(lambda: list(tmp_path.glob(SEALS)), process)
    unsealed = wait_until(lambda: find_unsealed(partial), process, pause=0.002)
    process.send_signal(signal.SIGTERM)
    finish(process, 128 + signal.SIGTERM, timeout=60)
    (left,) = (partial / "checkpoints").glob("checkpoint-*")
    assert (left / SEAL).is_file()
    assert int(left.name.split("-")[1]) > int(unsealed.name.split("-")[1])
    assert_goes_on(outputs, tmp_path, caplog, *given)


def find_unsealed(partial: Path) -> Path | None:
    """The checkpoint that all ranks have written, and whose hashes are being taken."""
    for checkpoint in (partial / "checkpoints").glob("*/layout.txt"):
        if not (checkpoint.parent / SEAL).is_file():
            return checkpoint.parent
    return None


@pytest.mark.slow
def test_a_group_that_is_killed_at_any_moment_of_a_save_goes_on(
    tmp_path: Path, outputs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = (*LONG, "stages.helpfulness.num_train_epochs=20", "hardware=cpu_x2", "hardware.zero_stage=3")
    run, moments = make_run(tmp_path, *given), random.Random(0)
    for _ in range(3):
        before = set(tmp_path.glob(SEALS))
        process = start_training(tmp_path, *given)
        wait_until(lambda known=before: set(tmp_path.glob(SEALS)) - known, process)
        time.sleep(moments.uniform(0, 0.5))
        ranks = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert not psutil.wait_procs(ranks, timeout=10)[1]
        checkpoint = find_checkpoint(partial_of(run))
        assert checkpoint is not None
    shards = sum(path.stat().st_size for path in checkpoint.glob("global_step*/*"))
    assert shards == pytest.approx(checkpoint_bytes(run.config), rel=0.1)
    assert_goes_on(outputs, tmp_path, caplog, *given)


@pytest.mark.slow
@pytest.mark.parametrize("zero", ["0", "2"])
def test_the_plan_of_the_disk_is_what_is_written(tmp_path: Path, zero: str) -> None:
    given = (*LONG, *WIDER, "hardware=cpu_x2", f"hardware.zero_stage={zero}")
    process = start_training(tmp_path, *given)
    wait_until(lambda: list(tmp_path.glob(SEALS)), process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    run = make_run(tmp_path, *given)
    checkpoint = find_checkpoint(partial_of(run))
    assert checkpoint is not None
    heavy = sum((checkpoint / name).stat().st_size for name in list_files(checkpoint) if "token" not in name)
    assert heavy == pytest.approx(checkpoint_bytes(run.config), rel=0.1)
