"""A sweep of some β × 2 orders on two slots of one thread each, against the least time that its stages allow.

With `--grid` a grid of some β × 3 merge ratios in one command, against a command per path that shares nothing.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sacpo_exp.store import Manifest, Store

REPO = Path(__file__).parents[1]
BETAS = ("0.1", "0.05", "0.025", "0.01")
ORDERS = ("helpful_first", "safety_first")
RATIOS = ("0.25", "0.5", "0.75")


@dataclass(frozen=True)
class Run:
    """Wall seconds of a whole command, and the manifests of the stages that it trained."""

    seconds: float
    stages: list[Manifest]

    def interval(self, stage: Manifest) -> tuple[float, float]:
        """When a stage was begun and ended, in seconds."""
        begun = datetime.fromisoformat(stage.created).timestamp()
        return begun, begun + stage.seconds

    def most_at_once(self) -> int:
        """The most stages that were at work at one moment."""
        intervals = [self.interval(stage) for stage in self.stages]
        return max(sum(begun <= moment < ended for begun, ended in intervals) for moment, _ in intervals)

    def span(self) -> float:
        """From the begin of the first stage to the end of the last: without the start of the processes."""
        intervals = [self.interval(stage) for stage in self.stages]
        return max(ended for _, ended in intervals) - min(begun for begun, _ in intervals)

    def bound(self, slots: int) -> float:
        parents = {stage.id: stage.parents[0] for stage in self.stages}
        return least_seconds({stage.id: stage.seconds for stage in self.stages}, parents, slots)


def least_seconds(seconds: Mapping[str, float], parents: Mapping[str, str], slots: int) -> float:
    """Return a bound of any schedule: all work spread evenly, or the longest chain of stages (Graham 1969)."""

    def chain(stage: str) -> float:
        parent = parents[stage]
        return seconds[stage] + (chain(parent) if parent in seconds else 0.0)

    return max(sum(seconds.values()) / slots, *(chain(stage) for stage in seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="nano")
    parser.add_argument("--epochs", type=int, default=2, help="per stage: long enough beside the import of torch")
    parser.add_argument(
        "--betas", type=int, choices=range(1, len(BETAS) + 1), default=len(BETAS), help="so many of them"
    )
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--skip-basic", action="store_true", help="leave out Hydra's own launcher, one after the other")
    parser.add_argument("--grid", action="store_true", help="measure the grid of β and merge ratio instead")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    arguments = parser.parse_args()
    betas = BETAS[: arguments.betas]
    common = [f"model={arguments.model}", "base=none"]
    common += [f"stage_defaults.{name}.num_train_epochs={arguments.epochs}" for name in ("first", "second")]
    if arguments.grid:
        figures = measure_grid(common, betas)
    else:
        common += [f"order={','.join(ORDERS)}", f"beta={','.join(betas)}"]
        expected = len(ORDERS) * (1 + arguments.betas)
        slots = ["hydra/launcher=slots", f"hydra.launcher.slots={arguments.slots}"]
        figures = describe("slots", measure([*common, *slots]), arguments.slots, expected)
        if not arguments.skip_basic:
            figures |= describe("basic", measure(common), 1, expected)
    print(json.dumps(figures, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1), "utf-8")


def measure_grid(common: list[str], betas: tuple[str, ...]) -> dict[str, float]:
    """Return stages trained and seconds of P-SACPO for each β and q: in one command, and in one command for each."""
    together = measure([*common, f"beta={','.join(betas)}", f"merge_ratio={','.join(RATIOS)}"])
    alone = [measure([*common, f"beta={beta}", f"merge_ratio={ratio}"]) for beta in betas for ratio in RATIOS]
    stages, seconds = sum(len(run.stages) for run in alone), sum(run.seconds for run in alone)
    if len(together.stages) != 1 + len(betas) or stages != 2 * len(betas) * len(RATIOS):
        sys.exit(f"{len(together.stages)} stages together and {stages} path by path: not what the grid needs")
    return {
        "grid/policies": len(alone),
        "grid/stages": len(together.stages),
        "grid/seconds": round(together.seconds, 1),
        "path by path/stages": stages,
        "path by path/seconds": round(seconds, 1),
        "path by path over grid, seconds": round(seconds / together.seconds, 2),
    }


def measure(overrides: list[str]) -> Run:
    """Run the sweep into an empty folder, one thread per process."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "sacpo_exp.train", "-m", *overrides]
        start = time.monotonic()
        subprocess.run(
            command,
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO), "HF_HUB_OFFLINE": "1"},
        )
        seconds = time.monotonic() - start
        found = Store(Path(folder) / "outputs" / "store").manifests()
        return Run(seconds, [manifest for _, manifest in found if manifest.kind == "stage"])


def describe(name: str, run: Run, slots: int, expected: int) -> dict[str, float]:
    """Figures of a run; fails if the sweep did more or less than it should."""
    if len(run.stages) != expected or run.most_at_once() > slots:
        sys.exit(f"{name}: {len(run.stages)} stages, {run.most_at_once()} at once, instead of {expected} and {slots}")
    bound = run.bound(slots)
    return {
        f"{name}/stages": len(run.stages),
        f"{name}/most_at_once": run.most_at_once(),
        f"{name}/wall_seconds": round(run.seconds, 1),
        f"{name}/stage_span_seconds": round(run.span(), 1),
        f"{name}/bound_seconds": round(bound, 1),
        f"{name}/wall_over_bound": round(run.seconds / bound, 3),
        f"{name}/span_over_bound": round(run.span() / bound, 3),
    }


if __name__ == "__main__":
    main()
