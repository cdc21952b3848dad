"""What a tracker costs a stage of 100 updates: the same stage with and without, in turn, each in a store of its own."""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from sacpo_exp.store import Manifest, Store

ROWS, BATCH, EPOCHS, UPDATES = 200, 4, 2, 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--tracker", default="wandb", help="as on the command line; [wandb,trackio] for several")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    arguments = parser.parse_args()
    seconds: dict[str, list[float]] = {"none": [], arguments.tracker: []}
    with tempfile.TemporaryDirectory() as folder:
        for round_ in range(arguments.rounds):
            # Each is first as often as second, so that a machine that gets slower favours neither.
            for tracker in list(seconds)[:: 1 if round_ % 2 == 0 else -1]:
                outputs = Path(folder) / f"{round_}-{tracker.strip('[]')}"
                seconds[tracker].append(train(arguments.model, tracker, outputs))
                print(f"{tracker}: {seconds[tracker][-1]:.2f} s")
    medians = {tracker: statistics.median(times) for tracker, times in seconds.items()}
    overhead = medians[arguments.tracker] / medians["none"] - 1
    print(
        f"{UPDATES} updates: {medians['none']:.2f} s without, {medians[arguments.tracker]:.2f} s with: {overhead:+.1%}"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps({"seconds": seconds, "overhead": overhead}, indent=1), "utf-8")


def train(model: str, tracker: str, outputs: Path) -> float:
    """Seconds of the whole stage: loading, updates, saving, and the tracker's begin and end."""
    overrides = [f"model={model}", f"tracker={tracker}", f"paths.outputs={outputs}", "base=none", "order=helpful_only"]
    overrides += [f"dataset.max_rows={ROWS}", f"stages.first.global_batch_size={BATCH}"]
    overrides += [f"stages.first.num_train_epochs={EPOCHS}", "hardware.save_steps=1000"]
    subprocess.run([sys.executable, "-m", "sacpo_exp.train", *overrides], check=True, capture_output=True)
    (stage,) = [manifest for _, manifest in Store(outputs / "store").manifests() if manifest.kind == "stage"]
    check_updates(stage)
    return stage.seconds


def check_updates(stage: Manifest) -> None:
    """Raises SystemExit if the stage had another number of updates than the figure is about."""
    if stage.metrics["train/updates"] != UPDATES:
        raise SystemExit(f"expected {UPDATES} updates, but there were {stage.metrics['train/updates']}")


if __name__ == "__main__":
    main()
