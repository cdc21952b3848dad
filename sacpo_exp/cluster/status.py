"""The state of jobs: each keeps `state.yaml` in its run folder, and `sacpo store sweep` makes a table of them."""

import os
import socket
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import yaml

from sacpo_exp.errors import ConfigError, known_error
from sacpo_exp.store.manifest import write_whole

NAME, MULTIRUN = "state.yaml", "multirun.yaml"
RUNNING, DONE, FAILED, STOPPED = "running", "done", "failed", "stopped"


@dataclass(frozen=True)
class JobState:
    """State of a job, and the process that wrote it; the state is valid while that process lives."""

    state: str
    message: str = ""  # why it failed
    pid: int = field(default_factory=os.getpid)
    host: str = field(default_factory=socket.gethostname)

    def is_alive(self) -> bool:
        """Return whether the process that wrote this still runs; True for a process of another machine."""
        import psutil

        return self.host != socket.gethostname() or psutil.pid_exists(self.pid)


def write_state(folder: Path, state: JobState) -> None:
    """Replace the state in `folder` as a whole, so that readers never see half of it."""
    write_whole(folder / NAME, yaml.safe_dump(asdict(state), sort_keys=False))


@contextmanager
def recorded(folder: Path) -> Iterator[None]:
    """Keep the state of the job that runs in this block in `folder`; errors pass through."""
    write_state(folder, JobState(RUNNING))
    try:
        yield
    except Exception as error:
        write_state(folder, JobState(FAILED, str(known_error(error) or f"{type(error).__name__}: {error}")))
        raise
    except BaseException:
        write_state(folder, JobState(STOPPED, "the same command goes on with it"))
        raise
    write_state(folder, JobState(DONE))


@dataclass(frozen=True)
class JobStatus:
    """One line of the table."""

    number: int
    overrides: str  # those that not all jobs have
    state: str
    message: str


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
    """Return the jobs of the sweep in `folder` that have been started.

    Raises:
        ConfigError: `folder` holds no sweep.
    """
    if not (folder / MULTIRUN).is_file():
        raise ConfigError(f"{folder} is not the folder of a sweep: {MULTIRUN} is missing.")
    jobs, states = {}, {}
    for path in folder.glob(f"[0-9]*/{NAME}"):
        number, overrides = int(path.parent.name), path.with_name("hydra") / "overrides.yaml"
        jobs[number] = yaml.safe_load(overrides.read_text("utf-8"))
        content = yaml.safe_load(path.read_text("utf-8"))
        state = JobState(*(content[key] for key in ("state", "message", "pid", "host")))
        is_killed = state.state == RUNNING and not state.is_alive()
        states[number] = JobState(FAILED, "its process was killed") if is_killed else state
    texts = distinguish(jobs)
    return [JobStatus(number, texts[number], states[number].state, states[number].message) for number in sorted(jobs)]


def format_sweep(folder: Path, jobs: list[JobStatus]) -> Iterator[str]:
    """Yield the lines of the table, and a count."""
    width = max((len(job.overrides) for job in jobs), default=0)
    yield f"{'job':>4}  {'state':<12}{'overrides':<{width}}"
    for job in jobs:
        message = job.message.split("\n")[0]
        yield f"{job.number:>4}  {job.state:<12}{job.overrides:<{width}}  {message}".rstrip()
    counts = Counter(job.state for job in jobs)
    yield ", ".join(f"{count} {state}" for state, count in counts.items()) + f", in {folder}"


def distinguish(jobs: Mapping[int, Sequence[str]]) -> dict[int, str]:
    """Return the overrides of each job that not all jobs have, by number."""
    common = set.intersection(*(set(overrides) for overrides in jobs.values())) if len(jobs) > 1 else set()
    return {number: " ".join(text for text in overrides if text not in common) for number, overrides in jobs.items()}
