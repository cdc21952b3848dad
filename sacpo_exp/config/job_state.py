"""What a job leaves in its run folder about itself, whatever launcher started it: `state.yaml`."""

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import yaml

from sacpo_exp.errors import known_error

NAME = "state.yaml"
WAITING, RUNNING, DONE, FAILED, STOPPED = "waiting", "running", "done", "failed", "stopped"


@dataclass(frozen=True)
class JobState:
    """How a job stands.

    Attributes:
        state: `waiting`, `running`, `done`, `failed` or `stopped`.
        pid, host: the process that wrote this; while it lives, the state holds.
        started, finished: UTC, ISO 8601.
        message: why it failed.
        store: absolute path of the store that holds, or will hold, `artifacts`.
        artifacts: `kind/id` of the stages and the merge that it is about, in order of making; empty until planned.
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
        """Whether the process that wrote this still runs; of another machine nobody here can know, so yes."""
        if self.host != socket.gethostname():
            return True
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # somebody else's
            return True
        return True


_folder: ContextVar[Path | None] = ContextVar("job_folder", default=None)


def write_state(folder: Path, state: JobState) -> None:
    """Replace the state in `folder` as a whole: who reads at this moment finds the old one or the new."""
    partial = folder / f".{NAME}.{os.getpid()}"
    entries = asdict(state) | {"artifacts": list(state.artifacts)}
    partial.write_text(yaml.safe_dump(entries, sort_keys=False), "utf-8")
    partial.replace(folder / NAME)


def read_state(folder: Path) -> JobState | None:
    """What `write_state` wrote; None if nothing is there, or nothing of ours."""
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
    token = _folder.set(folder)
    try:
        yield
    except BaseException as error:
        _end(folder, *_describe(error))
        raise
    else:
        _end(folder, DONE, None)
    finally:
        _folder.reset(token)


def note_plan(store: Path, artifacts: Sequence[str]) -> None:
    """Leave what the running job is about in its folder; outside of a job this does nothing."""
    folder = _folder.get()
    if folder is not None and (state := read_state(folder)) is not None:
        write_state(folder, replace(state, store=str(store.resolve()), artifacts=tuple(artifacts)))


def note_file(name: str, text: str) -> None:
    """Leave a file in the running job's folder; outside of a job this does nothing."""
    if (folder := _folder.get()) is not None:
        (folder / name).write_text(text, "utf-8")


def write_failure(folder: Path, message: str) -> None:
    """Say for a job, which can't any more, that it failed."""
    _end(folder, FAILED, message)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _end(folder: Path, state: str, message: str | None) -> None:
    before = read_state(folder) or JobState(state)
    write_state(folder, replace(before, state=state, finished=now(), message=message))


def _describe(error: BaseException) -> tuple[str, str | None]:
    if not isinstance(error, Exception):
        return STOPPED, None
    known = known_error(error)
    return FAILED, str(known) if known else f"{type(error).__name__}: {error}"
