"""One tracked run: its trackers, transformers' callbacks, and a guard that keeps trackers' failures out of the run."""

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from sacpo_exp.config.schema import TrackedRun, TrackerConfig
from sacpo_exp.store.manifest import write_whole

if TYPE_CHECKING:
    from transformers import Trainer, TrainerCallback

    from sacpo_exp.tracking.mlflow_tracker import MlflowTracker
    from sacpo_exp.tracking.wandb_tracker import WandbTracker

    Tracker: TypeAlias = WandbTracker | MlflowTracker

log = logging.getLogger(__name__)

Cell = str | float | int | None
#: transformers' name of the callback that `report_to` adds.
CALLBACKS = {"wandb": "WandbCallback", "mlflow": "MLflowCallback"}
#: File in which `Memory` keeps what it knows.
MEMORY = "tracking.json"

_logged: set[str] = set()


class Tracking:
    """All trackers of a run. One that fails is dropped for the rest of the run, with one warning.

    Attributes:
        is_complete: whether the run has come to its end; otherwise it counts as failed until it is resumed.
    """

    is_complete = False

    def __init__(self, trackers: "Sequence[Tracker]" = ()) -> None:
        self._trackers = list(trackers)

    @property
    def names(self) -> list[str]:
        return [tracker.name for tracker in self._trackers]

    def log_scores(self, scores: Mapping[str, float]) -> None:
        """Log numbers about the run as a whole."""
        self._each(lambda tracker: tracker.log_scores(scores))

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        self._each(lambda tracker: tracker.log_table(name, columns, rows))

    def log_figure(self, name: str, path: Path) -> None:
        """Log a picture (png)."""
        self._each(lambda tracker: tracker.log_figure(name, path))

    def log_policy(self, folder: Path, metrics: Mapping[str, Any]) -> None:
        """Log the trained policy, as far as `log_model` says."""
        self._each(lambda tracker: tracker.log_policy(folder, metrics))

    def finish(self) -> None:
        self._each(lambda tracker: tracker.finish(self.is_complete))

    def attach(self, trainer: "Trainer") -> None:
        """Put a guard around each callback that `report_to` has added to the trainer."""
        import transformers.integrations as integrations

        callbacks = trainer.callback_handler.callbacks
        for tracker in self._trackers:
            kind = getattr(integrations, CALLBACKS[tracker.name])
            callbacks[:] = [
                _guarded(callback, tracker, self) if isinstance(callback, kind) else callback for callback in callbacks
            ]

    def guard(self, tracker: "Tracker", act: Callable[[], None]) -> None:
        """Call `act` for a tracker; drop the tracker if that fails."""
        if tracker not in self._trackers:
            return
        try:
            act()
        except Exception as error:
            self._trackers.remove(tracker)
            _warn(tracker.name, error)

    def _each(self, act: "Callable[[Tracker], None]") -> None:
        for tracker in list(self._trackers):
            self.guard(tracker, lambda tracker=tracker: act(tracker))  # type: ignore[misc]


class _Nameless:
    """Arguments or a model without the settings that callbacks send, which contain paths of this machine."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.config = self.peft_config = None

    def to_dict(self) -> dict[str, Any]:
        return {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def _guarded(callback: Any, tracker: "Tracker", tracking: Tracking) -> "TrainerCallback":
    from transformers import TrainerCallback

    class GuardedCallback(TrainerCallback):  # type: ignore[misc]
        """Logs curves only: uploads and the end of the run are left to `tracker`."""

        def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            act = callback.on_train_begin
            tracking.guard(tracker, lambda: act(_Nameless(args), state, control, model=_Nameless(model)))

        def on_log(self, args: Any, state: Any, control: Any, model: Any = None, logs: Any = None, **_: Any) -> None:
            act = callback.on_log
            tracking.guard(tracker, lambda: act(_Nameless(args), state, control, model=_Nameless(model), logs=logs))

    return GuardedCallback()


class Memory:
    """What a tracked run needs again when it is resumed: its group, and ids that a server gave it.

    Kept in a file beside the checkpoints of the unfinished artifact. `folder` None keeps nothing; `is_continued` False
    forgets what an earlier attempt left.
    """

    def __init__(self, folder: Path | None, is_continued: bool) -> None:
        self._path = folder / MEMORY if folder else None
        self._known: dict[str, str] = {}
        if self._path is not None and is_continued:
            with suppress(OSError, ValueError):  # missing or, after a power cut, not whole
                self._known = dict(json.loads(self._path.read_text("utf-8")))

    def find(self, key: str) -> str | None:
        return self._known.get(key)

    def recall(self, key: str, otherwise: str) -> str:
        """Return the value kept under `key`; if there is none, keep and return `otherwise`."""
        if key not in self._known:
            self._known[key] = otherwise
            if self._path is not None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(self._path, json.dumps(self._known))
        return self._known[key]


@dataclass(frozen=True)
class Opening:
    """Arguments of a tracker.

    Attributes:
        outputs: absolute; where trackers without a server write.
        group: of the run; the same when it is resumed.
        is_continued: whether this run is resumed from a checkpoint.
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
    """Open the trackers of a run and close them at the end of the block; none on ranks but the first.

    Args:
        outputs: `paths.outputs`.
        folder: where `Memory` keeps its file; None for runs that are not resumed.
    """
    if run is None or not config.chosen() or int(os.environ.get("RANK", "0")) != 0:
        yield Tracking()
        return
    memory = Memory(folder, is_continued)
    group = memory.recall("group", config.group or run.id)
    trackers = []
    for name, settings in config.chosen().items():
        try:
            trackers.append(_open(name, Opening(settings, run, Path(outputs).resolve(), group, memory, is_continued)))
        except Exception as error:
            _warn(name, error)
    tracking = Tracking(trackers)
    try:
        yield tracking
    finally:
        tracking.finish()


def _open(name: str, opening: Opening) -> "Tracker":
    if name == "wandb":
        from sacpo_exp.tracking.wandb_tracker import WandbTracker

        return WandbTracker(opening)
    from sacpo_exp.tracking.mlflow_tracker import MlflowTracker

    return MlflowTracker(opening)


def _warn(name: str, error: Exception) -> None:
    log.warning("tracks   no longer in %s, the run goes on: %s: %s", name, type(error).__name__, first_line(error))


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, shortened."""
    return (str(error).strip().splitlines() or [""])[0][:200]


def log_once(line: str) -> None:
    """Log a line unless this process has logged it before."""
    if line not in _logged:
        _logged.add(line)
        log.info(line)
