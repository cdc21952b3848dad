"""How a worker group ended, from what its ranks left beside their job."""

import os
import re
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sacpo_exp.errors import ConfigError, DivergedError, LaunchError, SacpoError

#: As torch's launcher writes them: "failed (exitcode: -9) local_rank: 1 (pid: 7)" and, below, "rank : 3 …".
_EXIT = re.compile(r"exitcode\s*:\s*(-\d+)")
_RANK = re.compile(r"rank\s*:\s*(\d+)")
_ERROR = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception): .+|.*: No module named .+", re.MULTILINE)


@dataclass(frozen=True)
class Ending:
    """What one rank says of its end."""

    rank: int
    time: float
    metrics: dict[str, Any] | None = None
    is_stopped: bool = False
    exit_code: int = 0
    message: str = ""
    is_known: bool = True


def log_of(logs: Path, rank: int) -> Path:
    """What a rank prints."""
    return logs / f"rank-{rank}.log"


def start_logs(logs: Path) -> None:
    """An empty folder for the logs of a group; those of an attempt before go."""
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)


def write_ending(logs: Path, rank: int, **said: Any) -> None:
    """Leave how a rank ended, whole or not at all."""
    path = logs / f"rank-{rank}.yaml"
    partial = path.with_suffix(".partial")
    partial.write_text(yaml.safe_dump({"rank": rank, "time": time.time()} | said), "utf-8")
    partial.rename(path)


def read_endings(logs: Path) -> list[Ending]:
    """What the ranks left, the earliest first."""
    found = [Ending(**yaml.safe_load(path.read_text("utf-8"))) for path in logs.glob("rank-*.yaml")]
    return sorted(found, key=lambda ending: ending.time)


def explain(logs: Path, launcher: Path, what: str) -> SacpoError:
    """The error of a group that failed: of the rank that died first, with where its log lies.

    A rank that was killed says nothing, and those that talked to it complain: so killed ones come before others.
    """
    said = launcher.read_text("utf-8", errors="replace") if launcher.is_file() else ""
    if killed := _find_killed(said):
        rank, signum = killed
        return LaunchError(f"{what}: rank {rank} was ended by {_name(signum)}{_cause(signum)}. {_see(logs, rank)}")
    for ending in read_endings(logs):
        if ending.exit_code:
            return _error_of(logs, ending, what)
    reasons = _ERROR.findall(said)
    reason = reasons[0].strip() if reasons else "the workers ended without a word"
    return LaunchError(f"{what}: {reason}. Its log: {launcher}")


def _error_of(logs: Path, ending: Ending, what: str) -> SacpoError:
    if ending.exit_code == DivergedError.exit_code:
        return DivergedError(ending.message)
    if ending.exit_code == ConfigError.exit_code:
        return ConfigError(ending.message)
    return LaunchError(f"{what}: rank {ending.rank} failed: {ending.message} {_see(logs, ending.rank)}")


def _find_killed(said: str) -> tuple[int, int] | None:
    """(rank, signal) of a process that torch's launcher saw killed by other than its own SIGTERM."""
    lines = said.splitlines()
    for number, line in enumerate(lines):
        if (found := _EXIT.search(line)) and (signum := -int(found[1])) != signal.SIGTERM:
            near = [_RANK.search(other) for other in reversed(lines[max(0, number - 3) : number + 1])]
            ranks = [match for match in near if match]
            return int(ranks[0][1]) if ranks else 0, signum
    return None


def _name(signum: int) -> str:
    try:
        return signal.Signals(signum).name
    except ValueError:
        return f"signal {signum}"


def _cause(signum: int) -> str:
    return " (by hand, or by the system for lack of memory)" if signum == signal.SIGKILL else ""


def _see(logs: Path, rank: int) -> str:
    return f"Its log: {os.path.relpath(log_of(logs, rank))}"
