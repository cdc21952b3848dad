"""One tracked run: its trackers, its curves, and a guard that keeps trackers' failures out of the run."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from sacpo_exp.config.schema import TrackedRun, TrackerConfig
from sacpo_exp.method.policy import Policy, write_numbers

if TYPE_CHECKING:
    from sacpo_exp.tracking.mlflow_tracker import MlflowTracker
    from sacpo_exp.tracking.wandb_tracker import WandbTracker

    Tracker: TypeAlias = WandbTracker | MlflowTracker

log = logging.getLogger(__name__)

Cell = str | float | int | None
#: Keys of a configuration that hold paths or what a command typed; none of them is sent.
NOT_SENT = ("paths", "path", "file", "template", "others", "responses", "overrides", "store", "ledger")

#: File of a stage with the responses that were logged while it trained.
COMPLETIONS = "completions.jsonl"


class Tracking:
    """All trackers of a run. One that fails is dropped for the rest of the run, with one warning.

    Attributes:
        is_complete: whether the run has come to its end; otherwise it counts as failed until it is resumed.
    """

    is_complete = False

    def __init__(self, trackers: "Sequence[Tracker]" = ()) -> None:
        self._trackers = list(trackers)

    def log_scores(self, scores: Mapping[str, float]) -> None:
        """Log numbers about the run as a whole."""
        self._each(lambda tracker: tracker.log_scores(scores))

    def log_row(self, row: Mapping[str, Any]) -> None:
        """Log a line of `metrics.jsonl`."""
        self._each(lambda tracker: tracker.log_row(row))

    def log_curves(self, rows: Sequence[Mapping[str, Any]], completions: Sequence[Mapping[str, Cell]] = ()) -> None:
        """Log lines of `metrics.jsonl` and of `completions.jsonl`, unless the run has curves already."""

        def log_all(tracker: "Tracker") -> None:
            if not tracker.has_curves():
                for row in rows:
                    tracker.log_row(row)
                if completions:
                    tracker.log_table(*completion_table(completions))

        self._each(log_all)

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

    def _each(self, act: "Callable[[Tracker], None]") -> None:
        """Call `act` for every tracker, and drop those for which that fails."""
        for tracker in list(self._trackers):
            try:
                act(tracker)
            except Exception as error:
                self._trackers.remove(tracker)
                _warn(tracker.name, error)


@contextmanager
def tracked(config: TrackerConfig, run: TrackedRun | None, outputs: str) -> Iterator[Tracking]:
    """Open the trackers of a run and close them at the end of the block; none on ranks but the first.

    A run that exists already is continued, as far as the tracker can; offline wandb writes another folder of it.
    """
    trackers = []
    if run is not None and int(os.environ.get("RANK", "0")) == 0:
        for name, settings in config.chosen().items():
            try:
                trackers.append(_open(name, settings, run, Path(outputs).resolve()))
            except Exception as error:
                _warn(name, error)
    tracking = Tracking(trackers)
    try:
        yield tracking
    finally:
        tracking.finish()


def describe_policy(
    policy: Policy,
    recipe: Mapping[str, Any],
    parents: Sequence[str],
    group: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> TrackedRun:
    """Return the tracked run of a policy, the same for training, merging, evaluation and reports.

    Args:
        recipe, parents: of its artifact.
        group: by default its model and its data.
        settings: a resolved configuration, sent as `hydra.…` without paths.
    """
    columns = {name: value for name, value in policy.columns.items() if value is not None}
    group = group or ".".join(str(columns[name]) for name in ("model", "dataset") if name in columns)
    betas = {} if policy.beta is None else {"β": policy.beta}  # which the policy's own name leaves out of a merge
    policies = {parent.id for parent in policy.parents}
    names = ("order", "objective", "criterion", "loss", "model", "dataset")
    told = columns | {"recipe": dict(recipe), "lineage": [each.id for each in policy.ancestors]}
    if settings is not None:
        told["hydra"] = without_paths(settings)
    return TrackedRun(
        id=policy.id,
        kind="policy",
        name=" ".join(filter(None, [policy.family, write_numbers(betas | policy.numbers)])),
        group=group,
        tags=list(dict.fromkeys([*(str(columns[name]) for name in names if name in columns), group])),
        config=told,
        parents={parent: "policy" if parent in policies else "dataset" for parent in parents},
    )


def completion_table(rows: Sequence[Mapping[str, Cell]]) -> tuple[str, list[str], list[list[Cell]]]:
    """Return name, columns and rows of the table of lines of `completions.jsonl`, for `log_table`."""
    return "completions", list(rows[0]), [list(row.values()) for row in rows]


def without_paths(settings: Any) -> Any:
    """Return a configuration as plain values, without what names a place on this machine."""
    if isinstance(settings, Mapping):
        is_hub = getattr(settings.get("source"), "value", None) == "hub"
        return {
            key: without_paths(value)
            for key, value in settings.items()
            if (key == "path" and is_hub) or not (key in NOT_SENT or str(key).endswith("_path"))
        }
    if isinstance(settings, list | tuple):
        return [without_paths(each) for each in settings]
    value = getattr(settings, "value", settings)
    return None if isinstance(value, str) and value.startswith(("/", "~")) else value


def _open(name: str, settings: Any, run: TrackedRun, outputs: Path) -> "Tracker":
    if name == "wandb":
        from sacpo_exp.tracking.wandb_tracker import WandbTracker

        return WandbTracker(settings, run, outputs)
    from sacpo_exp.tracking.mlflow_tracker import MlflowTracker

    return MlflowTracker(settings, run, outputs)


def _warn(name: str, error: Exception) -> None:
    log.warning("tracks   no longer in %s, the run goes on: %s: %s", name, type(error).__name__, first_line(error))


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, shortened."""
    return (str(error).strip().splitlines() or [""])[0][:200]


@cache
def log_once(line: str) -> None:
    """Log a line unless this process has logged it before."""
    log.info(line)
