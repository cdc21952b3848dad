"""Commands as process 1, as in a container."""

import subprocess
import sys
from pathlib import Path

import pytest

ISOLATE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]

#: Starts a rank, says so, and outlives it, as torchrun does.
LAUNCHER = """
import subprocess, sys
rank = subprocess.Popen([sys.executable, "-m", "sacpo_exp.cluster.worker", sys.argv[1]])
print(rank.pid, flush=True)
rank.wait()
"""

#: Starts one of each kind of worker on a job that is not there: who reaches it says what is wrong with it.
START_ALL = f"""
import os, sys
from pathlib import Path
from sacpo_exp.cluster.worker import read_endings
from sacpo_exp.cluster.supervision import Member, run_jobs, start_process, supervise
from sacpo_exp.stopping import StopFile

assert os.getpid() == 1
folder = Path(sys.argv[1])
launcher = [sys.executable, "-c", {LAUNCHER!r}]
answers = [sys.executable, "-m", "sacpo_exp.evaluation.generation"]
for rank, command in enumerate([[*launcher, str(folder / "job")], [*answers, str(folder / "job"), str(folder), "[0]"]]):
    member = Member(command, os.environ | {{"RANK": str(rank)}}, folder / "output")
    supervise([member], StopFile(folder), folder / "output", 1)
print("ranks", sorted(ending.rank for ending in read_endings(folder)))
slot = [sys.executable, "-m", "sacpo_exp", "train", "beta=-1"]
run_jobs([0], [{{}}], lambda *_: start_process(slot, os.environ, folder / "slot.log"), print)
print((folder / "slot.log").read_text())
"""


@pytest.fixture
def as_process_one() -> list[str]:
    """What to put before a command so that it becomes process 1 of a namespace of its own."""
    try:
        problem = subprocess.run([*ISOLATE, "true"], capture_output=True, text=True, check=False).stderr
    except OSError as error:
        problem = str(error)
    if problem:
        pytest.skip(f"a PID namespace can't be made here (it takes root and util-linux): {problem.strip()}")
    return ISOLATE


def test_process_one_has_workers_and_slots(as_process_one: list[str], tmp_path: Path) -> None:
    command = [*as_process_one, sys.executable, "-c", START_ALL, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert "ranks [0, 1]" in done.stdout, done.stderr
    assert "`beta` must be greater than 0" in done.stdout, done.stderr
