"""The one interface that all trackers have, and the guard that keeps their failures out of the run."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

log = logging.getLogger(__name__)

Cell = str | float | int | None


class Tracker(Protocol):
    """One tracked run in one tracker. Methods may raise whatever they like: `Tracking` keeps it from the run.

    Attributes:
        name: as in `tracker=<name>`, and in transformers' `report_to`.
    """

    name: str

    def adopt(self, callback: Any) -> None:
        """Make transformers' callback write into this run instead of one of its own."""

    def log_scores(self, scores: Mapping[str, float]) -> None:
        """Numbers about the run as a whole."""

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None: ...

    def log_figure(self, name: str, path: Path) -> None:
        """A picture (png)."""

    def log_policy(self, folder: Path, metrics: Mapping[str, Any]) -> None:
        """The policy that the run has trained, as far as the user wants it there."""

    def finish(self, is_complete: bool) -> None: ...


class Tracking:
    """All trackers of a run. One that fails is given up for the rest of the run, and that is said once.

    Args:
        trackers: that could be opened; none on ranks but the first.

    Attributes:
        is_complete: whether the run has come to its end; else it counts as failed, until it goes on.
    """

    is_complete = False

    def __init__(self, trackers: Sequence[Tracker] = ()) -> None:
        self._trackers = list(trackers)

    @property
    def names(self) -> list[str]:
        return [tracker.name for tracker in self._trackers]

    def find(self, name: str) -> Tracker | None:
        """The tracker of this name, unless it has been given up."""
        return next((tracker for tracker in self._trackers if tracker.name == name), None)

    def log_scores(self, scores: Mapping[str, float]) -> None:
        self._each(lambda tracker: tracker.log_scores(scores))

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        self._each(lambda tracker: tracker.log_table(name, columns, rows))

    def log_figure(self, name: str, path: Path) -> None:
        self._each(lambda tracker: tracker.log_figure(name, path))

    def log_policy(self, folder: Path, metrics: Mapping[str, Any]) -> None:
        self._each(lambda tracker: tracker.log_policy(folder, metrics))

    def finish(self) -> None:
        self._each(lambda tracker: tracker.finish(self.is_complete))

    def guard(self, tracker: Tracker, act: Callable[[], None]) -> None:
        """Do `act` for a tracker; if that fails, go on without the tracker."""
        if tracker not in self._trackers:
            return
        try:
            act()
        except Exception as error:
            self._trackers.remove(tracker)
            say_lost(tracker.name, error)

    def _each(self, act: Callable[[Tracker], None]) -> None:
        for tracker in list(self._trackers):
            self.guard(tracker, lambda tracker=tracker: act(tracker))  # type: ignore[misc]


def say_lost(name: str, error: Exception) -> None:
    """One line about a tracker that failed."""
    log.warning("tracks   no longer in %s, the run goes on: %s: %s", name, type(error).__name__, first_line(error))


def first_line(error: Exception) -> str:
    """Of a long error the first line."""
    return (str(error).strip().splitlines() or [""])[0][:200]
