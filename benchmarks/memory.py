"""Memory that a stage takes on the CPU against the memory plan.

One SFT and one DPO stage of the embedded model, each through sacpo_exp.pipeline in a fresh process: the peak of
resident memory over what there was after the imports, before the model was loaded. Rows are cut to `--length` tokens,
which the demo's reach, since the plan is for rows as long as they may be.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir

from sacpo_exp.cluster.commands import to_config
from sacpo_exp.config.hardware import GIB
from sacpo_exp.config.loading import CONF, register_schemas
from sacpo_exp.config.schema import RunConfig
from sacpo_exp.errors import LaunchError, run_reporting_errors
from sacpo_exp.pipeline import Run, open_run

STAGES = ("sft", "dpo")
RESULT = "result.json"
IMPORTED = (
    *("torch", "datasets", "accelerate", "peft", "transformers.models.llama.modeling_llama"),
    *("trl.trainer.sft_trainer", "trl.trainer.dpo_trainer", "sacpo_exp.training.trainers", "sacpo_exp.training.stage"),
)
COLUMNS = ("weights", "gradients", "optimizer", "activations", "buffers", "growth")


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="smollm2_135m", help="an option of conf/model (default: %(default)s)")
    parser.add_argument("--length", type=int, default=64, help="tokens of a row (default: %(default)s)")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES, help="default: both")
    parser.add_argument("--json", type=Path, help="also write everything measured into this file")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        run_child(json.loads(arguments.child[0]), arguments.child[1])
        return
    run_reporting_errors(lambda: benchmark(arguments))


def benchmark(arguments: argparse.Namespace) -> None:
    """Prepare once, train each stage in a process of its own, print plan and measurement."""
    results = measure(arguments.model, arguments.length, arguments.stages)
    print(f"{arguments.model}, rows of {arguments.length} tokens, GiB")
    print(f"{'':6}" + "".join(f"{column:>12}" for column in COLUMNS) + f"{'measured':>12}{'ratio':>8}")
    for name, result in results.items():
        planned = "".join(f"{result['plan'][column]:12.3f}" for column in COLUMNS)
        print(f"{name:6}{planned}{result['measured']:12.3f}{result['plan']['growth'] / result['measured']:8.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n", "utf-8")


def measure(model: str, length: int, stages: list[str]) -> dict[str, dict[str, Any]]:
    """`plan` (GiB by part, and `growth`, their sum) and `measured` growth of each stage.

    Raises:
        LaunchError: a child failed.
    """
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        settings = {"model": model, "length": length, "folder": folder}
        start(settings, "prepare")
        return {name: start(settings, name) for name in stages}


def start(settings: dict[str, Any], part: str) -> dict[str, Any]:
    """A part in a process of its own, and what it found; Linux hands a parent's peak on, so this one stays small."""
    folder = Path(settings["folder"])
    command = [sys.executable, str(Path(__file__)), "--child", json.dumps(settings), part]
    environment = {"HF_HUB_OFFLINE": "1", "DS_ACCELERATOR": "cpu"} | os.environ
    environment["HF_DATASETS_CACHE"] = str(folder / "cache")
    log = folder / f"{part}.txt"
    with log.open("w", encoding="utf-8") as file:
        code = subprocess.run(command, env=environment, stdout=file, stderr=file, check=False).returncode
    if code != 0:
        raise LaunchError(f"{part} ended with exit code {code}:\n{log.read_text('utf-8')[-3000:]}")
    result: dict[str, Any] = json.loads((folder / RESULT).read_text("utf-8"))
    return result


def run_child(settings: dict[str, Any], part: str) -> None:
    """What happens in a process of its own: the model and its data, or one stage."""
    from sacpo_exp.pipeline import locate, prepare, train

    if part == "prepare":
        for name in STAGES:
            run = configure(settings, name)
            locate(run, run.plan.model)
            prepare(run, run.plan.stages[0])
        result: dict[str, Any] = {}
    else:
        run = configure(settings, part)
        import_everything()
        before = read_status("VmRSS")
        train(run, run.plan.stages[0])
        result = {"plan": plan_of(run), "measured": (read_status("VmHWM") - before) / GIB}
    (Path(settings["folder"]) / RESULT).write_text(json.dumps(result), "utf-8")


def configure(settings: dict[str, Any], part: str) -> Run:
    """A plan whose first stage is the one to measure: six or so updates, and a checkpoint on the way."""
    length = settings["length"]
    overrides = [f"model={settings['model']}", f"paths.outputs={settings['folder']}/outputs", "order=helpful_only"]
    overrides += [f"optimization.max_length={length}", f"optimization.max_prompt_length={length // 2}"]
    overrides += ["dataset.max_rows=60", "dataset.max_heldout_rows=8", "hardware.save_minutes=0"]
    overrides += ["stage_defaults.first.num_train_epochs=0.4", *(["base=none"] if part == "dpo" else [])]
    register_schemas()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return open_run(to_config(compose("train", overrides=overrides), RunConfig, overrides))


def import_everything() -> None:
    """All that a stage imports on its way, so that it is not taken for the model's memory."""
    for name in IMPORTED:
        importlib.import_module(name)


def plan_of(run: Run) -> dict[str, float]:
    """The memory plan's figures."""
    from sacpo_exp.cluster.memory import find_shape, plan_stage

    shape = find_shape(run.config.model)
    if shape is None:
        raise LaunchError(f"the shape of model={run.config.model.name} is not known.")
    plan = plan_stage(run.config, run.plan.stages[0].config, shape)
    return {column: getattr(plan, column) for column in COLUMNS[:-1]} | {"growth": plan.total - plan.runtime}


def read_status(key: str) -> int:
    """Bytes that Linux shows for this process."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


if __name__ == "__main__":
    main()
