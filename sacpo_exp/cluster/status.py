"""The state of jobs: each keeps `state.yaml` in its run folder, and `sacpo store sweep` makes a table of them."""

import os
import socket
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from sacpo_exp.errors import ConfigError, known_error
from sacpo_exp.store.manifest import NAME as MANIFEST
from sacpo_exp.store.manifest import write_whole

NAME, MULTIRUN = "state.yaml", "multirun.yaml"
RUNNING, DONE, FAILED, STOPPED, NOT_STARTED = "running", "done", "failed", "stopped", "not started"


@dataclass(frozen=True)
class JobState:
    """State of a job, and the process that wrote it; the state is valid while that process lives."""

    state: str
    pid: int = field(default_factory=os.getpid)
    host: str = field(default_factory=socket.gethostname)
    message: str = ""  # why it failed
    store: str = ""  # absolute path of the store for `artifacts`
    artifacts: tuple[str, ...] = ()  # `kind/id` of stages and merge of its plan, in order; empty until planned

    def is_alive(self) -> bool:
        """Return whether the process that wrote this still runs; True for a process of another machine."""
        import psutil

        return self.host != socket.gethostname() or psutil.pid_exists(self.pid)


def write_state(folder: Path, state: JobState) -> None:
    """Replace the state in `folder` as a whole, so that readers never see half of it."""
    content = asdict(state) | {"artifacts": list(state.artifacts)}
    write_whole(folder / NAME, yaml.safe_dump(content, sort_keys=False))


def read_state(folder: Path) -> JobState | None:
    """Return what `write_state` wrote; None if there is no state file of ours."""
    try:
        entries = yaml.safe_load((folder / NAME).read_text("utf-8"))
        return JobState(**entries | {"artifacts": tuple(entries["artifacts"])})
    except (OSError, TypeError, KeyError, yaml.YAMLError):
        return None


@contextmanager
def recorded(folder: Path) -> Iterator[None]:
    """Keep the state of the job that runs in this block in `folder`; errors pass through."""

    def change(state: str, message: str = "") -> None:
        write_state(folder, replace(read_state(folder) or JobState(state), state=state, message=message))

    write_state(folder, JobState(RUNNING))
    try:
        yield
    except Exception as error:
        change(FAILED, str(known_error(error) or f"{type(error).__name__}: {error}"))
        raise
    except BaseException:
        change(STOPPED, "the same command goes on with it")
        raise
    change(DONE)


def note_plan(folder: Path, store: Path, artifacts: Sequence[str]) -> None:
    """Add the artifacts of its plan to the state of the job in `folder`, if there is one."""
    state = read_state(folder)
    if state is not None:
        write_state(folder, replace(state, store=str(store.resolve()), artifacts=tuple(artifacts)))


@dataclass(frozen=True)
class JobStatus:
    """One line of the table."""

    number: int
    overrides: str  # those that not all jobs have
    state: str
    stored: int = 0  # of the planned stages and merges
    planned: int = 0
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
        if path.name.isdigit():
            written = path / "hydra" / "overrides.yaml"
            overrides = yaml.safe_load(written.read_text("utf-8")) if written.is_file() else None
            jobs[int(path.name)] = overrides or jobs.get(int(path.name), [])
    return [
        _read_job(number, overrides, folder / str(number)) for number, overrides in sorted(distinguish(jobs).items())
    ]


def _read_job(number: int, overrides: str, folder: Path) -> JobStatus:
    state = read_state(folder)
    if state is None:
        return JobStatus(number, overrides, NOT_STARTED)
    if state.state == RUNNING and not state.is_alive():
        state = replace(state, state=FAILED, message="its process was killed")
    stored = sum(Path(state.store, artifact, MANIFEST).is_file() for artifact in state.artifacts)
    return JobStatus(number, overrides, state.state, stored, len(state.artifacts), state.message)


def format_sweep(folder: Path, jobs: list[JobStatus]) -> Iterator[str]:
    """Yield the lines of the table, and a count."""
    width = max((len(job.overrides) for job in jobs), default=0)
    yield f"{'job':>4}  {'state':<12}{'stages':<8}{'overrides':<{width}}"
    for job in jobs:
        stages, message = f"{job.stored}/{job.planned}" if job.planned else "-", job.message.split("\n")[0]
        yield f"{job.number:>4}  {job.state:<12}{stages:<8}{job.overrides:<{width}}  {message}".rstrip()
    counts = Counter(job.state for job in jobs)
    yield ", ".join(f"{count} {state}" for state, count in counts.items()) + f", in {folder}"


def list_jobs(multirun: Path) -> list[list[str]]:
    """Return the overrides of all jobs, from Hydra's multirun.yaml; empty if only the command itself can list them."""
    written: Any = OmegaConf.load(multirun)
    try:
        return split_sweep(written.hydra.sweeper.params or {}, list(written.hydra.overrides.task))
    except HydraException:  # a glob() over groups
        return []


def split_sweep(params: Mapping[str, Any], typed: Sequence[str]) -> list[list[str]]:
    """Return the overrides of all jobs, from `hydra.sweeper.params` and the command line, as Hydra's own sweeper does.

    Raises:
        HydraException: they are not in its grammar.
    """
    asked = [f"{key}={value}" for key, value in params.items()]
    overrides = OverridesParser.create().parse_overrides([*asked, *typed])
    return [job for batch in BasicSweeper.split_arguments(overrides, None) for job in batch]


def distinguish(jobs: Mapping[int, Sequence[str]]) -> dict[int, str]:
    """Return the overrides of each job that not all jobs have, by number."""
    common = set.intersection(*(set(overrides) for overrides in jobs.values())) if len(jobs) > 1 else set()
    return {number: " ".join(text for text in overrides if text not in common) for number, overrides in jobs.items()}
