"""Sweeps and jobs of several nodes through a real Slurm on this machine, which tells them to stop in the middle."""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import REPO, finish, run_program, start_command, wait_until
from slurm_cluster import SlurmCluster, why_not
from tiny import TINY, make_run, read_lines

pytestmark = [pytest.mark.slow, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]

#: The checkpoint of the signal is the only one.
LONG = ["base=none", "stages.safety.global_batch_size=4"]
LONG += ["stages.safety.num_train_epochs=25"]
SLURM = ["hydra/launcher=slurm", "hydra.launcher.partition=one", "hydra.launcher.cpus_per_task=1"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[SlurmCluster]:
    with tempfile.TemporaryDirectory(prefix="slurm", dir="/tmp") as folder, SlurmCluster(Path(folder)) as started:
        yield started


def start_sweep(cluster: SlurmCluster, outputs: Path, *overrides: str) -> "subprocess.Popen[str]":
    given = ["-m", *SLURM, *TINY, *LONG, f"paths.outputs={outputs}", *overrides]
    return start_command(outputs, "train", *given, SLURM_CONF=cluster.environment["SLURM_CONF"], OMP_NUM_THREADS="1")


def logs_of(outputs: Path) -> dict[str, str]:
    """What every job has printed so far, by its number in Slurm."""
    return {path.parent.name: path.read_text() for path in sorted(outputs.glob("multirun/*/*/slurm/*/*_log.out"))}


def wait_for_update(outputs: Path, artifact_id: str) -> str:
    """The number of the job that trains a second stage, as soon as it is in the middle."""

    def find_job() -> str | None:
        for job, log in logs_of(outputs).items():
            if artifact_id in log and re.search(r"safety stage: [1-9]\d* of 150", log.split(artifact_id)[-1]):
                return job
        return None

    return wait_until(find_job, pause=0.1) or ""


def ids_of(outputs: Path, beta: str) -> tuple[str, str]:
    first, second = make_run(outputs, *LONG, f"beta={beta}").plan.stages
    return first.artifact.id, second.artifact.id


def test_a_preempted_job_goes_on_from_the_checkpoint_of_the_signal(cluster: SlurmCluster, tmp_path: Path) -> None:
    first, second = ids_of(tmp_path, "0.1")
    sweep = start_sweep(cluster, tmp_path, "beta=0.1,0.05,0.025")
    job = wait_for_update(tmp_path, second)
    cluster.run("scancel", "--signal=USR2", job)
    cluster.release(job)
    finish(sweep)
    logs = logs_of(tmp_path)
    assert len(logs) == 3
    assert "stops    on SIGUSR2" in logs[job]
    assert re.search(rf"resumes  \S+/{second}.partial/checkpoints/checkpoint-\d+\n", logs[job])
    together = "".join(logs.values())
    assert together.count(f"trains   {first}\n") == 1
    trained = set(re.findall(r"finished \S+/stage/(\S+) in", together))
    assert trained == {first, *(ids_of(tmp_path, beta)[1] for beta in ("0.1", "0.05", "0.025"))}
    lines = read_lines(tmp_path / "store" / "stage" / second / "metrics.jsonl")
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 151))


def test_a_cancelled_job_is_told_and_made_by_the_same_command(cluster: SlurmCluster, tmp_path: Path) -> None:
    _, second = ids_of(tmp_path, "0.05")
    sweep = start_sweep(cluster, tmp_path, "beta=0.1,0.05")
    job = wait_for_update(tmp_path, second)
    cluster.run("scancel", job)
    said = finish(sweep, 1)
    assert "error: a job was lost, and the others go on: " in said
    assert "CANCELLED" in said
    finish(start_sweep(cluster, tmp_path, "beta=0.1,0.05"))
    new = "".join(log for name, log in logs_of(tmp_path).items() if name.split("_")[0] != job.split("_")[0])
    assert re.findall(r"trains   (\S+)", new) == [second]
    assert f"/{second}.partial/checkpoints/checkpoint-" in new.split("resumes")[1]


def test_one_job_of_two_nodes_is_requeued_at_its_end_of_time_and_goes_on(cluster: SlurmCluster, tmp_path: Path) -> None:
    overrides = [*TINY, "hardware=cpu_x2", "base=none", "order=helpful_only"]
    overrides += ["stages.helpfulness.num_train_epochs=150", f"paths.outputs={tmp_path}"]
    log = tmp_path / "job.log"
    settings = ["--parsable", "--partition=two", "--nodes=2", f"--output={log}"]
    settings += [f"--export=ALL,PYTHON={sys.executable}"]
    script = [str(REPO / "launchers" / "slurm_train.sbatch"), *overrides]
    environment = {"MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1", "SLURM_CONF": cluster.environment["SLURM_CONF"]}
    job = run_program(REPO, "sbatch", *settings, *script, **environment).strip()
    await_text(log, r"helpfulness stage: [1-9]\d* of 450")
    cluster.run("scancel", "--signal=TERM", job)
    cluster.release(job)
    await_text(log, r"finished \S+/stage/")
    said = log.read_text()
    assert said.count("interrupted by SIGTERM") == 2
    assert re.search(r"resumes  \S+/checkpoints/checkpoint-\d+\n", said)


def await_text(log: Path, pattern: str) -> None:
    wait_until(lambda: log.is_file() and re.search(pattern, log.read_text()), pause=0.1)
