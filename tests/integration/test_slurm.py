"""Sweeps and jobs of several nodes through a real Slurm on this machine, which tells them to stop in the middle."""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_cluster import SlurmCluster, why_not
from tiny import TINY, make_run, read_lines

pytestmark = [pytest.mark.slow, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]

REPO = Path(__file__).parents[2]
#: The checkpoint of the signal is the only one.
LONG = ["base=none", "stages.safety.global_batch_size=4"]
LONG += ["stages.safety.num_train_epochs=25"]
SLURM = ["hydra/launcher=slurm", "hydra.launcher.partition=one", "hydra.launcher.cpus_per_task=1"]
PATIENCE = 240


@pytest.fixture(scope="module")
def cluster() -> Iterator[SlurmCluster]:
    with tempfile.TemporaryDirectory(prefix="slurm", dir="/tmp") as folder, SlurmCluster(Path(folder)) as started:
        yield started


def start_sweep(cluster: SlurmCluster, outputs: Path, *overrides: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "sacpo_exp.train", "-m", *SLURM, *TINY, *LONG, f"paths.outputs={outputs}"]
    environment = {**cluster.environment, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen([*command, *overrides], cwd=outputs, env=environment, text=True, **output)


def logs_of(outputs: Path) -> dict[str, str]:
    """What every job has printed so far, by its number in Slurm."""
    return {path.parent.name: path.read_text() for path in sorted(outputs.glob("multirun/*/*/slurm/*/*_log.out"))}


def wait_for_update(outputs: Path, artifact_id: str) -> str:
    """The number of the job that trains a second stage, as soon as it is in the middle."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        for job, log in logs_of(outputs).items():
            if artifact_id in log and re.search(r"safety stage: [1-9]\d* of 150", log.split(artifact_id)[-1]):
                return job
        time.sleep(0.1)
    raise AssertionError(f"{artifact_id} was not trained\n{logs_of(outputs)}")


def ids_of(outputs: Path, beta: str) -> tuple[str, str]:
    first, second = make_run(outputs, *LONG, f"beta={beta}").plan.stages
    return first.artifact.id, second.artifact.id


def test_a_preempted_job_goes_on_from_the_checkpoint_of_the_signal(cluster: SlurmCluster, tmp_path: Path) -> None:
    first, second = ids_of(tmp_path, "0.1")
    sweep = start_sweep(cluster, tmp_path, "beta=0.1,0.05,0.025")
    job = wait_for_update(tmp_path, second)
    cluster.run("scancel", "--signal=USR2", job)
    cluster.release(job)
    said, _ = sweep.communicate(timeout=PATIENCE)
    assert sweep.returncode == 0, said
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
    said, _ = sweep.communicate(timeout=PATIENCE)
    assert sweep.returncode == 1, said
    assert "error: a job was lost, and the others go on: " in said
    assert "CANCELLED" in said
    again = start_sweep(cluster, tmp_path, "beta=0.1,0.05")
    said, _ = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, said
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
    environment = {**cluster.environment, "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(["sbatch", *settings, *script], cwd=REPO, env=environment, capture_output=True, text=True)
    job = done.stdout.strip()
    await_text(log, r"helpfulness stage: [1-9]\d* of 450")
    cluster.run("scancel", "--signal=TERM", job)
    cluster.release(job)
    await_text(log, r"finished \S+/stage/")
    said = log.read_text()
    assert said.count("interrupted by SIGTERM") == 2
    assert re.search(r"resumes  \S+/checkpoints/checkpoint-\d+\n", said)


def await_text(log: Path, pattern: str) -> None:
    end = time.monotonic() + PATIENCE
    while not (log.is_file() and re.search(pattern, log.read_text())):
        assert time.monotonic() < end, log.read_text() if log.is_file() else "no log"
        time.sleep(0.1)
