"""trackio: curves in a dashboard on this machine, without account or network."""

import contextlib
import io
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sacpo_exp.tracking.interface import Cell
from sacpo_exp.tracking.opening import Opening, say_once

log = logging.getLogger(__name__)


class TrackioTracker:
    """A run of trackio, found again by the artifact's id when a stage goes on."""

    name = "trackio"

    def __init__(self, opening: Opening) -> None:
        folder = opening.outputs / "trackio"
        os.environ["TRACKIO_DIR"] = str(folder)  # read when it is imported
        import trackio

        project, run = opening.settings.project, opening.run
        with _quiet():
            self._run = trackio.init(
                project=project,
                name=run.id,
                group=opening.group,
                config={**run.config, "kind": run.kind, "tags": run.tags, "parents": run.parents},
                resume="allow" if opening.is_continued else "never",
                embed=False,
                auto_log_cpu=False,
                auto_log_gpu=False,
            )
        place = os.path.relpath(folder)
        say_once(f"tracks   curves in a browser with: TRACKIO_DIR={place} trackio show --project {project}")

    def adopt(self, callback: Any) -> None:
        """transformers' callback would open another run; it is told that it has done so."""
        callback._initialized = True

    def log_scores(self, scores: Mapping[str, float]) -> None:
        self._run.log(dict(scores))

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        import trackio

        self._run.log({name: trackio.Table(columns=list(columns), data=[list(row) for row in rows])})

    def log_figure(self, name: str, path: Path) -> None:
        import trackio

        self._run.log({name: trackio.Image(str(path))})

    def log_policy(self, folder: Path, metrics: Mapping[str, Any]) -> None:
        """Nothing: its scores are logged, and the policy lies on this machine already."""

    def finish(self, is_complete: bool) -> None:
        import trackio

        self._run.log({"is_complete": int(is_complete)})
        with _quiet():
            trackio.finish()


@contextlib.contextmanager
def _quiet() -> Any:
    """trackio prints where it writes and how to look at it, in eight lines."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
