"""What is stored of the policies of a report and of their ancestors: commands and training curves."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sacpo_exp.method.policy import Policy
from sacpo_exp.store import Manifest, Store

KINDS: Final = ("model", "dataset", "stage", "merge", "scorer")
#: Points of one curve; more can't be told apart on a page.
MOST_POINTS: Final = 240
#: Ends of the names of logged values that do not show progress.
NO_CURVES: Final = ("runtime", "per_second", "flos", "num_tokens", "epoch", "step")

Curves = dict[str, list[tuple[float, float]]]


@dataclass(frozen=True)
class Lineage:
    """Manifests and folders of everything that policies are made of, by id."""

    manifests: Mapping[str, Manifest]
    folders: Mapping[str, Path]

    def find_overrides(self, policy: Policy) -> list[str] | None:
        """Return the overrides of the command that made a policy; None if its manifest is not in this store."""
        manifest = self.manifests.get(policy.id)
        return None if manifest is None else manifest.labels.get("overrides")

    def read_curves(self, stage_id: str) -> Curves:
        """Return metric → (update, value) of a stored stage; empty if none were kept."""
        path = self.folders[stage_id] / "metrics.jsonl"
        curves: Curves = {}
        for line in path.read_text("utf-8").splitlines() if path.is_file() else ():
            entry = json.loads(line)
            for name, value in entry.items():
                if "step" in entry and _is_curve(name, value):
                    curves.setdefault(name, []).append((entry["step"], value))
        return {name: _thin(points) for name, points in curves.items() if len(points) > 1 or name.startswith("eval_")}


def read_lineage(store: Store) -> Lineage:
    """Read all manifests; raise StoreError if one is damaged."""
    entries = [(folder, manifest) for folder, manifest in store.manifests() if manifest.kind in KINDS]
    manifests = {manifest.id: manifest for _, manifest in entries}
    return Lineage(manifests, {manifest.id: folder for folder, manifest in entries})


def _is_curve(name: str, value: Any) -> bool:
    return isinstance(value, int | float) and not name.endswith(NO_CURVES) and name != "train_loss"


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return every n-th point and the last."""
    stride = -(-len(points) // MOST_POINTS)
    return points[::stride] if (len(points) - 1) % stride == 0 else [*points[::stride], points[-1]]


def write_command(entry: str, overrides: Sequence[str]) -> str:
    """Return the command line with these overrides, quoted for a shell."""
    return " ".join([f"sacpo {entry}", *map(shlex.quote, overrides)])
