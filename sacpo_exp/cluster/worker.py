"""What each rank of a worker group runs, how it records its end, and how the end of a group is explained.

A worker trains one stage, read from a file. It does not use Hydra and composes nothing.
"""

import logging
import os
import re
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sacpo_exp.cluster.memory import explaining_shortage
from sacpo_exp.cluster.supervision import die_with_launcher
from sacpo_exp.config.loading import quiet_libraries, read_job
from sacpo_exp.errors import ConfigError, DivergedError, LaunchError, SacpoError, sum_up
from sacpo_exp.stopping import StopFile
from sacpo_exp.store.manifest import write_whole

#: torch's launcher writes "failed (exitcode: -9) local_rank: 1 (pid: 7)" and, below, "rank : 3 …".
_EXIT = re.compile(r"exitcode\s*:\s*(-\d+)")
_RANK = re.compile(r"rank\s*:\s*(\d+)")
_ERROR = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception): .+|.*: No module named .+", re.MULTILINE)


@dataclass(frozen=True)
class Ending:
    """How one rank ended."""

    rank: int
    time: float
    metrics: dict[str, Any] | None = None
    is_stopped: bool = False
    exit_code: int = 0
    message: str = ""


def log_of(logs: Path, rank: int) -> Path:
    """Return the file into which a rank prints."""
    return logs / f"rank-{rank}.log"


def start_logs(logs: Path) -> None:
    """Make an empty folder for the logs of a group."""
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)


def write_ending(logs: Path, rank: int, **fields: Any) -> None:
    """Record how a rank ended, whole or not at all."""
    write_whole(logs / f"rank-{rank}.yaml", yaml.safe_dump({"rank": rank, "time": time.time()} | fields))


def read_endings(logs: Path) -> list[Ending]:
    """Return how the ranks ended, the earliest first."""
    endings = [Ending(**yaml.safe_load(path.read_text("utf-8"))) for path in logs.glob("rank-*.yaml")]
    return sorted(endings, key=lambda ending: ending.time)


def explain(logs: Path, launcher: Path, what: str) -> SacpoError:
    """Return the error of a group that failed: that of the rank that died first, with the path of its log.

    A killed rank writes nothing, and the ranks that talked to it fail with other errors, so killed ones come first.
    """
    text = launcher.read_text("utf-8", errors="replace") if launcher.is_file() else ""
    if killed := _find_killed(text.splitlines()):
        rank, signum = killed
        name = next((known.name for known in signal.Signals if known == signum), f"signal {signum}")
        cause = " (by hand, or by the system for lack of memory)" if signum == signal.SIGKILL else ""
        return LaunchError(f"{what}: rank {rank} was ended by {name}{cause}. {_see(logs, rank)}")
    for ending in read_endings(logs):
        if ending.exit_code == DivergedError.exit_code:
            return DivergedError(ending.message)
        if ending.exit_code == ConfigError.exit_code:
            return ConfigError(ending.message)
        if ending.exit_code:
            return LaunchError(f"{what}: rank {ending.rank} failed: {ending.message} {_see(logs, ending.rank)}")
    reasons = _ERROR.findall(text) or ["the workers ended without a message"]
    return LaunchError(f"{what}: {reasons[0].strip()}. Its log: {launcher}")


def _find_killed(lines: list[str]) -> tuple[int, int] | None:
    """Return (rank, signal) of a process that torch's launcher saw killed, other than by its own SIGTERM."""
    for number, line in enumerate(lines):
        if (exit_code := _EXIT.search(line)) and (signum := -int(exit_code[1])) != signal.SIGTERM:
            near = [_RANK.search(other) for other in reversed(lines[max(0, number - 3) : number + 1])]
            ranks = [match for match in near if match]
            return int(ranks[0][1]) if ranks else 0, signum
    return None


def _see(logs: Path, rank: int) -> str:
    return f"Its log: {os.path.relpath(log_of(logs, rank))}"


def main() -> None:
    if not die_with_launcher() or len(sys.argv) != 2:
        sys.exit("a worker is started by sacpo_exp.train, not by hand. Try: sacpo train")
    path, rank = Path(sys.argv[1]), int(os.environ.get("RANK", "0"))
    descriptor = os.open(log_of(path.parent, rank), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):  # what libraries' C code prints goes there too
        os.dup2(descriptor, stream)
    logging.basicConfig(level=logging.INFO if rank == 0 else logging.WARNING, format="%(message)s")
    try:
        work(path, rank)
    except Exception as error:
        write_ending(path.parent, rank, **sum_up(error))
        os._exit(1)  # ranks that wait for this one would keep an orderly exit waiting


def work(path: Path, rank: int) -> None:
    """Train the stage of a job file; every rank records how it ended beside it, the first one its metrics."""
    quiet_libraries()
    from sacpo_exp.training.stage import train_stage

    job = read_job(path)
    with explaining_shortage(job):
        metrics = train_stage(job, StopFile(path.parent))
    write_ending(path.parent, rank, metrics=metrics if rank == 0 else None, is_stopped=metrics is None)


if __name__ == "__main__":
    main()
