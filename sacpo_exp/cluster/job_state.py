"""The state of a job, `state.yaml` in its run folder, whatever launcher started it."""

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import yaml

from sacpo_exp.errors import known_error

NAME = "state.yaml"
WAITING, RUNNING, DONE, FAILED, STOPPED = "waiting", "running", "done", "failed", "stopped"


@dataclass(frozen=True)
class JobState:
    """State of a job.

    Attributes:
        state: `waiting`, `running`, `done`, `failed` or `stopped`.
        pid, host: the process that wrote this; the state is valid while it lives.
        started, finished: UTC, ISO 8601.
        message: why it failed.
        store: absolute path of the store that holds, or will hold, `artifacts`.
        artifacts: `kind/id` of the stages and the merge of its plan, in order of making; empty until planned.
    """

    state: str
    pid: int = field(default_factory=os.getpid)
    host: str = field(default_factory=socket.gethostname)
    started: str | None = None
    finished: str | None = None
    message: str | None = None
    store: str | None = None
    artifacts: tuple[str, ...] = ()

    def is_alive(self) -> bool:
        """Return whether the process that wrote this still runs; True for a process of another machine."""
        if self.host != socket.gethostname():
            return True
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # it belongs to somebody else
            return True
        return True


def write_state(folder: Path, state: JobState) -> None:
    """Replace the state in `folder` as a whole, so that readers never see half of it."""
    partial = folder / f".{NAME}.{os.getpid()}"
    entries = asdict(state) | {"artifacts": list(state.artifacts)}
    partial.write_text(yaml.safe_dump(entries, sort_keys=False), "utf-8")
    partial.replace(folder / NAME)


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
    before = read_state(folder) or JobState(RUNNING)
    write_state(folder, replace(JobState(RUNNING, started=now()), store=before.store, artifacts=before.artifacts))
    try:
        yield
    except Exception as error:
        write_failure(folder, str(known_error(error) or f"{type(error).__name__}: {error}"))
        raise
    except BaseException:
        _end(folder, STOPPED)
        raise
    _end(folder, DONE)


def note_plan(folder: Path, store: Path, artifacts: Sequence[str]) -> None:
    """Add the artifacts of its plan to the state of the job in `folder`, if there is one."""
    state = read_state(folder)
    if state is not None:
        planned = replace(state, store=str(store.resolve()), artifacts=tuple(artifacts))
        if planned != state:  # the process of a slot repeats the plan of its sweep
            write_state(folder, planned)


def write_failure(folder: Path, message: str) -> None:
    """Record that a job failed."""
    _end(folder, FAILED, message)


def now() -> str:
    """Return the time in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _end(folder: Path, state: str, message: str | None = None) -> None:
    before = read_state(folder) or JobState(state)
    write_state(folder, replace(before, state=state, finished=now(), message=message))
