"""The jobs of a sweep, planned in its own process and worked off by slots."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sacpo_exp.cluster.schedule import Missing, Schedule, Unit, divide
from sacpo_exp.cluster.slots import Outcome, Slot, divide_machine, find_gpus, run_units
from sacpo_exp.cluster.stages import is_one_process
from sacpo_exp.config.hardware import Accelerator
from sacpo_exp.config.job_state import DONE, WAITING, JobState, now, write_failure, write_state
from sacpo_exp.config.loading import Jobs, job_folder
from sacpo_exp.config.sweeps import distinguish
from sacpo_exp.errors import ConfigError, LaunchError, SacpoError, known_error
from sacpo_exp.pipeline import Run, open_run
from sacpo_exp.reporting.estimates import check_run

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One job: its number in the sweep, what tells it from the others, its run folder and its plan."""

    number: int
    overrides: str
    folder: Path
    run: Run

    def __str__(self) -> str:
        return f"job {self.number} ({self.overrides})"


class Sweep:
    """All jobs of one launch of `sacpo <command> -m`.

    Args:
        overrides: of all jobs, by number.
        tasks: Hydra's task function, which knows the schema and keeps the failures.
    """

    def __init__(self, command: str, overrides: Mapping[int, Sequence[str]], tasks: Jobs[Any]) -> None:
        self._command, self._tasks, self._overrides = command, tasks, distinguish(overrides)
        self._jobs: dict[int, Job] = {}
        self._failures: list[tuple[int, SacpoError]] = []
        self._bar: tqdm[Any] | None = None

    def open(self, number: int, composed: Any) -> None:
        """Check and plan Hydra's present job; a mistake in it is its failure, the others go on."""
        folder = job_folder()
        try:
            job = Job(number, self._overrides[number], folder, open_run(self._tasks.configure(composed)))
            if self._command == "train":
                check_run(job.run)
        except Exception as error:
            known = known_error(error)
            if known is None:
                raise
            write_failure(folder, str(known))
            self._failures.append(
                (number, _named(f"job {number} ({self._overrides[number]})", str(known), known.exit_code))
            )
            return
        write_state(folder, _planned(job, WAITING))
        self._jobs[number] = job

    def run(self, slots: int | None, threads: int | None) -> None:
        """Bring all jobs to their end; what failed is in the task function's `failures` afterwards.

        Raises:
            ConfigError: the machine has not what these slots need.
            Interrupted: asked to stop.
        """
        hardware = [job.run.config.hardware for job in self._jobs.values()]
        if any(group.nodes > 1 for group in hardware):
            raise ConfigError("`hydra/launcher=slots` is for one machine. Try: hydra/launcher=slurm, or leave it out.")
        gpus = max((group.processes for group in hardware if group.accelerator == Accelerator.cuda), default=0)
        found = find_gpus(os.environ) if gpus else []
        chosen = next((group.devices for group in hardware if group.devices), None)
        if gpus and chosen:
            found = [found[index] for index in chosen if index < len(found)]
        shares = divide_machine(slots, threads, gpus, found, os.environ)

        missing = {number: self._find_missing(job) for number, job in self._jobs.items()}
        open_jobs = {number: stages for number, stages in missing.items() if stages is not None}
        is_warm = any(
            open_jobs[number] and is_one_process(self._jobs[number].run.config.hardware) for number in open_jobs
        )
        schedule = Schedule(divide(open_jobs))
        log.info("sweep    %d jobs, %d to do, %d at a time", len(self._jobs), len(open_jobs), len(shares))
        with tqdm(total=schedule.total, desc="sweep", unit="unit", disable=None) as self._bar:
            grace = max((group.grace_seconds for group in hardware), default=0)
            run_units(schedule, [Slot(share, is_warm) for share in shares], self, grace)
        self._tasks.failures += [failure for _, failure in sorted(self._failures, key=lambda entry: entry[0])]

    def order(self, unit: Unit) -> Mapping[str, Any]:
        job = self._jobs[unit.job]
        folder = str(job.folder.resolve())
        return {
            "folder": folder,
            "command": self._command,
            "stage": unit.stage,
            "log": str(self._log_of(job).resolve()),
        }

    def started(self, unit: Unit) -> None:
        self._say(f"starts   {self._name(unit)}")

    def ended(self, unit: Unit, outcome: Outcome, lost: Sequence[Unit], seconds: float) -> None:
        if self._bar is not None:
            self._bar.update(1 + len(lost))
        if outcome.message is None:
            self._say(f"finished {self._name(unit)} in {seconds:.0f} s")
            return
        path = os.path.relpath(self._log_of(self._jobs[unit.job]))
        message = f"{outcome.message} See {path}"
        self._say(f"failed   {self._name(unit)} after {seconds:.0f} s: {message}")
        ended = [self._jobs[one.job] for one in (unit, *lost) if one.stage is None]
        for job in ended:
            write_failure(job.folder, outcome.message)
        if not ended:  # another stage of the only job that wanted this one has failed before
            return
        names = str(ended[0]) if len(ended) == 1 else f"jobs {', '.join(str(job.number) for job in ended)}"
        self._failures.append((ended[0].number, _named(names, message, outcome.exit_code)))

    def _find_missing(self, job: Job) -> list[Missing] | None:
        """Stages that the job lacks; None if it is done without any work. Only `train` makes stages."""
        plan, store = job.run.plan, job.run.store
        if self._command != "train":
            return []
        if all(store.has(spec) for spec in plan.made()):
            for spec in plan.made():
                store.share(spec)  # what an outage of the mirror has kept here
            write_state(job.folder, _planned(job, DONE))
            self._say(f"stored   {job}")
            return None
        missing = [stage for stage in plan.stages if not store.has(stage.artifact)]
        return [Missing(stage.artifact.id, stage.parent.id) for stage in missing]

    def _name(self, unit: Unit) -> str:
        return str(self._jobs[unit.job]) if unit.stage is None else f"stage {unit.stage}"

    def _log_of(self, job: Job) -> Path:
        return job.folder / f"{self._command}.log"

    def _say(self, line: str) -> None:
        with tqdm.external_write_mode():
            log.info("%s", line)


def _planned(job: Job, state: str) -> JobState:
    store = job.run.store
    moment = now() if state == DONE else None
    artifacts = tuple(str(store.path(spec).relative_to(store.root)) for spec in job.run.plan.made())
    return JobState(state, started=moment, finished=moment, store=str(store.root.resolve()), artifacts=artifacts)


def _named(name: str, message: str, exit_code: int) -> SacpoError:
    error = LaunchError(f"{name}: {message}")
    error.exit_code = exit_code
    return error
