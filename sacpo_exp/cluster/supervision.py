"""Run processes that end together (the ranks of a group) or one after the other (jobs); none is left behind."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sacpo_exp.stopping import StopFile, catching_stops

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
    the time of an update and `grace` seconds if they are training, and then ends them.

    Args:
        stop: the file by which members are asked to stop; removed first.
        progress: log that is copied to this process's standard error as it grows.

    Raises:
        Interrupted: this process was asked to stop; all members have ended.
    """
    stop.clear()
    running: list[subprocess.Popen[bytes]] = []
    shown = 0
    with catching_stops() as request:
        request.set_training(True)  # from here on a signal is answered below
        deadline = float("inf")
        try:
            running.extend(start_process(each.command, each.environment, each.output) for each in members)
            while None in [process.poll() for process in running]:
                time.sleep(INTERVAL)
                shown = _echo(progress, shown)
                if request.is_asked() and not stop.is_asked():
                    stop.ask()
                    update = stop.update_seconds()
                    deadline = time.monotonic() + (0 if update is None else update + grace)
                if any(process.returncode for process in running):
                    deadline = min(deadline, time.monotonic() + PATIENCE)
                if time.monotonic() >= deadline:
                    break
        finally:
            codes = [process.poll() for process in running]
            for process in running:
                end_tree(process)
        _echo(progress, shown)
    return [-signal.SIGTERM if code is None else code for code in codes]


def run_jobs(
    numbers: Iterable[int],
    slots: Sequence[Mapping[str, str]],
    start: Callable[[int, Mapping[str, str]], "subprocess.Popen[bytes]"],
    ended: Callable[[int, int, float], None],
) -> None:
    """Run one process per job, as many at a time as there are slots; one that fails stops no other.

    Jobs that need the same artifact meet at its lock in the store: one makes it, the others wait. Asked to stop, this
    function starts no more jobs, passes the request on, and waits for their checkpoints; asked again, it ends them.

    Args:
        slots: variables of each slot, as its devices.
        start: starts the process of a job, from its number and its slot, by `start_process`.
        ended: called with a job's number, its exit code (minus the signal that killed it) and its seconds; not for
            jobs that failed after the request to stop.

    Raises:
        Interrupted: this process was asked to stop; all jobs have ended.
    """
    waiting, free = list(numbers), list(slots)
    running: dict[int, tuple[subprocess.Popen[bytes], Mapping[str, str], float]] = {}
    is_told = False
    with catching_stops() as request:
        request.set_training(True)  # from here on a signal is answered below
        try:
            while running or (waiting and not request.is_asked()):
                while waiting and free and not request.is_asked():
                    number, slot = waiting.pop(0), free.pop()
                    running[number] = (start(number, slot), slot, time.monotonic())
                if request.is_asked() and not is_told:
                    is_told = True
                    for process, *_ in running.values():
                        process.terminate()
                time.sleep(INTERVAL)
                for number, (process, slot, since) in list(running.items()):
                    if (code := process.poll()) is None:
                        continue
                    del running[number]
                    free.append(slot)
                    if code == 0 or not request.is_asked():
                        ended(number, code, time.monotonic() - since)
        finally:
            for process, *_ in running.values():
                end_tree(process)


def start_process(
    command: Sequence[str], environment: Mapping[str, str], output: Path | None = None
) -> "subprocess.Popen[bytes]":
    """Start a process that ends with this one; without `output` it prints where this one does."""
    with output.open("ab") if output else nullcontext() as file:
        return subprocess.Popen(
            command,
            env={**environment, SUPERVISOR: str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT if file else None,
            start_new_session=True,  # or Ctrl-C would reach it directly
            preexec_fn=partial(die_with_parent, os.getpid()),
        )


def _echo(log: Path, shown: int) -> int:
    """Copy what a log has gained after `shown` bytes to standard error, and return its length; it may not exist yet."""
    if not log.is_file():
        return shown
    with log.open("rb") as file:
        file.seek(shown)
        text = file.read()
    sys.stderr.write(text.decode("utf-8", "replace"))
    sys.stderr.flush()
    return shown + len(text)


def end_tree(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process and everything that it has started, and wait for their end."""
    import psutil

    members = []
    with suppress(psutil.NoSuchProcess):
        members = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    for member in members:
        with suppress(psutil.NoSuchProcess):
            member.kill()
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
