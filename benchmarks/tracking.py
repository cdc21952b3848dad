"""What a tracker costs a stage: the same stage with and without, in turn, each in a store of its own."""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sacpo_exp.store import Manifest, Store

BATCH, EPOCHS = 4, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--tracker", default="wandb", help="as on the command line; [wandb,mlflow] for several")
    parser.add_argument("--updates", type=int, default=100, help="of the stage (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=6, help="even, so that each is as often first; 6 for an interval")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    arguments = parser.parse_args()
    seconds: dict[str, list[float]] = {"none": [], arguments.tracker: []}
    with tempfile.TemporaryDirectory() as folder:
        for tracker in seconds:  # not counted: the first of each reads its packages from the disk
            train(arguments.model, arguments.updates, tracker, Path(folder) / f"first-{tracker.strip('[]')}")
        for round_ in range(arguments.rounds):
            # Each is first as often as second, so that a machine that gets slower favours neither.
            for tracker in list(seconds)[:: 1 if round_ % 2 == 0 else -1]:
                outputs = Path(folder) / f"{round_}-{tracker.strip('[]')}"
                seconds[tracker].append(train(arguments.model, arguments.updates, tracker, outputs))
                print(f"{tracker}: {seconds[tracker][-1]:.2f} s")
    # Within a round, whose two stages the machine served alike.
    overheads = [with_ / without - 1 for without, with_ in zip(*seconds.values(), strict=True)]
    overhead, interval = statistics.median(overheads), median_interval(overheads)
    said = f"[{interval[0]:+.1%}, {interval[1]:+.1%}]" if interval else "(no interval from fewer than 6 rounds)"
    medians = [statistics.median(times) for times in seconds.values()]
    print(f"{arguments.updates} updates: {medians[0]:.2f} s without, {medians[1]:.2f} s with: {overhead:+.1%} {said}")
    if arguments.json:
        figures = {"seconds": seconds, "overhead": overhead, "interval": interval}
        arguments.json.write_text(json.dumps(figures, indent=1), "utf-8")


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of a median whatever the distribution: the innermost pair of order statistics that the signs
    of the differences allow. None if there are too few values for one.
    """
    n, ordered = len(values), sorted(values)
    outside = [2 * sum(math.comb(n, k) for k in range(place + 1)) / 2**n for place in range(n // 2)]
    places = [place for place, chance in enumerate(outside) if chance <= 0.05]
    return (ordered[places[-1]], ordered[n - 1 - places[-1]]) if places else None


def train(model: str, updates: int, tracker: str, outputs: Path) -> float:
    """Seconds of the whole stage: loading, updates, saving, and the tracker's begin and end."""
    overrides = [f"model={model}", f"tracker={tracker}", f"paths.outputs={outputs}", "base=none", "order=helpful_only"]
    overrides += [f"dataset.max_rows={updates * BATCH // EPOCHS}", f"stage_defaults.first.global_batch_size={BATCH}"]
    overrides += [f"stage_defaults.first.num_train_epochs={EPOCHS}", "hardware.save_minutes=1000"]
    subprocess.run([sys.executable, "-m", "sacpo_exp.train", *overrides], check=True, capture_output=True)
    (stage,) = [manifest for _, manifest in Store(outputs / "store").manifests() if manifest.kind == "stage"]
    check_updates(stage, updates)
    return stage.seconds


def check_updates(stage: Manifest, updates: int) -> None:
    """Raises SystemExit if the stage had another number of updates than the figure is about."""
    if stage.metrics["train/updates"] != updates:
        raise SystemExit(f"expected {updates} updates, but there were {stage.metrics['train/updates']}")


if __name__ == "__main__":
    main()
