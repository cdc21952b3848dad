"""Ranks that die, commands that are stopped: real worker groups, no orphans, nothing lost."""

import os
import re
import signal
from pathlib import Path

import psutil
import pytest
import torch
from processes import finish, wait_until
from safetensors.torch import load_file
from tiny import start_training, train_run

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
    process = start_training(tmp_path, *LONG, "hardware=cpu_x2")
    wait_until(lambda: list(tmp_path.glob(f"store/stage/*.partial/checkpoints/checkpoint-*/{SEAL}")), process)
    ranks = workers_of(process)
    everyone = psutil.Process(process.pid).children(recursive=True)
    assert sorted(ranks) == [0, 1]
    ranks[1].kill()
    output = finish(process, 1, timeout=10)
    assert not psutil.wait_procs(everyone, timeout=0)[1]
    assert re.search(r"error: the helpfulness stage: rank 1 was ended by SIGKILL .*rank-1\.log$", output, re.M), output
    assert "resumes" in finish(start_training(tmp_path, *LONG, "hardware=cpu_x2"))


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
    process = start_training(tmp_path, *few, *before)
    log = wait_until(lambda: list(tmp_path.glob("logs/*/rank-0.log")), process)[0] if before != ONE else None
    wait_until(lambda: is_training(process, log), process)
    everyone = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    output = finish(process, 128 + signal.SIGTERM, timeout=30)
    assert "interrupted by SIGTERM: what was finished is stored" in output
    assert not psutil.wait_procs(everyone, timeout=0)[1]
    (checkpoint,) = tmp_path.glob("store/stage/*.partial/checkpoints/checkpoint-*")
    assert 0 < int(checkpoint.name.split("-")[1]) < 180

    assert said in finish(start_training(tmp_path, *few, *after))
    unbroken = train_run(outputs, *few)
    (artifact,) = [stage.artifact for stage in unbroken.plan.stages]
    expected, found = (
        load_file(root / "store/stage" / artifact.id / "model.safetensors") for root in (outputs, tmp_path)
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def is_training(process: psutil.Popen, log: Path | None) -> bool:
    """Whether the first line of progress is there."""
    said = log.read_text() if log else os.read(process.stdout.fileno(), 4096).decode(errors="replace")
    return re.search(r"helpfulness stage: [1-9]\d* of 180", said) is not None
