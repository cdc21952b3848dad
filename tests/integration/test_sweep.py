"""A sweep on two slots: real processes, a job that diverges, one that is killed, a sweep that is stopped."""

import json
import signal
import subprocess
from pathlib import Path

import psutil
import pytest
from processes import finish, start_command, wait_until
from tiny import SAVING, TINY, stored

from sacpo_exp.cluster.status import JobStatus, newest_sweep, read_sweep
from sacpo_exp.store import Manifest

pytestmark = pytest.mark.slow
SLOTS = ["-m", "hydra/launcher=slots", "hydra.launcher.slots=2", *SAVING, "base=none"]
LONG = ["stages.helpfulness.num_train_epochs=400", "beta=0.1,0.2", "order=helpful_only"]


@pytest.fixture(autouse=True)
def _any_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def start(folder: Path, *overrides: str) -> "subprocess.Popen[str]":
    return start_command(folder, "train", *SLOTS, *overrides)


def jobs_of(folder: Path) -> list[JobStatus]:
    return read_sweep(newest_sweep(folder / "multirun"))


def stages(folder: Path) -> dict[str, Manifest]:
    """All stored stages by id."""
    return {manifest.id: manifest for _, manifest in stored(folder / "outputs", "stage")}


def list_checkpoints(folder: Path) -> list[Path]:
    return list(folder.glob("outputs/store/stage/*.partial/checkpoints/*/sha256.json"))


def wait_for_two_stages(folder: Path) -> None:
    """Until both slots have saved a checkpoint."""
    wait_until(lambda: len({path.parents[2] for path in list_checkpoints(folder)}) >= 2)


def test_a_failing_job_stops_no_other_and_the_exit_code_says_so(tmp_path: Path) -> None:
    given = ["order=helpful_first", "stages.safety.beta=${beta}", "stages.safety.learning_rate=1e30,2e-4"]
    output = finish(start(tmp_path, *given), 3)
    failed, done = jobs_of(tmp_path)
    assert (failed.state, done.state) == ("failed", "done")
    assert "training of the safety stage diverged" in failed.message
    assert "error: job 0 (stages.safety.learning_rate=1e+30): training of the safety stage diverged" in output
    assert len(stages(tmp_path)) == 2  # the first stage of both, and one second
    (made,) = [stage.labels["overrides"] for stage in stages(tmp_path).values() if "safety" in stage.recipe.values()]
    assert made[-2:] == [r"stages.safety.beta=$\{beta\}", "stages.safety.learning_rate=0.0002"]  # as Hydra gives them
    log = newest_sweep(tmp_path / "multirun") / "0" / "train.log"
    assert "training of the safety stage diverged" in log.read_text("utf-8")


def test_after_a_killed_job_the_same_command_makes_only_the_rest(tmp_path: Path) -> None:
    given = ["stages.helpfulness.num_train_epochs=40,41,42", "order=helpful_only"]
    sweep = start(tmp_path, *given)
    wait_for_two_stages(tmp_path)
    psutil.Process(sweep.pid).children()[0].kill()
    assert "its process was killed by SIGKILL" in finish(sweep, 1)
    assert sorted(job.state for job in jobs_of(tmp_path)) == ["done", "done", "failed"]
    before = stages(tmp_path)
    finish(start(tmp_path, *given))
    assert [job.state for job in jobs_of(tmp_path)] == ["done"] * 3
    assert len(before) == 2
    assert before.items() <= stages(tmp_path).items()  # only the rest was made


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_a_sweep_that_ends_leaves_no_process(tmp_path: Path, signum: signal.Signals) -> None:
    sweep = start(tmp_path, *LONG)
    wait_for_two_stages(tmp_path)
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
        states = [seal.with_name("trainer_state.json").read_text() for seal in list_checkpoints(tmp_path)]
        assert len([json.loads(state)["global_step"] for state in states]) >= 2
    else:
        assert states == {"failed"}


def test_a_list_of_experiments_passes_a_stop_on_and_a_rerun_resumes(tmp_path: Path) -> None:
    """SIGTERM to the command that runs them one after the other: the stage in training ends with a checkpoint."""
    given = ["experiment=mini/methods", "base=none", "stages.helpfulness.num_train_epochs=50"]
    given += [*TINY, "hydra.mode=RUN", f"paths.outputs={tmp_path}"]
    with start_command(tmp_path, "train", *given) as process:
        assert process.stdout is not None
        output = ""
        while "helpfulness stage: 1 of" not in output:
            output += process.stdout.readline()
            assert process.poll() is None, output
        process.terminate()
        output += process.stdout.read()
    assert process.returncode == 128 + 15, output
    assert output.count("runs     sacpo train") == 1
    assert list(tmp_path.glob("store/stage/*.partial/checkpoints/checkpoint-*/trainer_state.json")), output
