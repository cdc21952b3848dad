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
    """A sweep of which three jobs have been started, as Hydra writes it."""
    folder = tmp_path / "sweep"
    for number in range(3):
        (folder / str(number) / "hydra").mkdir(parents=True)
        written = folder / str(number) / "hydra" / "overrides.yaml"
        written.write_text(yaml.safe_dump(["model=tiny", f"beta=0.{5 - number}"]))
    (folder / "multirun.yaml").touch()
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
    assert [job.state for job in jobs] == ["done", "failed", "running"]
    assert [job.overrides for job in jobs] == [f"beta=0.{5 - number}" for number in range(3)]
    lines = list(status.format_sweep(sweep, jobs))
    assert lines[2] == "   1  failed      beta=0.4  training of the first stage diverged"
    assert lines[-1] == f"1 done, 1 failed, 1 running, in {sweep}"


def test_a_dead_process_does_not_run(sweep: Path) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    pid = process.pid
    status.write_state(sweep / "0", status.JobState(status.RUNNING, pid=pid))
    status.write_state(sweep / "2", status.JobState(status.RUNNING, pid=pid, host="another-machine"))
    fail(sweep / "1", Interrupted())
    jobs = status.read_sweep(sweep)
    assert [job.state for job in jobs] == ["failed", "stopped", "running"]
    assert jobs[0].message == "its process was killed"


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
