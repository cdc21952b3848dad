"""What is read from the files that the jobs of a sweep and the ranks of a group leave."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from sacpo_exp.cluster import status
from sacpo_exp.cluster.worker import explain, read_endings, write_ending
from sacpo_exp.errors import ConfigError, DivergedError, Interrupted, LaunchError, SacpoError


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


def test_the_newest_sweep_is_found_or_that_there_is_none(sweep: Path, tmp_path: Path) -> None:
    newer = tmp_path / "newer" / "multirun.yaml"
    newer.parent.mkdir()
    newer.write_text("{}")
    os.utime(sweep / "multirun.yaml", (0, 0))
    assert status.newest_sweep(tmp_path) == newer.parent
    with pytest.raises(ConfigError, match="no sweep in"):
        status.newest_sweep(sweep / "0")
    with pytest.raises(ConfigError, match="is not the folder of a sweep"):
        status.read_sweep(tmp_path)


WHAT = "the first stage"
#: What torch 2.13 printed after `kill -9` of rank 1.
KILLED = """E1124 torch/distributed/elastic/multiprocessing/api.py] failed (exitcode: -9) local_rank: 1 (pid: 4242)
============================================================
Root Cause (first observed failure):
[0]:
  time      : 2026-11-24_16:43:31
  rank      : 1 (local_rank: 1)
  exitcode  : -9 (pid: 4242)
  traceback : Signal 9 (SIGKILL) received by PID 4242
"""


def explained(logs: Path, launcher: str = "") -> SacpoError:
    path = logs / "launcher-0.log"
    path.write_text(launcher)
    return explain(logs, path, WHAT)


def test_a_killed_rank_is_to_blame_and_those_that_were_ended_in_turn_are_not(tmp_path: Path) -> None:
    write_ending(tmp_path, 0, exit_code=1, message="RuntimeError: connection closed by peer.")
    error = explained(tmp_path, KILLED)
    assert isinstance(error, LaunchError)
    assert str(error).startswith("the first stage: rank 1 was ended by SIGKILL (by hand, or by the system for lack")
    assert str(error).endswith("rank-1.log")
    write_ending(tmp_path, 0, exit_code=1, message="ValueError: bad.")
    error = explained(tmp_path, KILLED.replace("-9", "-15"))
    assert str(error).startswith("the first stage: rank 0 failed: ValueError: bad. Its log: ")


def test_the_rank_that_failed_first_is_named(tmp_path: Path) -> None:
    write_ending(tmp_path, 3, exit_code=1, message="ValueError: the cause.")
    write_ending(tmp_path, 0, exit_code=1, message="RuntimeError: a consequence.")
    assert [ending.rank for ending in read_endings(tmp_path)] == [3, 0]
    assert "rank 3 failed: ValueError: the cause." in str(explained(tmp_path))


@pytest.mark.parametrize("kind", [DivergedError, ConfigError])
def test_errors_keep_their_exit_code_and_words(tmp_path: Path, kind: type[SacpoError]) -> None:
    write_ending(tmp_path, 1, exit_code=kind.exit_code, message="what is wrong.")
    error = explained(tmp_path)
    assert type(error) is kind
    assert str(error) == "what is wrong."


@pytest.mark.parametrize("reason", ["python: No module named sacpo_exp.cluster.worker", ""])
def test_a_group_that_never_began_is_explained_by_its_launcher(tmp_path: Path, reason: str) -> None:
    told = reason or "the workers ended without a message"
    assert str(explained(tmp_path, reason)) == f"{WHAT}: {told}. Its log: {tmp_path / 'launcher-0.log'}"
