"""Check on a GPU what CPUs can't show; with --cpu the same checks in small on CPUs. Started by gpu_check.sh.

Every check is a row of the table and runs in processes of its own, so that one which fails stops no other. Losses of
small models are compared with those of one CPU process; memory, speed and checkpoints are measured on random models
with the widths of 1B, 3B and 7B models and few layers. What the processes do is in gpu_check_parts.py.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from functools import cache, partial
from pathlib import Path
from typing import Any

PARTS = Path(__file__).with_name("gpu_check_parts.py")
#: Seconds for one process.
PATIENCE = 300
#: A DPO stage of 16 updates that every form of sharding must give alike.
SMALL = ["model=tiny", "base=none", "order=helpful_only", "dataset.max_rows=64", "dataset.max_heldout_rows=8"]
SMALL += ["stages.helpfulness.num_train_epochs=2", "stages.helpfulness.learning_rate=1e-3"]
ON_GPU = ["hardware=a100x1", "hardware.device_memory=null", "hardware.tf32=false"]
#: How far losses may lie from those of one CPU process. Sums in another order on a CPU, other kernels on a GPU.
LOSSES = {"cpu": 1e-5, "cuda": 1e-3}
#: Estimated over measured memory: a lower ratio ends in an allocation that fails, a higher one wastes a GPU. On CPUs
#: resident memory counts what was freed and is kept, too.
RATIOS = {"cpu": (0.6, 1.5), "cuda": (0.9, 1.5)}
#: Least share of the peak of matrix products; below it a slow kernel must have been chosen.
SHARE = {"cpu": 0.0, "cuda": 0.1}
#: Most bytes per parameter of a checkpoint: weights twice (for transformers and DeepSpeed), float32 copy, two moments.
CHECKPOINT = {"cpu": 21, "cuda": 17}
#: Sizes by name, the largest last; their shapes are in gpu_check_parts.py.
SIZES = {"cpu": ("S", "M", "L"), "cuda": ("1B", "3B", "7B")}


class Skipped(Exception):
    """A check that can't run here."""


class Failed(Exception):
    """A check whose process failed."""


@dataclass(frozen=True)
class Setting:
    """Where the checks run: `device` cpu or cuda, how many of them, and a folder for everything."""

    device: str
    ranks: int
    folder: Path


@dataclass(frozen=True)
class Row:
    """A row of the table: what was found, the limit it has to keep, and whether it did."""

    check: str
    state: str
    found: str
    limit: str
    seconds: float


Outcome = tuple[bool, str, str]


