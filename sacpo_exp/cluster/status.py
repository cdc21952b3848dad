"""The progress of a sweep, of any launcher, read from the folders of its jobs and from the store."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from sacpo_exp.cluster.job_state import FAILED, RUNNING, STOPPED, WAITING, JobState, read_state
from sacpo_exp.cluster.sweeps import distinguish, list_jobs
from sacpo_exp.errors import ConfigError
from sacpo_exp.store.manifest import NAME as MANIFEST
from sacpo_exp.store.store import PARTIAL, Store

NOT_STARTED = "not started"
MULTIRUN = "multirun.yaml"


@dataclass(frozen=True)
class JobStatus:
    """One line of the table.

    Attributes:
        state: `done`, `running`, `waiting`, `failed`, `stopped` or `not started`.
        overrides: those that not all jobs have.
        stored, planned: number of stages and merges that are in the store, and in the job's plan.
        making: the artifact that is being made for it now, with its updates; empty if there is none.
        message: why it failed.
    """

    number: int
    overrides: str
    state: str
    stored: int = 0
    planned: int = 0
    making: str = ""
    message: str = ""


def newest_sweep(root: Path) -> Path:
    """Return the sweep below `root` that was started last.

    Raises:
        ConfigError: there is none.
    """
    paths = sorted(root.glob(f"**/{MULTIRUN}"), key=lambda path: path.stat().st_mtime)
    if not paths:
        raise ConfigError(f"no sweep in {root}. Try: sacpo store sweep DIR, or --outputs as paths.outputs")
    return paths[-1].parent


def read_sweep(folder: Path) -> list[JobStatus]:
    """Return all jobs of the sweep in `folder`; with Hydra's own sweeper also those that have no folder yet.

    Raises:
        ConfigError: `folder` holds no sweep.
    """
    if not (folder / MULTIRUN).is_file():
        raise ConfigError(f"{folder} is not the folder of a sweep: {MULTIRUN} is missing.")
    jobs = dict(enumerate(list_jobs(folder / MULTIRUN)))
    for path in folder.iterdir():
        if path.name.isdigit() and ((overrides := _overrides(path)) or int(path.name) not in jobs):
            jobs[int(path.name)] = overrides
    return [
        read_job(number, overrides, folder / str(number)) for number, overrides in sorted(distinguish(jobs).items())
    ]


def read_job(number: int, overrides: str, folder: Path) -> JobStatus:
    """Return the state of one job."""
    state = read_state(folder)
    if state is None:
        return JobStatus(number, overrides, NOT_STARTED)
    shown, message = _judge(state)
    store = Store(Path(state.store or ""))
    stored = [artifact for artifact in state.artifacts if (store.root / artifact / MANIFEST).is_file()]
    making = next((text for artifact in state.artifacts if (text := _progress(store, artifact))), "")
    is_open = shown in (RUNNING, WAITING)
    return JobStatus(number, overrides, shown, len(stored), len(state.artifacts), making if is_open else "", message)


def format_sweep(folder: Path, jobs: list[JobStatus]) -> Iterator[str]:
    """Yield the lines of the table, and a count."""
    width = max((len(job.overrides) for job in jobs), default=0)
    yield f"{'job':>4}  {'state':<12}{'stages':<8}{'overrides':<{width}}"
    for job in jobs:
        stages = f"{job.stored}/{job.planned}" if job.planned else "-"
        text = job.making or job.message.split("\n")[0]
        yield f"{job.number:>4}  {job.state:<12}{stages:<8}{job.overrides:<{width}}  {text}".rstrip()
    counts = Counter(job.state for job in jobs)
    yield ", ".join(f"{count} {state}" for state, count in counts.items()) + f", in {folder}"


def _judge(state: JobState) -> tuple[str, str]:
    """Return state and message to show; the state that a dead process wrote is out of date."""
    if state.state == RUNNING and not state.is_alive():
        return FAILED, "its process was killed"
    if state.state == WAITING and not state.is_alive():
        return NOT_STARTED, ""
    if state.state == STOPPED:
        return STOPPED, "the same command goes on with it"
    return state.state, state.message or ""


def _overrides(folder: Path) -> list[str]:
    try:
        return list(yaml.safe_load((folder / "hydra" / "overrides.yaml").read_text("utf-8")))
    except (OSError, TypeError, yaml.YAMLError):
        return []


def _progress(store: Store, artifact: str) -> str:
    """Return that an artifact is being made, with the updates of its newest checkpoint; empty if it is not."""
    partial = store.root / f"{artifact}{PARTIAL}"
    if not partial.is_dir() or not store.is_building(partial):
        return ""
    states = sorted(partial.glob("checkpoints/*/trainer_state.json"), key=lambda path: path.stat().st_mtime)
    try:
        trainer = json.loads(states[-1].read_text("utf-8"))
        return f"makes {artifact}, {trainer['global_step']} of {trainer['max_steps']} updates"
    except (IndexError, OSError, ValueError, KeyError):
        return f"makes {artifact}"
