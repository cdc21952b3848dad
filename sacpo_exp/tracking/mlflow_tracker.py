"""MLflow: a server named by MLFLOW_TRACKING_URI, or an SQLite file beside the store; the sweep is its experiment."""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sacpo_exp.config.tracking import LogModel
from sacpo_exp.tracking.interface import Cell
from sacpo_exp.tracking.opening import Opening, say_once

log = logging.getLogger(__name__)

#: So that a server that is gone costs seconds; MLflow's own defaults add up to many minutes.
PATIENCE = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
#: Who say the same of every line that a server that is gone does not take; `Tracking` says it once.
TALKATIVE = ("mlflow", "alembic", "urllib3.connectionpool")
#: Longest values that MLflow takes of a parameter, and how many of them at once.
LONGEST, AT_ONCE = 500, 100


class MlflowTracker:
    """A run of MLflow, whose id is kept beside the stage's checkpoints so that a resumed stage continues it."""

    name = "mlflow"

    def __init__(self, opening: Opening) -> None:
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        import mlflow

        for name in TALKATIVE:
            logging.getLogger(name).setLevel(logging.CRITICAL)

        self._mlflow, self._opening = mlflow, opening
        mlflow.set_tracking_uri(os.environ.get("MLFLOW_TRACKING_URI") or self._local_uri())
        known = opening.memory.find("mlflow")
        if known is not None:
            self._run = mlflow.start_run(run_id=known)
            return
        mlflow.set_experiment(experiment_id=self._experiment())
        run = opening.run
        tags = {"artifact": run.id, "kind": run.kind} | {f"tag.{tag}": "true" for tag in run.tags}
        tags["mlflow.source.name"] = f"sacpo_exp, {run.kind}"  # else the path of the program
        tags |= {f"parent.{kind}.{number}": parent for number, (parent, kind) in enumerate(run.parents.items())}
        self._run = mlflow.start_run(run_name=run.id, tags=tags)
        opening.memory.recall("mlflow", self._run.info.run_id)
        parameters = list(flatten(run.config).items())
        for start in range(0, len(parameters), AT_ONCE):
            mlflow.log_params(dict(parameters[start : start + AT_ONCE]))

    def adopt(self, callback: Any) -> None:
        """transformers' callback takes the run that is active."""

    def log_scores(self, scores: Mapping[str, float]) -> None:
        self._mlflow.log_metrics(dict(scores))

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        data = {column: [row[place] for row in rows] for place, column in enumerate(columns)}
        self._mlflow.log_table(data=data, artifact_file=f"{name}.json")

    def log_figure(self, name: str, path: Path) -> None:
        self._mlflow.log_artifact(str(path))

    def log_policy(self, folder: Path, metrics: Mapping[str, Any]) -> None:
        if self._opening.settings.log_model == LogModel.none:
            return
        described = self._opening.run.config | {"parents": self._opening.run.parents, "metrics": dict(metrics)}
        self._mlflow.log_dict(described, "policy.json")
        if self._opening.settings.log_model == LogModel.full:
            for path in sorted(path for path in folder.iterdir() if path.is_file()):
                self._mlflow.log_artifact(str(path), artifact_path="policy")

    def finish(self, is_complete: bool) -> None:
        self._mlflow.end_run("FINISHED" if is_complete else "KILLED")

    def _local_uri(self) -> str:
        file = self._opening.outputs / "mlflow.db"
        file.parent.mkdir(parents=True, exist_ok=True)
        place = os.path.relpath(file)
        say_once(f"tracks   look at it with: mlflow ui --backend-store-uri sqlite:///{place}")
        return f"sqlite:///{file}"

    def _experiment(self) -> str:
        """The id of the sweep's experiment, made now if it is not there."""
        name = self._opening.group
        if found := self._mlflow.get_experiment_by_name(name):
            return str(found.experiment_id)
        is_local = self._mlflow.get_tracking_uri().startswith("sqlite:")
        place = (self._opening.outputs / "mlflow-artifacts").as_uri() if is_local else None
        return str(self._mlflow.create_experiment(name, artifact_location=place))


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as `recipe.optimization.optim`; every value a text of a length that MLflow takes."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value)[:LONGEST]
    return flat
