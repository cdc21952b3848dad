"""MLflow: the server of MLFLOW_TRACKING_URI, or an SQLite file beside the store; a sweep is one experiment."""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sacpo_exp.config.schema import LogModel, MlflowConfig, TrackedRun
from sacpo_exp.tracking.runs import Cell, log_once

#: MLflow's own defaults would wait many minutes for a server that is down.
PATIENCE = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
#: Loggers that would repeat the same warning for every logged line; `Tracking` warns once.
TALKATIVE = ("mlflow", "alembic", "urllib3.connectionpool")
#: Longest value of a parameter that MLflow takes, and how many of them at once.
LONGEST, AT_ONCE = 500, 100


class MlflowTracker:
    """A run of MLflow, found again by its policy's id, so that training, evaluation and reports continue it."""

    name = "mlflow"

    def __init__(self, settings: MlflowConfig, run: TrackedRun, outputs: Path) -> None:
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        import mlflow

        for name in TALKATIVE:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._mlflow, self._settings, self._tracked = mlflow, settings, run
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        artifacts = None
        if not uri:
            outputs.mkdir(parents=True, exist_ok=True)
            uri, artifacts = f"sqlite:///{outputs}/mlflow.db", (outputs / "mlflow-artifacts").as_uri()
            database = os.path.relpath(outputs / "mlflow.db")
            log_once(f"tracks   look at it with: mlflow ui --backend-store-uri sqlite:///{database}")
        mlflow.set_tracking_uri(uri)
        known = mlflow.search_runs(
            search_all_experiments=True, filter_string=f"tags.artifact = '{run.id}'", output_format="list"
        )
        tags = {f"tag.{tag}": "true" for tag in run.tags}
        if known:
            mlflow.start_run(run_id=known[0].info.run_id)
            mlflow.set_tags(tags)
            return
        if mlflow.get_experiment_by_name(run.group) is None:
            mlflow.create_experiment(run.group, artifact_location=artifacts)
        mlflow.set_experiment(run.group)
        tags |= {"artifact": run.id, "kind": run.kind}
        tags["mlflow.source.name"] = f"sacpo_exp, {run.kind}"  # the default is the path of the program
        tags["mlflow.source.git.repoURL"] = "not sent"  # the origin of a checkout, which may be a path or hold a token
        tags |= {f"parent.{kind}.{number}": parent for number, (parent, kind) in enumerate(run.parents.items())}
        mlflow.start_run(run_name=run.name, tags=tags)
        parameters = list(flatten(run.config).items())
        for start in range(0, len(parameters), AT_ONCE):
            mlflow.log_params(dict(parameters[start : start + AT_ONCE]))

    def log_scores(self, scores: Mapping[str, float]) -> None:
        self._mlflow.log_metrics(dict(scores))

    def has_curves(self) -> bool:
        return not {"loss", "eval_loss"}.isdisjoint(self._mlflow.active_run().data.metrics)

    def log_row(self, row: Mapping[str, Any]) -> None:
        numbers = {name: float(value) for name, value in row.items() if isinstance(value, int | float)}
        self._mlflow.log_metrics(numbers, step=int(row.get("step", 0)))

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        data = {column: [row[index] for row in rows] for index, column in enumerate(columns)}
        self._mlflow.log_table(data=data, artifact_file=f"{name}.json")

    def log_figure(self, name: str, path: Path) -> None:
        self._mlflow.log_artifact(str(path))

    def log_policy(self, folder: Path, metrics: Mapping[str, Any]) -> None:
        if self._settings.log_model == LogModel.none:
            return
        run = self._tracked
        self._mlflow.log_dict(run.config | {"parents": run.parents, "metrics": dict(metrics)}, "policy.json")
        if self._settings.log_model == LogModel.full:
            for path in sorted(path for path in folder.iterdir() if path.is_file()):
                self._mlflow.log_artifact(str(path), artifact_path="policy")

    def finish(self, is_complete: bool) -> None:
        self._mlflow.end_run("FINISHED" if is_complete else "KILLED")


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Flatten nested settings into `recipe.optimization.optim=…`, cut to the length that MLflow takes."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value)[:LONGEST]
    return flat