def main() -> None:
    """Run all checks as the command line says, print the table, and write it with everything measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cpu", action="store_true", help="the same checks in small on CPUs")
    parser.add_argument("--folder", type=Path, default=Path(), help="for gpu_check.json and gpu_check.md (default: .)")
    arguments = parser.parse_args()
    device = "cpu" if arguments.cpu else "cuda"
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        machine = run_part(Setting(device, 1, Path(folder)), "machine")
        if not machine["devices"]:
            sys.exit("error: torch finds no GPU on this machine. Try: launchers/gpu_check.sh --cpu")
        setting = Setting(device, machine["devices"], Path(folder))
        rows = [check(name, function) for name, function in list_checks(setting).items()]
    seconds = time.monotonic() - start
    content = {"date": str(date.today()), "machine": machine, "seconds": seconds, "rows": [asdict(row) for row in rows]}
    arguments.folder.mkdir(parents=True, exist_ok=True)
    (arguments.folder / "gpu_check.json").write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    table = describe(machine, rows, seconds)
    (arguments.folder / "gpu_check.md").write_text(table, "utf-8")
    print(table)
    sys.exit(any(row.state == "failed" for row in rows))


def list_checks(setting: Setting) -> dict[str, Callable[[], Outcome]]:
    """Return the checks by name, in the order of the table."""
    library = "NCCL" if setting.device == "cuda" else "gloo"
    checks: dict[str, Callable[[], Outcome]] = {
        f"{library}, one rank": partial(check_collectives, setting, 1),
        f"{library}, all ranks": partial(check_collectives, setting, setting.ranks),
        "ZeRO 2, losses": partial(check_losses, setting, 2),
        "ZeRO 3, losses": partial(check_losses, setting, 3),
        "SIGTERM and resume, losses": partial(check_resume, setting),
        "log-probability kernel": partial(check_difference, setting, "kernel"),
        "SDPA against eager": partial(check_difference, setting, "attention", "sdpa"),
        "flash attention against SDPA": partial(check_flash, setting),
    }
    for size in SIZES[setting.device]:
        checks[f"memory, {size}"] = partial(check_memory, setting, size)
    largest = SIZES[setting.device][-1]
    checks[f"speed, {largest}"] = partial(check_speed, setting, largest)
    checks[f"checkpoint, {largest}"] = partial(check_checkpoint, setting, largest)
    checks["responses against one by one"] = partial(check_responses, setting, "hf", 1.0)
    checks["vLLM's responses against ours"] = partial(check_responses, setting, "vllm", 0.9)
    return checks


def check(name: str, function: Callable[[], Outcome]) -> Row:
    """Run one check, whatever happens in it."""
    start = time.monotonic()
    try:
        passed, found, limit = function()
        state = "passed" if passed else "failed"
    except Skipped as error:
        state, found, limit = "skipped", str(error), ""
    except Exception as error:  # the others run all the same
        state, found, limit = "failed", f"{error}" or type(error).__name__, ""
    row = Row(name, state, found, limit, time.monotonic() - start)
    print(f"{row.state:8} {name}: {found}", file=sys.stderr, flush=True)
    return row


def describe(machine: dict[str, Any], rows: list[Row], seconds: float) -> str:
    """Return the table in Markdown, with a line about the machine above it."""
    lines = [f"{date.today()}: {machine['name']}, {machine['software']}, {seconds / 60:.0f} minutes.", ""]
    lines += ["| check | | found | limit |", "|---|---|---|---|"]
    lines += [f"| {row.check} | {row.state} | {row.found} | {row.limit} |" for row in rows]
    return "\n".join(lines) + "\n"


def run(setting: Setting, name: str, *command: str) -> str:
    """Return what a command prints; Failed, with its last line, if it fails."""
    log = setting.folder / f"{name}.log"
    environment = os.environ | ({"CUDA_VISIBLE_DEVICES": ""} if setting.device == "cpu" else {})
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(command, cwd=setting.folder, env=environment, stdout=file, stderr=file)
        try:
            code = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()  # what it has started ends with it
            raise Failed(f"no end after {PATIENCE} s") from None
    text = log.read_text("utf-8", "replace")
    if code:
        raise Failed((text.strip().splitlines() or [f"exit code {code}"])[-1][:200].replace("|", "/"))
    return text


def run_part(setting: Setting, part: str, *arguments: str, ranks: int | None = None) -> dict[str, Any]:
    """Return what a part of gpu_check_parts.py found; with `ranks` in so many processes."""
    name = "-".join([part, *arguments, *([str(ranks)] if ranks else [])])
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)] if ranks else []
    result = setting.folder / f"{name}.json"
    run(setting, name, sys.executable, *launcher, str(PARTS), str(result), setting.device, part, *arguments)
    found: dict[str, Any] = json.loads(result.read_text("utf-8"))
    if "skipped" in found:
        raise Skipped(found["skipped"])
    return found


def train(setting: Setting, outputs: str, *hardware: str) -> list[str]:
    """Return the command that trains the small stage on some hardware."""
    return [sys.executable, "-m", "sacpo_exp.train", *SMALL, *hardware, f"paths.outputs={setting.folder / outputs}"]


def read_losses(setting: Setting, outputs: str) -> list[float]:
    """Return the loss of every update of the stage in these outputs."""
    (path,) = (setting.folder / outputs / "store" / "stage").glob("*/metrics.jsonl")
    return [line["loss"] for line in map(json.loads, path.read_text("utf-8").splitlines()) if "loss" in line]


@cache
def reference_losses(setting: Setting) -> list[float]:
    """Return the losses of the small stage in one CPU process."""
    run(Setting("cpu", 1, setting.folder), "reference", *train(setting, "reference", "hardware=cpu"))
    return read_losses(setting, "reference")


def sharded(setting: Setting, stage: int) -> list[str]:
    """Return overrides for a ZeRO stage over all devices that divide the batch of 8."""
    ranks = max(count for count in (1, 2, 4, 8) if count <= setting.ranks)
    base = ["hardware=cpu_x2"] if setting.device == "cpu" else [*ON_GPU, "hardware.activation_checkpointing=false"]
    return [*base, f"hardware.processes={ranks}", f"hardware.zero_stage={stage}"]


def compare_losses(setting: Setting, outputs: str) -> Outcome:
    """Compare the losses in these outputs with those of one CPU process."""
    expected, found = reference_losses(setting), read_losses(setting, outputs)
    if len(found) != len(expected):
        return False, f"{len(found)} updates instead of {len(expected)}", ""
    worst, moved = max(abs(a - b) for a, b in zip(found, expected, strict=True)), max(expected) - min(expected)
    limit = LOSSES[setting.device]
    text = f"{worst:.1e} from the CPU's over {len(found)} updates, which span {moved:.2f}"
    return worst <= limit < moved / 10, text, f"≤ {limit:g}"


def check_collectives(setting: Setting, ranks: int) -> Outcome:
    """Sums, copies and shards over ranks are exact; all_reduce moves so many bytes."""
    found = run_part(setting, "collectives", ranks=ranks)
    return found["exact"], f"all_reduce {found['rate']:.1f} GB/s over {ranks}", "exact sums"


def check_losses(setting: Setting, stage: int) -> Outcome:
    """A sharded stage has the losses of one CPU process."""
    outputs = f"zero-{stage}"
    run(setting, outputs, *train(setting, outputs, *sharded(setting, stage)))
    return compare_losses(setting, outputs)


def check_resume(setting: Setting) -> Outcome:
    """A stage that SIGTERM stops leaves a checkpoint, and continues to the same losses."""
    command = train(setting, "resumed", *sharded(setting, 3))
    with (setting.folder / "stopped.log").open("w") as log:
        process = subprocess.Popen(command, cwd=setting.folder, stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < deadline:
            if any((setting.folder / "resumed" / "logs").glob("*/training")):
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        start = time.monotonic()
        code = process.wait(PATIENCE)
        seconds = time.monotonic() - start
    if code != 128 + signal.SIGTERM:
        raise Failed(f"SIGTERM during training ended in exit code {code} instead of {128 + signal.SIGTERM}")
    if "resumes" not in run(setting, "resumed", *command):
        raise Failed("the stage began anew instead of resuming")
    passed, text, limit = compare_losses(setting, "resumed")
    return passed, f"stopped in {seconds:.1f} s; {text}", limit


def check_difference(setting: Setting, *part: str) -> Outcome:
    """A kernel gives what plain torch gives, forwards and backwards."""
    found = run_part(setting, *part)
    text = ", ".join(f"{name} {value:.1e}" for name, value in found["differences"].items())
    worst = max(value / found["limits"][name.split()[0]] for name, value in found["differences"].items())
    return worst <= 1, text, ", ".join(f"{name} ≤ {value:g}" for name, value in found["limits"].items())


def check_flash(setting: Setting) -> Outcome:
    """Flash attention gives what SDPA gives, in bfloat16."""
    if setting.device == "cpu":
        raise Skipped("flash attention needs a GPU")
    return check_difference(setting, "attention", "flash_attention_2")


@cache
def measure(setting: Setting, size: str) -> dict[str, Any]:
    """Return what one DPO stage of a size takes; its files are removed."""
    try:
        return run_part(setting, "stage", size)
    finally:
        shutil.rmtree(setting.folder / size, ignore_errors=True)


def check_memory(setting: Setting, size: str) -> Outcome:
    """The estimate of `dry_run=true` holds."""
    found = measure(setting, size)
    ratio, (least, most) = found["estimate"] / found["peak"], RATIOS[setting.device]
    text = f"estimated {found['estimate']:.2f}, measured {found['peak']:.2f} GiB ({found['parameters'] / 1e6:.0f} M)"
    return least <= ratio <= most, f"{ratio:.2f}: {text}", f"{least}–{most}"


def check_speed(setting: Setting, size: str) -> Outcome:
    """Updates reach a share of the peak that matrix products have on this device."""
    found = measure(setting, size)
    share = found["flops"] / found["peak_flops"]
    text = f"{found['tokens_per_second']:,.0f} tokens/s, {share:.2f} of {found['peak_flops'] / 1e12:.3g} TFLOP/s"
    return share >= SHARE[setting.device], text, f"≥ {SHARE[setting.device]}"


def check_checkpoint(setting: Setting, size: str) -> Outcome:
    """A checkpoint has the size that the documentation states; training waits so long for it."""
    found = measure(setting, size)
    per_parameter = found["checkpoint_bytes"] / found["parameters"]
    rate = found["checkpoint_bytes"] / found["checkpoint_seconds"] / 1e9
    text = f"{per_parameter:.1f} bytes per parameter, {found['checkpoint_seconds']:.1f} s, {rate:.2f} GB/s"
    return per_parameter <= CHECKPOINT[setting.device], text, f"≤ {CHECKPOINT[setting.device]} bytes"


def check_responses(setting: Setting, engine: str, limit: float) -> Outcome:
    """An engine gives the tokens of another one, greedily and in float32."""
    found = run_part(setting, "responses", engine)
    return found["same"] >= limit, f"{found['same']:.2f} of {found['count']} identical", f"≥ {limit}"


if __name__ == "__main__":
    main()
