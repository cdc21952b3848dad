"""What is read of a sweep from the files that its jobs leave."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from sacpo_exp.cluster import status
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
    with pytest.raises(type(error)), status.recorded(folder):
        raise error


def test_every_state_is_told_apart(sweep: Path) -> None:
    with status.recorded(sweep / "0"):
        pass
    fail(sweep / "1", DivergedError("training of the first stage diverged"))
    status.write_state(sweep / "2", status.JobState(status.RUNNING))
    jobs = status.read_sweep(sweep)
    assert [job.state for job in jobs] == ["done", "failed", "running", "not started", "not started"]
    assert [job.overrides for job in jobs] == [f"beta=0.{5 - number}" for number in range(5)]
    assert jobs[1].message == "training of the first stage diverged"


def test_a_dead_process_does_not_run(sweep: Path) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    pid = process.pid
    status.write_state(sweep / "0", status.JobState(status.RUNNING, pid=pid))
    status.write_state(sweep / "2", status.JobState(status.RUNNING, pid=pid, host="another-machine"))
    fail(sweep / "3", Interrupted())
    jobs = status.read_sweep(sweep)
    assert [job.state for job in jobs[:4]] == ["failed", "not started", "running", "stopped"]
    assert jobs[0].message == "its process was killed"


def test_stages_are_counted(sweep: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    (store / "stage" / "first").mkdir(parents=True)
    (store / "stage" / "first" / "manifest.json").write_text("{}")
    with status.recorded(sweep / "0"):
        status.note_plan(sweep / "0", store, ["stage/first", "stage/second", "merge/both"])
        job = status.read_sweep(sweep)[0]
    assert (job.state, job.stored, job.planned) == ("running", 1, 3)
    assert list(status.format_sweep(sweep, [job]))[1].split()[:3] == ["0", "running", "1/3"]
    assert status.read_sweep(sweep)[0].state == "done"


def test_the_newest_sweep_is_found(sweep: Path, tmp_path: Path) -> None:
    newer = tmp_path / "newer" / "multirun.yaml"
    newer.parent.mkdir()
    newer.write_text("{}")
    os.utime(sweep / "multirun.yaml", (0, 0))
    assert status.newest_sweep(tmp_path) == newer.parent


def test_where_no_sweep_is_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no sweep in"):
        status.newest_sweep(tmp_path)
    with pytest.raises(ConfigError, match="is not the folder of a sweep"):
        status.read_sweep(tmp_path)
