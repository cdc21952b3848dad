"""Where policies come from: their ancestors' manifests and training curves, as stored."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sacpo_exp.store import Manifest, Store

KINDS: Final = ("model", "dataset", "stage", "merge", "scorer")
METRICS: Final = "metrics.jsonl"
#: Points of one curve, which on a page says no less than thousands.
MOST_POINTS: Final = 240
#: What is logged beside curves: of the clock, not of training.
NO_CURVES: Final = ("runtime", "per_second", "flos", "num_tokens", "epoch", "step")

Curves = dict[str, list[tuple[float, float]]]


@dataclass(frozen=True)
class Lineage:
    """Everything that policies are made of, by id, with the folders that hold it."""

    manifests: Mapping[str, Manifest]
    folders: Mapping[str, Path]

    def find_parents(self, policy_id: str) -> list[str]:
        """Ids of the policies that this one is made from; those without a manifest lie outside of the store."""
        manifest = self.manifests.get(policy_id)
        found = manifest.parents if manifest else []
        return [parent for parent in found if parent not in self.manifests or self.manifests[parent].kind != "dataset"]

    def find_data(self, policy_id: str) -> Manifest | None:
        """The dataset that a stage was trained on."""
        parents = self.manifests[policy_id].parents if policy_id in self.manifests else []
        found = [self.manifests[parent] for parent in parents if parent in self.manifests]
        return next((manifest for manifest in found if manifest.kind == "dataset"), None)

    def list_ancestors(self, policy_id: str) -> list[str]:
        """The policy after all that it descends from, the oldest first, each once."""
        order: dict[str, None] = {}
        for parent in self.find_parents(policy_id):
            order |= dict.fromkeys(self.list_ancestors(parent))
        return [*order, policy_id]

    def read_curves(self, stage_id: str) -> Curves:
        """Metric → (update, value) of a stored stage; empty where none were kept."""
        path = self.folders[stage_id] / METRICS
        if not path.is_file():
            return {}
        curves: Curves = {}
        for line in path.read_text("utf-8").splitlines():
            entry = json.loads(line)
            for name, value in entry.items():
                if "step" in entry and _is_curve(name, value):
                    curves.setdefault(name, []).append((entry["step"], value))
        return {name: _thin(points) for name, points in curves.items() if len(points) > 1 or name.startswith("eval_")}


def read_lineage(store: Store) -> Lineage:
    """Raises StoreError where a manifest is damaged."""
    found = [(folder, manifest) for folder, manifest in store.manifests() if manifest.kind in KINDS]
    return Lineage(
        {manifest.id: manifest for _, manifest in found}, {manifest.id: folder for folder, manifest in found}
    )


def _is_curve(name: str, value: Any) -> bool:
    return isinstance(value, int | float) and not name.endswith(NO_CURVES) and name != "train_loss"


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Every n-th point and the last."""
    stride = -(-len(points) // MOST_POINTS)
    return points[::stride] if (len(points) - 1) % stride == 0 else [*points[::stride], points[-1]]
