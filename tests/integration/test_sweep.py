"""A sweep on two slots: real processes, a job that diverges, one that is killed, a sweep that is stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tiny import TINY

from sacpo_exp.store import Store
from sacpo_exp.sweeping.status import JobStatus, newest_sweep, read_sweep

REPO = Path(__file__).parents[2]
SLOTS = ["-m", "hydra/launcher=slots", "hydra.launcher.slots=2", "hydra.launcher.threads=1", *TINY, "base=none"]
LONG = ["stages.first.num_train_epochs=400", "beta=0.1,0.2", "order=helpful_only"]


def start(folder: Path, *overrides: str) -> "subprocess.Popen[str]":
    """A sweep in a process of its own, as users start it."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("CUDA_")}
    return subprocess.Popen(
        [sys.executable, "-m", "sacpo_exp.train", *SLOTS, *overrides],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(REPO), "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    stdout, stderr = process.communicate(timeout=240)
    return process.returncode, stdout, stderr


def jobs_of(folder: Path) -> list[JobStatus]:
    return read_sweep(newest_sweep(folder / "multirun"))


def created(folder: Path) -> dict[str, str]:
    """When each stage was begun, by id."""
    manifests = Store(folder / "outputs" / "store").manifests()
    return {manifest.id: manifest.created for _, manifest in manifests if manifest.kind == "stage"}


def wait_for_checkpoints(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if len(list(folder.glob("outputs/store/stage/*.partial/checkpoints/*/sha256.json"))) >= count:
            return
        time.sleep(0.1)
    pytest.fail("nothing was trained")


@pytest.fixture
def stopped() -> Iterator[list["subprocess.Popen[str]"]]:
    """Sweeps that a test has started; none outlives it."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_a_failing_job_stops_no_other_and_the_second_run_makes_only_the_rest(tmp_path: Path) -> None:
    rates = ["order=helpful_first", "beta=0.1,0.2", "stages.second.learning_rate=2e-4,1e30"]
    code, _, stderr = finish(start(tmp_path, *rates))
    assert code == 3, stderr
    failed = [job for job in jobs_of(tmp_path) if job.state == "failed"]
    assert [(job.number, job.stored, job.planned) for job in failed] == [(1, 1, 2), (3, 1, 2)]
    assert "diverged" in failed[0].message
    assert "error: job 3 (beta=0.2 stages.second.learning_rate=1e+30): training of the second stage diverged" in stderr
    assert [job.state for job in jobs_of(tmp_path) if job.number in (0, 2)] == ["done", "done"]
    before = created(tmp_path)
    assert len(before) == 3  # one first stage for four jobs, two second ones
    assert sum("dpo_h" in name or "dpo-h" in name for name in before) == 3
    log = (newest_sweep(tmp_path / "multirun") / "1" / "train.log").read_text()
    assert "training of the second stage diverged" in log

    code, stdout, stderr = finish(start(tmp_path, *rates[:2], "stages.second.learning_rate=2e-4,3e-4"))
    assert code == 0, stderr
    assert [job.state for job in jobs_of(tmp_path)] == ["done"] * 4
    after = created(tmp_path)
    assert len(after) == 5
    assert before.items() <= after.items()
    assert stdout.count("stored   job") == 2


@pytest.mark.slow
def test_a_killed_job_is_a_failure_and_its_slot_goes_on(tmp_path: Path, stopped: list["subprocess.Popen[str]"]) -> None:
    sweep = start(tmp_path, "stages.first.num_train_epochs=40,41,42", "order=helpful_only")
    stopped.append(sweep)
    wait_for_checkpoints(tmp_path, 2)
    victim = psutil.Process(sweep.pid).children()[0]
    victim.kill()
    code, _, stderr = finish(sweep)
    assert code == 1
    assert "its process was killed by SIGKILL" in stderr
    assert sorted(job.state for job in jobs_of(tmp_path)) == ["done", "done", "failed"]
    code, _, stderr = finish(start(tmp_path, "stages.first.num_train_epochs=40,41,42", "order=helpful_only"))
    assert code == 0, stderr
    assert [job.state for job in jobs_of(tmp_path)] == ["done"] * 3


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_a_sweep_that_ends_leaves_no_process(
    tmp_path: Path, stopped: list["subprocess.Popen[str]"], signum: signal.Signals
) -> None:
    sweep = start(tmp_path, *LONG)
    stopped.append(sweep)
    wait_for_checkpoints(tmp_path, 2)
    children = psutil.Process(sweep.pid).children(recursive=True)
    assert len(children) == 2
    sweep.send_signal(signum)
    sweep.communicate(timeout=40)
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []
    states = {job.state for job in jobs_of(tmp_path)}
    if signum == signal.SIGTERM:
        assert sweep.returncode == 128 + signum
        assert states == {"stopped"}
        seals = list(tmp_path.glob("outputs/store/stage/*.partial/checkpoints/*/sha256.json"))
        steps = [json.loads(seal.with_name("trainer_state.json").read_text())["global_step"] for seal in seals]
        assert len(steps) >= 2
    else:
        assert states == {"failed"}
