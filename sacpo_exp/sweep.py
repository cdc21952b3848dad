"""The jobs of a sweep: planned in the process of the command, then run side by side, each in a process of its own."""

import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from sacpo_exp.cluster.commands import Jobs, job_folder
from sacpo_exp.cluster.devices import divide_machine, find_gpus
from sacpo_exp.cluster.job_state import (
    DONE,
    FAILED,
    WAITING,
    JobState,
    now,
    read_state,
    recorded,
    write_failure,
    write_state,
)
from sacpo_exp.cluster.slots import run_jobs
from sacpo_exp.cluster.sweeps import distinguish
from sacpo_exp.config.hardware import Accelerator
from sacpo_exp.config.loading import quiet_libraries, read_resolved
from sacpo_exp.config.messages import SCHEMAS
from sacpo_exp.errors import ConfigError, LaunchError, SacpoError, known_error, run_reporting_errors
from sacpo_exp.pipeline import Run, open_run
from sacpo_exp.reporting.estimates import check_run
from sacpo_exp.stopping import hear_ends

log = logging.getLogger(__name__)

#: Functions of commands that are not called as their module.
FUNCTIONS = {"eval": "evaluate", "prepare": "prepare_all"}


@dataclass(frozen=True)
class Job:
    """A job: what tells it from the others, its run folder and its plan."""

    name: str
    folder: Path
    run: Run


class Sweep:
    """All jobs of one launch of `sacpo COMMAND -m`.

    Args:
        overrides: of all jobs, by number.
        tasks: Hydra's task function, which knows the schema and keeps the failures.
    """

    def __init__(self, command: str, overrides: Mapping[int, Sequence[str]], tasks: Jobs[Any]) -> None:
        self._command, self._tasks = command, tasks
        self._names = {number: f"job {number} ({text})" for number, text in distinguish(overrides).items()}
        self._jobs: dict[int, Job] = {}
        self._failures: dict[int, SacpoError] = {}

    def open(self, number: int, composed: Any) -> None:
        """Check and plan Hydra's present job; a mistake in it fails this job, and the others go on."""
        folder = job_folder()
        try:
            run = open_run(self._tasks.configure(composed))
            if self._command == "train":
                check_run(run)
        except Exception as error:
            known = known_error(error)
            if known is None:
                raise
            write_failure(folder, str(known))
            self._fail(number, str(known), known.exit_code)
            return
        job = self._jobs[number] = Job(self._names[number], folder, run)
        # What is stored needs no process, if the command only trains.
        is_done = self._command == "train" and all(run.store.has(spec) for spec in run.plan.made())
        if is_done:
            for spec in run.plan.made():
                run.store.share(spec)  # it may have been made while the mirror was out of reach
            log.info("stored   %s", job.name)
        moment = now() if is_done else None
        artifacts = tuple(str(run.store.path(spec).relative_to(run.store.root)) for spec in run.plan.made())
        state, root = DONE if is_done else WAITING, str(run.store.root.resolve())
        write_state(folder, JobState(state, started=moment, finished=moment, store=root, artifacts=artifacts))

    def run(self, slots: int | None, threads: int | None) -> None:
        """Run all jobs; what failed is in the task function's `failures` afterwards.

        Raises:
            ConfigError: the machine has too little for these slots.
            Interrupted: asked to stop.
        """
        hardware = [job.run.config.hardware for job in self._jobs.values()]
        if any(group.nodes > 1 for group in hardware):
            raise ConfigError("`hydra/launcher=slots` is for one machine. Try: hydra/launcher=slurm, or leave it out.")
        gpus = max((group.processes for group in hardware if group.accelerator == Accelerator.cuda), default=0)
        names = find_gpus(os.environ) if gpus else []
        if chosen := next((group.devices for group in hardware if group.devices), None):
            names = [names[index] for index in chosen if index < len(names)]
        shares = divide_machine(slots, threads, gpus, names, os.environ)

        states = {number: read_state(job.folder) for number, job in self._jobs.items()}
        todo = {number: self._jobs[number] for number, state in states.items() if state and state.state == WAITING}
        log.info("sweep    %d jobs, %d to do, %d at a time", len(self._jobs), len(todo), len(shares))
        commands = {
            number: [sys.executable, "-m", "sacpo_exp.sweep", self._command, str(job.folder.resolve())]
            for number, job in todo.items()
        }
        logs = {number: job.folder / f"{self._command}.log" for number, job in todo.items()}
        grace = max((group.grace_seconds for group in hardware), default=0)
        run_jobs(commands, logs, shares, grace, self._ended)
        self._tasks.failures += [error for _, error in sorted(self._failures.items())]

    def _ended(self, number: int, code: int, seconds: float) -> None:
        job = self._jobs[number]
        if code == 0:
            log.info("finished %s in %.0f s", job.name, seconds)
            return
        state = read_state(job.folder)
        if state is not None and state.state == FAILED and state.message:
            message = state.message
        else:  # it could not say why
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            message = f"its process {how}."
            write_failure(job.folder, message)
        message += f" See {os.path.relpath(job.folder / self._command)}.log"
        log.info("failed   %s after %.0f s: %s", job.name, seconds, message)
        self._fail(number, message, code if code > 0 else LaunchError.exit_code)

    def _fail(self, number: int, message: str, exit_code: int) -> None:
        error = LaunchError(f"{self._names[number]}: {message}")
        error.exit_code = exit_code
        self._failures[number] = error


def main() -> None:
    """Run one job of a sweep, whose configuration the sweep has written; this process composes nothing."""
    if len(sys.argv) != 3:
        sys.exit("this process is started by a sweep, not by hand. Try: sacpo train -m hydra/launcher=slots ...")
    quiet_libraries()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    hear_ends()
    run_reporting_errors(lambda: run_job(sys.argv[1], Path(sys.argv[2])))


def run_job(command: str, folder: Path) -> None:
    """Run the job whose configuration lies in `folder`, and record its state there."""
    with recorded(folder):
        schema: Any = SCHEMAS[command]
        config = read_resolved(folder, schema)
        # The sweep has made this job's devices the only visible ones, and a port is for one group alone.
        config.hardware = replace(config.hardware, devices=[], port=None)
        getattr(import_module(f"sacpo_exp.{command}"), FUNCTIONS.get(command, command))(config)


if __name__ == "__main__":
    main()
