"""Open the chosen trackers for one run, on the first rank only, and close them whatever happens."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sacpo_exp.config.tracking import TrackedRun, TrackerConfig
from sacpo_exp.tracking.interface import Tracker, Tracking, say_lost
from sacpo_exp.tracking.memory import Memory

log = logging.getLogger(__name__)

_said: set[str] = set()


@dataclass(frozen=True)
class Opening:
    """What a tracker is opened with.

    Attributes:
        outputs: absolute; where trackers without a server write.
        group: of the run, the same when it goes on after a kill.
        memory: what the tracker wants to know again when the run goes on.
        is_continued: whether this run goes on from a checkpoint.
    """

    settings: Any
    run: TrackedRun
    outputs: Path
    group: str
    memory: Memory
    is_continued: bool


@contextmanager
def tracked(
    config: TrackerConfig, run: TrackedRun | None, outputs: str, folder: Path | None = None, is_continued: bool = False
) -> Iterator[Tracking]:
    """The trackers of a run, closed at the end of the block; without any on ranks but the first.

    Args:
        outputs: `paths.outputs`.
        folder: where what has to be known again after a kill is kept; None for runs that are not resumed.
    """
    if run is None or not config.chosen() or int(os.environ.get("RANK", "0")) != 0:
        yield Tracking()
        return
    memory = Memory(folder, is_continued)
    group = memory.recall("group", config.group or run.id)
    trackers = []
    for name, settings in config.chosen().items():
        opening = Opening(settings, run, Path(outputs).resolve(), group, memory, is_continued)
        try:
            trackers.append(_opener(name)(opening))
        except Exception as error:
            say_lost(name, error)
    tracking = Tracking(trackers)
    try:
        yield tracking
    finally:
        tracking.finish()


def say_once(line: str) -> None:
    """Log a line, unless this process has."""
    if line not in _said:
        _said.add(line)
        log.info(line)


def _opener(name: str) -> Callable[[Opening], Tracker]:
    if name == "wandb":
        from sacpo_exp.tracking.wandb_tracker import WandbTracker

        return WandbTracker
    if name == "mlflow":
        from sacpo_exp.tracking.mlflow_tracker import MlflowTracker

        return MlflowTracker
    from sacpo_exp.tracking.trackio_tracker import TrackioTracker

    return TrackioTracker
