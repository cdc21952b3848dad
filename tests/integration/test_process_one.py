"""Commands as process 1, as in a container, and beside a subreaper, which adopts orphans instead of process 1."""

import ctypes
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from sacpo_exp.cluster.worker import log_of

ISOLATE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
_PR_SET_CHILD_SUBREAPER = 36

#: Starts a rank, says so, and outlives it, as accelerate's launcher does.
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
from sacpo_exp.cluster.supervision import Member, supervise
from sacpo_exp.stopping import StopFile
from sacpo_exp.cluster.devices import Share
from sacpo_exp.cluster.slots import run_jobs

assert os.getpid() == 1
folder = Path(sys.argv[1])
launcher = [sys.executable, "-c", {LAUNCHER!r}]
answers = [sys.executable, "-m", "sacpo_exp.evaluation.generation"]
for rank, command in enumerate([[*launcher, str(folder / "job")], [*answers, str(folder / "job"), str(folder), "[0]"]]):
    member = Member(command, os.environ | {{"RANK": str(rank)}}, folder / "output")
    supervise([member], StopFile(folder), folder / "output", 1)
print("ranks", sorted(ending.rank for ending in read_endings(folder)))
slot = [sys.executable, "-m", "sacpo_exp.slot", "train", str(folder)]
run_jobs({{0: slot}}, {{0: folder / "slot.log"}}, [Share((), 1)], 1, print)
print((folder / "slot.log").read_text())
"""

#: Supervises a launcher.
SUPERVISE = """
import os, sys
from pathlib import Path
from sacpo_exp.cluster.supervision import Member, supervise
from sacpo_exp.stopping import StopFile
folder = Path(sys.argv[1])
command = [sys.executable, "-c", sys.argv[2], str(folder / "job")]
supervise([Member(command, os.environ, folder / "output")], StopFile(folder), folder / "output", 1)
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


@pytest.fixture
def living() -> Iterator[Callable[[], list[psutil.Process]]]:
    """Makes this process a subreaper; calling it gives the children, adopted ones too, that are alive."""
    libc = ctypes.CDLL(None)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1) != 0:
        pytest.skip("this system has no subreapers")
    before = set(find_living())
    yield lambda: [child for child in find_living() if child not in before]
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 0)
    for child in set(find_living()) - before:
        child.kill()
        child.wait()


def find_living() -> list[psutil.Process]:
    living = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            if child.status() != psutil.STATUS_ZOMBIE:
                living.append(child)
    return living


def wait_until(holds: Callable[[], object], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_process_one_has_workers_and_slots(as_process_one: list[str], tmp_path: Path) -> None:
    command = [*as_process_one, sys.executable, "-c", START_ALL, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert "ranks [0, 1]" in done.stdout, done.stderr
    assert "resolved.yaml" in done.stdout, done.stderr  # which the slot lacks


def test_a_rank_whose_launcher_dies_at_its_start_does_nothing(
    tmp_path: Path, living: Callable[[], list[psutil.Process]]
) -> None:
    command = subprocess.Popen([sys.executable, "-c", SUPERVISE, str(tmp_path), LAUNCHER])
    output = tmp_path / "output"
    wait_until(lambda: output.exists() and output.read_text().endswith("\n"), 30)
    command.kill()
    command.wait()
    assert not log_of(tmp_path, 0).exists()  # it is still importing
    wait_until(lambda: not living(), 30)
    assert not log_of(tmp_path, 0).exists()
