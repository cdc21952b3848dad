"""What is read of a sweep from the files that its jobs leave."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock

from sacpo_exp.cluster.job_state import RUNNING, WAITING, JobState, note_plan, read_state, recorded, write_state
from sacpo_exp.cluster.status import format_sweep, newest_sweep, read_sweep
from sacpo_exp.errors import ConfigError, DivergedError, Interrupted


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A sweep of five jobs, as Hydra writes it before the first."""
    folder = tmp_path / "sweep"
    for number in range(4):
        (folder / str(number)).mkdir(parents=True)
    hydra = {
        "sweeper": {"_target_": "hydra._internal.core_plugins.basic_sweeper.BasicSweeper", "params": None},
        "overrides": {"task": ["model=tiny", "beta=0.5,0.4,0.3,0.2,0.1"]},
    }
    (folder / "multirun.yaml").write_text(yaml.safe_dump({"hydra": hydra}))
    return folder


def fail(folder: Path, error: BaseException) -> None:
    with pytest.raises(type(error)), recorded(folder):
        raise error


def dead_process() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_every_state_is_told_apart(sweep: Path) -> None:
    with recorded(sweep / "0"):
        pass
    fail(sweep / "1", DivergedError("training of the first stage diverged"))
    write_state(sweep / "2", JobState(RUNNING))
    write_state(sweep / "3", JobState(WAITING))
    jobs = read_sweep(sweep)
    assert [job.state for job in jobs] == ["done", "failed", "running", "waiting", "not started"]
    assert [job.overrides for job in jobs] == [f"beta=0.{5 - number}" for number in range(5)]
    assert jobs[1].message == "training of the first stage diverged"


def test_a_dead_process_neither_runs_nor_waits(sweep: Path) -> None:
    pid = dead_process()
    write_state(sweep / "0", JobState(RUNNING, pid=pid))
    write_state(sweep / "1", JobState(WAITING, pid=pid))
    write_state(sweep / "2", JobState(RUNNING, pid=pid, host="another-machine"))
    fail(sweep / "3", Interrupted())
    jobs = read_sweep(sweep)
    assert [job.state for job in jobs[:4]] == ["failed", "not started", "running", "stopped"]
    assert jobs[0].message == "its process was killed"


def test_stages_are_counted_and_the_one_under_way_is_named(sweep: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    (store / "stage" / "first").mkdir(parents=True)
    (store / "stage" / "first" / "manifest.json").write_text("{}")
    checkpoint = store / "stage" / "second.partial" / "checkpoints" / "checkpoint-4"
    checkpoint.mkdir(parents=True)
    (checkpoint / "trainer_state.json").write_text('{"global_step": 4, "max_steps": 10}')
    (store / ".locks").mkdir()
    with recorded(sweep / "0"), FileLock(store / ".locks" / "stage-second.lock"):
        note_plan(sweep / "0", store, ["stage/first", "stage/second", "merge/both"])
        job = read_sweep(sweep)[0]
    assert (job.stored, job.planned) == (1, 3)
    assert job.making == "makes stage/second, 4 of 10 updates"
    lines = list(format_sweep(sweep, [job]))
    assert lines[1].split()[:3] == ["0", "running", "1/3"]
    assert read_sweep(sweep)[0].making == ""  # the lock is free: nobody works on it


def test_the_newest_sweep_is_found(sweep: Path, tmp_path: Path) -> None:
    newer = tmp_path / "newer" / "multirun.yaml"
    newer.parent.mkdir()
    newer.write_text("{}")
    os.utime(sweep / "multirun.yaml", (0, 0))
    assert newest_sweep(tmp_path) == newer.parent


def test_where_no_sweep_is_that_is_said(tmp_path: Path, cli: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match="no sweep in"):
        newest_sweep(tmp_path)
    with pytest.raises(ConfigError, match="is not the folder of a sweep"):
        read_sweep(tmp_path)
    result = cli("store", "sweep", light=True)
    assert result.code == 2


def test_a_plan_is_kept_when_a_waiting_job_starts(sweep: Path) -> None:
    write_state(sweep / "0", JobState(WAITING, store="/store", artifacts=("stage/a",)))
    with recorded(sweep / "0"):
        state = read_state(sweep / "0")
    assert state is not None
    assert state.artifacts == ("stage/a",)
    ended = read_state(sweep / "0")
    assert ended is not None
    assert ended == replace(state, state="done", finished=ended.finished)
