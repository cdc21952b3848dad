"""One whole DPO stage through sacpo_exp.pipeline against TRL's own DPO script with its defaults.

Same pairs, model folder, precision, batch, updates, seed, learning rate, beta and max_length. Every run is a fresh
process with fresh caches, the two sides in turn. Loading, tokenising, reference log-probabilities and saving count on
both sides; imports do not, and neither does what ours does with held-out rows: both are shown by themselves.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from composing import describe_machine
from training_sides import BACKWARD, FOLDERS, FORWARD, PARTS, REFERENCE, RESULT, SETTINGS, configure

from sacpo_exp.errors import ConfigError, LaunchError, run_reporting_errors

SIDES = {"trl": "TRL's script", "ours": "ours"}


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="smollm2_135m", help="an option of conf/model (default: %(default)s)")
    parser.add_argument("--pairs", type=int, default=64, help="preference pairs of the demo (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=1, help="passes over them (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=4, help="pairs per update (default: %(default)s)")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), help="of both sides (default: as configured)")
    parser.add_argument("--trl-precision", action="store_true", help="leave TRL's script its own default precision")
    parser.add_argument("--repeats", type=int, default=2, help="runs of each side (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="also write everything measured into this file")
    arguments = vars(parser.parse_args())
    repeats, file = arguments.pop("repeats"), arguments.pop("json")
    run_reporting_errors(lambda: benchmark(arguments, repeats, file))


def benchmark(settings: dict[str, Any], repeats: int, file: Path | None) -> None:
    """Prepare once, run the sides in turn, print what was measured and write it into `file`.

    Raises:
        ConfigError: an argument is wrong; said here, not in a child.
        LaunchError: a side failed, or did not do the same work as the other.
    """
    if repeats < 1:
        raise ConfigError(f"--repeats must be at least 1, but is {repeats}.")
    configure(settings, Path("unused"))
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        settings |= start("prepare", settings, Path(folder))
        runs = run_in_turn(settings, repeats, Path(folder))
    work = {(run["updates"], run["tokens"]) for side in SIDES for run in runs[side]}
    if len(work) != 1:
        raise LaunchError(f"the sides did not do the same work; (updates, tokens) were {sorted(work)}.")
    summary = {side: summarize(runs[side]) for side in SIDES}
    print_report(settings, repeats, summary)
    if file:
        lasting = {name: value for name, value in settings.items() if name not in FOLDERS}
        content = {"settings": lasting, "machine": describe_machine(), "summary": summary, "runs": runs}
        file.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def run_in_turn(settings: dict[str, Any], repeats: int, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The results of each side: A B A B, so that a slow minute of the machine hits both."""
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for number in range(1, repeats + 1):
        for side, title in SIDES.items():
            with tempfile.TemporaryDirectory(dir=folder) as own:
                runs[side].append(start(side, settings, Path(own)))
            print(f"{title}, run {number} of {repeats}: {runs[side][-1]['seconds']:.1f} s", file=sys.stderr)
    return runs


def start(side: str, settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One side in a process of its own, and what it measured.

    This process never imports torch: Linux hands a parent's peak memory on to its children.
    """
    (folder / SETTINGS).write_text(json.dumps(settings), "utf-8")
    command = [sys.executable, str(Path(__file__).with_name("training_sides.py")), side, str(folder)]
    environment = {"HF_HUB_OFFLINE": "1", "DS_ACCELERATOR": "cpu"} | os.environ  # as `make demo` and the pipeline
    environment["HF_DATASETS_CACHE"] = str(folder / "cache")  # or the second run would find its tokens there
    log = folder / "log.txt"
    with log.open("w", encoding="utf-8") as file:
        code = subprocess.run(command, env=environment, stdout=file, stderr=file, check=False).returncode
    if code != 0:
        raise LaunchError(f"{side} ended with exit code {code}:\n{log.read_text('utf-8')[-3000:]}")
    result: dict[str, Any] = json.loads((folder / RESULT).read_text("utf-8"))
    return result


def summarize(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the runs of one side."""
    names = ("seconds", "heldout_seconds", "import_seconds", "peak_mib")
    summary: dict[str, Any] = {name: median(run[name] for run in runs) for name in names}
    summary |= {name: runs[0][name] for name in ("updates", "tokens")}
    summary["tokens_per_second"] = summary["tokens"] / summary["seconds"]
    summary["parts"] = {part: median(run["parts"].get(part, 0.0) for run in runs) for part in PARTS}
    return summary


def print_report(settings: dict[str, Any], repeats: int, summary: dict[str, dict[str, Any]]) -> None:
    """The table, and below it where the time went."""
    trl, ours = summary["trl"], summary["ours"]
    precision = f"{settings['dtype']} weights, {'bfloat16 autocast' if settings['bf16'] else 'no autocast'}"
    if settings["trl_precision"]:
        precision += " (TRL's script: its own default)"
    print(f"{settings['model']}: {settings['pairs_found']} pairs, {settings['epochs']} epoch(s), {precision}")
    work = f"{ours['updates']} updates of {settings['batch']} pairs, {ours['tokens']} tokens"
    print(f"{work}; median of {repeats} run(s)")
    print(f"\n{'':30}{SIDES['trl']:>14}{SIDES['ours']:>14}{'ratio':>10}")
    for title, name in (("seconds", "seconds"), ("tokens/s", "tokens_per_second"), ("peak memory, MiB", "peak_mib")):
        print(f"{title:30}{trl[name]:14.1f}{ours[name]:14.1f}{ours[name] / trl[name]:10.2f}")
    print("\nnot counted above, seconds")
    for title, name in (("imports", "import_seconds"), ("held-out rows", "heldout_seconds")):
        print(f"{'  ' + title:30}{trl[name]:14.1f}{ours[name]:14.1f}")
    print("\nwhere the seconds go")
    for part in PARTS:
        print(f"{'  ' + part:30}{trl['parts'][part]:14.1f}{ours['parts'][part]:14.1f}")
    print_bounds(settings, summary)
    print(f"\nours is {trl['seconds'] / ours['seconds']:.2f} times as fast as TRL's script")


def print_bounds(settings: dict[str, Any], summary: dict[str, dict[str, Any]]) -> None:
    """How far the passes are from the machine's matrix peak, and so what bounds the seconds.

    A token costs 2 FLOPs per parameter in a forward pass, 4 in a backward pass, and 2 for the reference. Both sides are
    given the same work, so tokens that one computes once for two sequences count as often for both.
    """
    peaks, precision = settings["matrix_peak"], "bfloat16" if settings["bf16"] else "float32"
    print(f"\nmatrix peak, TFLOP/s: {', '.join(f'{value:.3f} in {name}' for name, value in peaks.items())}")
    print(f"share of the {precision} peak")
    token = 2 * settings["parameters"] / 1e12 / peaks[precision]  # seconds of a forward pass at the peak
    for title, parts, passes in (
        ("policy and reference", (REFERENCE, FORWARD, BACKWARD), 4),
        ("backward alone", (BACKWARD,), 2),
        ("the whole stage", PARTS, 4),
    ):
        shares = []
        for side in SIDES:
            epochs = settings["epochs"] if side == "ours" and REFERENCE in parts else 1  # ours scores rows only once
            count = passes - 1 + 1 / epochs
            seconds = sum(summary[side]["parts"][part] for part in parts)
            shares.append(count * token * summary[side]["tokens"] / seconds)
        print(f"{'  ' + title:30}{shares[0]:14.2f}{shares[1]:14.2f}")


if __name__ == "__main__":
    main()
