"""Run the jobs of a sweep side by side, each in a process with devices and threads of its own."""

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sacpo_exp.cluster.devices import Share
from sacpo_exp.cluster.supervision import INTERVAL, PATIENCE, die_with_parent, end_tree
from sacpo_exp.stopping import catching_stops


@dataclass(frozen=True)
class Running:
    """A job's process, its share of the machine, and when it started."""

    process: "subprocess.Popen[bytes]"
    share: Share
    started: float


def run_jobs(
    commands: Mapping[int, Sequence[str]],
    logs: Mapping[int, Path],
    shares: Sequence[Share],
    grace: float,
    ended: Callable[[int, int, float], None],
) -> None:
    """Run one process per job, as many at a time as there are shares.

    Jobs that need the same artifact meet at its lock in the store: one makes it, the others wait. Asked to stop, this
    function starts no more jobs, passes the request on, and gives `grace` seconds for checkpoints.

    Args:
        commands, logs: by the job's number; its process prints into its log.
        ended: called with a job's number, its exit code (minus the signal that killed it) and its seconds; not for
            jobs that failed after the request to stop.

    Raises:
        Interrupted: this process was asked to stop; all jobs have ended.
    """
    waiting, free, running = list(commands), list(shares), dict[int, Running]()
    deadline = float("inf")
    with catching_stops() as request:
        request.set_training(True)  # from here on a signal is answered below
        try:
            while (running or (waiting and not request.is_asked())) and time.monotonic() < deadline:
                while waiting and free and not request.is_asked():
                    number, share = waiting.pop(0), free.pop()
                    running[number] = Running(_start(commands[number], logs[number], share), share, time.monotonic())
                if request.is_asked() and deadline == float("inf"):
                    deadline = time.monotonic() + grace + PATIENCE
                    for job in running.values():
                        job.process.terminate()
                time.sleep(INTERVAL)
                for number, job in list(running.items()):
                    if (code := job.process.poll()) is None:
                        continue
                    del running[number]
                    free.append(job.share)
                    if code == 0 or not request.is_asked():
                        ended(number, code, time.monotonic() - job.started)
        finally:
            for job in running.values():
                end_tree(job.process)


def _start(command: Sequence[str], log: Path, share: Share) -> "subprocess.Popen[bytes]":
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            env=share.environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the sweep, which asks its jobs to stop
            preexec_fn=partial(die_with_parent, os.getpid()),
        )
