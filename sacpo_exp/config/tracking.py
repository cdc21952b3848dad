"""Settings of trackers, and the description of a run that they receive."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING


class WandbMode(Enum):
    auto = "auto"  # online with a key in the environment, else offline
    online = "online"
    offline = "offline"
    disabled = "disabled"


class LogModel(Enum):
    """What is logged of a trained policy."""

    none = "none"
    metadata = "metadata"  # its id, recipe, parents and metrics
    full = "full"  # its weights too


@dataclass
class WandbConfig:
    project: str = MISSING
    entity: str | None = None
    mode: WandbMode = WandbMode.auto
    log_model: LogModel = LogModel.metadata


@dataclass
class MlflowConfig:
    """The server is named by `MLFLOW_TRACKING_URI`; without it runs go to `<outputs>/mlflow.db`."""

    log_model: LogModel = LogModel.metadata


@dataclass
class TrackerConfig:
    """Any number of trackers. `group` null: the name of the sweep's folder, or of the run's if there is no sweep."""

    group: str | None = None
    wandb: WandbConfig | None = None
    mlflow: MlflowConfig | None = None

    def chosen(self) -> dict[str, Any]:
        """Return the chosen trackers by name."""
        trackers = {"wandb": self.wandb, "mlflow": self.mlflow}
        return {name: tracker for name, tracker in trackers.items() if tracker is not None}


@dataclass
class TrackedRun:
    """Description of a run for trackers: plain values, no path and no secret.

    Attributes:
        id: of the artifact that the run makes; its name in every tracker.
        kind: `stage`, `evaluation` or `report`.
        config: what determines the artifact, and what people search for.
        parents: artifact id → `policy` or `dataset`.
        is_last: whether the command has no stage after this one; only this run reports to a wandb sweep's agent.
    """

    id: str = MISSING
    kind: str = MISSING
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)
    is_last: bool = False
