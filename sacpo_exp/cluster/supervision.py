"""Supervise processes that belong together: the log of the first is shown, all end together, none is left behind."""

import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from sacpo_exp.stopping import StopFile, catching_stops

log = logging.getLogger(__name__)

#: Seconds between checks of the processes.
INTERVAL = 0.1
#: Seconds that processes get to end by themselves after one of them has failed.
PATIENCE = 5.0
#: Variable with the id of the supervising process, for processes that it does not start itself.
SUPERVISOR = "SACPO_SUPERVISOR"
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Member:
    """A process to start: its command, its whole environment, and the file for its output."""

    command: Sequence[str]
    environment: Mapping[str, str]
    output: Path


def supervise(members: Sequence[Member], stop: StopFile, progress: Path, grace: float) -> list[int]:
    """Run processes until all have ended, and return their exit codes (minus the signal that ended one;
    minus SIGTERM for those that this function ended).

    When one fails the others are ended. When this process is asked to stop it asks its members by `stop`, gives them
    `grace` seconds if they are training, and then ends them.

    Args:
        stop: the file by which members are asked to stop; removed first.
        progress: log that is copied to this process's standard error as it grows.

    Raises:
        Interrupted: this process was asked to stop; all members have ended.
    """
    stop.clear()
    running: list[subprocess.Popen[bytes]] = []
    with catching_stops() as request, Echo(progress) as echo:
        request.set_training(True)  # from here on a signal is answered below
        deadline = float("inf")
        try:
            running.extend(_start(member) for member in members)
            while None in [process.poll() for process in running]:
                time.sleep(INTERVAL)
                echo.catch_up()
                if request.is_asked() and not stop.is_asked():
                    stop.ask()
                    deadline = time.monotonic() + (grace if stop.is_training() else 0)
                if any(process.returncode for process in running):
                    deadline = min(deadline, time.monotonic() + PATIENCE)
                if time.monotonic() >= deadline:
                    break
        finally:
            codes = [process.poll() for process in running]
            for process in running:
                end_tree(process)
        echo.catch_up()
    return [-signal.SIGTERM if code is None else code for code in codes]


def _start(member: Member) -> "subprocess.Popen[bytes]":
    with member.output.open("ab") as output:
        return subprocess.Popen(
            member.command,
            env={**member.environment, SUPERVISOR: str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # or Ctrl-C would reach it directly
            preexec_fn=partial(die_with_parent, os.getpid()),
        )


def end_tree(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process and everything that it has started, and wait for their end."""
    import psutil

    try:
        members = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        members = []
    if process.poll() is None:
        process.kill()
    for member in members:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()  # first: its children may become those of this process, which then waits for them itself
    psutil.wait_procs(members, timeout=PATIENCE)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when `parent`, which started it, dies, however it dies; on Linux only.

    End this process if `parent` has died already. Process 1 may be the parent itself.
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def die_with_launcher() -> bool:
    """Do as `die_with_parent` for a process with a launcher between it and its supervisor.

    Returns:
        Whether the parent is such a launcher; it is not if the launcher died before, or without a supervisor.
    """
    import psutil

    launcher = os.getppid()
    die_with_parent(launcher)
    try:
        return str(psutil.Process(launcher).ppid()) == os.environ.get(SUPERVISOR)
    except psutil.NoSuchProcess:
        return False


class Echo:
    """Copies what is appended to a log to standard error; the log may not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None

    def __enter__(self) -> "Echo":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def catch_up(self) -> None:
        if self._file is None and self.path.is_file():
            self._file = self.path.open(encoding="utf-8", errors="replace")
        if self._file is not None and (text := self._file.read()):
            sys.stderr.write(text)
            sys.stderr.flush()
