"""What is known of the licences of what a policy was made from, each fact with its source."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from sacpo_exp.config.data import DatasetConfig, DatasetSource
from sacpo_exp.config.models import ModelConfig, ModelSource

FACTS: Final = Path(__file__).with_name("licences.yaml")


@dataclass(frozen=True)
class Origin:
    """A model or dataset that a policy was made from.

    Attributes:
        name: for people: never a path of this machine.
        licence: its identifier on the hub; None where it is not known.
        source: where that stands.
        hub: its repository on the hub, or that of which it is a copy.
        is_licensed: False for random weights, which nobody has made.
    """

    name: str
    licence: str | None = None
    source: str = ""
    note: str = ""
    hub: str | None = None
    is_licensed: bool = True


def find_model(model: ModelConfig) -> Origin:
    """The untrained model."""
    if model.source == ModelSource.scratch:
        return Origin(f"{model.name}: random weights", note="made here", is_licensed=False)
    if model.source == ModelSource.path:
        return Origin(f"{model.name}: a local folder, {Path(model.path or '').name}")
    facts = read_facts()["models"].get(model.path, {})
    hub = model.path if model.source == ModelSource.hub else facts.get("hub")
    name = f"{model.path} {model.revision}" if model.revision else str(model.path)
    return Origin(name, facts.get("licence"), facts.get("source", ""), facts.get("note", ""), hub)


def find_dataset(dataset: DatasetConfig) -> Origin:
    """A dataset that a stage was trained on."""
    if dataset.source == DatasetSource.path:
        paths = [part.path for part in dataset.mix] or [dataset.path or ""]
        return Origin(f"{dataset.name}: local, {' + '.join(Path(path).name for path in paths)}")
    is_hub = dataset.source == DatasetSource.hub
    key = dataset.path if is_hub else dataset.source.value
    facts = read_facts()["datasets"].get(key, {})
    hub = dataset.path if is_hub else None
    return Origin(str(key), facts.get("licence"), facts.get("source", ""), facts.get("note", ""), hub)


def join_licences(origins: Sequence[Origin]) -> str | None:
    """The one licence of all that a policy was made from; None where one is not known, or they differ."""
    found = {origin.licence for origin in origins if origin.is_licensed}
    return found.pop() if len(found) == 1 else None


@functools.cache
def read_facts() -> dict[str, Any]:
    """`licences.yaml`."""
    facts: dict[str, Any] = yaml.safe_load(FACTS.read_text("utf-8"))
    return facts
