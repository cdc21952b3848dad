"""Ranks that die, commands that are stopped: real worker groups, no orphans, nothing lost."""

import os
import re
import signal
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file
from test_resume import start, wait_for
from tiny import make_run

from sacpo_exp.pipeline import train_policies
from sacpo_exp.training.checkpoints import SEAL

pytestmark = pytest.mark.slow

LONG = ["base=none", "order=helpful_only", "stages.helpfulness.global_batch_size=4"]
LONG += ["stages.helpfulness.num_train_epochs=30"]


def workers_of(process: psutil.Popen) -> dict[int, psutil.Process]:
    """The ranks that a command has started."""
    found = {}
    for child in psutil.Process(process.pid).children(recursive=True):
        if "sacpo_exp.cluster.worker" in child.cmdline() and "torch.distributed.run" not in child.cmdline():
            found[int(child.environ()["RANK"])] = child
    return found


def test_a_killed_rank_ends_the_group_and_the_same_command_goes_on(tmp_path: Path) -> None:
    process = start(tmp_path, *LONG, "hardware=cpu_x2")
    wait_for(tmp_path, f"store/stage/*.partial/checkpoints/checkpoint-*/{SEAL}", process)
    ranks = workers_of(process)
    everyone = psutil.Process(process.pid).children(recursive=True)
    assert sorted(ranks) == [0, 1]
    ranks[1].kill()
    output, _ = process.communicate(timeout=10)
    assert not psutil.wait_procs(everyone, timeout=0)[1]
    assert process.returncode == 1
    assert re.search(r"error: the helpfulness stage: rank 1 was ended by SIGKILL .*rank-1\.log$", output, re.M), output
    again = start(tmp_path, *LONG, "hardware=cpu_x2")
    output, _ = again.communicate(timeout=120)
    assert again.returncode == 0, output
    assert "resumes" in output


ONE, TWO = ["hardware=cpu"], ["hardware=cpu_x2"]
CHANGES = {
    "one, then two": (ONE, TWO, "resumes  "),
    "ZeRO 3, then none": (
        [*TWO, "hardware.zero_stage=3"],
        ONE,
        "restarts the helpfulness stage: its checkpoint is of 2 processes",
    ),
}


@pytest.mark.parametrize(("before", "after", "said"), CHANGES.values(), ids=list(CHANGES))
def test_other_processes_go_on(outputs: Path, tmp_path: Path, before: list[str], after: list[str], said: str) -> None:
    few = [*LONG, "hardware.save_minutes=1000"]
    process = start(tmp_path, *few, *before)
    log = wait_for(tmp_path, "logs/*/rank-0.log", process) if before != ONE else None
    wait_until_training(process, log)
    everyone = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM, output
    assert "interrupted by SIGTERM: what was finished is stored" in output
    assert not psutil.wait_procs(everyone, timeout=0)[1]
    (checkpoint,) = tmp_path.glob("store/stage/*.partial/checkpoints/checkpoint-*")
    assert 0 < int(checkpoint.name.split("-")[1]) < 180

    again = start(tmp_path, *few, *after)
    output, _ = again.communicate(timeout=240)
    assert again.returncode == 0, output
    assert said in output
    unbroken = make_run(outputs, *few)
    train_policies(unbroken)
    (artifact,) = [stage.artifact for stage in unbroken.plan.stages]
    expected, found = (
        load_file(root / "store/stage" / artifact.id / "model.safetensors") for root in (outputs, tmp_path)
    )
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-5)


def wait_until_training(process: psutil.Popen, log: Path | None) -> None:
    """Wait for the first line of progress."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        said = log.read_text() if log else os.read(process.stdout.fileno(), 4096).decode(errors="replace")
        if re.search(r"helpfulness stage: [1-9]\d* of 180", said):
            return
        time.sleep(0.05)
    raise AssertionError(said)
