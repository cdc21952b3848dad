"""One training stage, from a loaded policy to a folder of plain safetensors: what every rank of a worker group runs."""

import json
import logging
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sacpo_exp.config.hardware import Accelerator
from sacpo_exp.config.schema import StageJob
from sacpo_exp.data.sources import read_view
from sacpo_exp.stopping import Stop
from sacpo_exp.tracking.runs import tracked
from sacpo_exp.training.adapters import load_parent, ready_adapter, save_merged
from sacpo_exp.training.callbacks import CompletionLogger, stage_callbacks
from sacpo_exp.training.models import Location, keep_freed_memory, load_tokenizer
from sacpo_exp.training.passes import faster_passes
from sacpo_exp.training.trl_adapter import build_trainer

if TYPE_CHECKING:
    from transformers import Trainer

log = logging.getLogger(__name__)

METRICS = "metrics.jsonl"


def train_stage(job: StageJob, stop: Stop) -> dict[str, Any] | None:
    """Train, measure on held-out rows, and write weights, tokenizer and `metrics.jsonl` into `job.folder`.

    Returns:
        metrics: held-out loss, for preferences reward accuracy and margin, updates, tokens; empty on all ranks but
        the first. None if `stop` ended training early: then `job.folder` has a checkpoint and no policy.

    Raises:
        ConfigError: the model can't be loaded.
        DivergedError: the loss is not a finite number any more.
    """
    config, stage, folder = job.config, job.config.stages[job.name], Path(job.folder)
    is_cpu = config.hardware.accelerator == Accelerator.cpu
    if is_cpu and config.hardware.zero_stage:  # DeepSpeed would look for another backend than gloo
        import deepspeed

        deepspeed.ops.__compatible_ops__ = {}  # or the first run compiles one for a minute that only inference uses
        deepspeed.init_distributed(dist_backend="gloo")
    location = Location(job.parent, job.revision, config.model.trust_remote_code)
    tokenizer = load_tokenizer(location, config.model.chat_template)
    policy = load_parent(job, location)
    if is_cpu:
        keep_freed_memory()
        if config.adapter is None:  # all weights change, and the first update would copy page after page of the file
            for weight in policy.parameters():
                weight.data = weight.data.clone()
    faster = faster_passes(policy) if is_cpu else nullcontext()
    with faster, tracked(config.tracker, job.tracked, config.paths.outputs) as tracking:
        train, heldout = (read_view(Path(job.view), part) for part in ("train", "heldout"))
        trainer = build_trainer(job, stage, policy, tokenizer, train, heldout)
        if job.only_reference:
            return {}
        if config.adapter is not None:
            ready_adapter(trainer.model, config.adapter)
        for callback in stage_callbacks(job, stop, tracking, has_margins="margin" in train.column_names):
            trainer.add_callback(callback)
        if config.log_completions:
            trainer.add_callback(CompletionLogger(trainer, job, tracking))
        trainer.train(resume_from_checkpoint=job.checkpoint)
        if trainer.state.global_step < trainer.state.max_steps:
            return None
        scored = {line["step"] for line in trainer.state.log_history if "eval_loss" in line}
        if trainer.state.global_step not in scored:
            trainer.evaluate()
        _save(trainer, job, location, folder)
        metrics = summarize(trainer, folder) if trainer.is_world_process_zero() else {}
        # Not those of training, whose names are the curves'.
        tracking.log_scores({name: value for name, value in metrics.items() if name.startswith("heldout/")})
        tracking.log_policy(folder, metrics)
        tracking.is_complete = True
    return metrics


def _save(trainer: "Trainer", job: StageJob, location: Location, folder: Path) -> None:
    """Write whole weights as safetensors, gathered from all ranks, without anything that names this machine."""
    if job.config.adapter is not None:
        save_merged(trainer, job, location, folder)
    else:
        trainer.model.config._name_or_path = ""
        trainer.save_model(str(folder))
    if trainer.is_world_process_zero():
        (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle, with paths


def summarize(trainer: "Trainer", folder: Path) -> dict[str, Any]:
    """Write every logged line to `metrics.jsonl`; return the numbers for the manifest."""
    history = [entry for entry in trainer.state.log_history if "response" not in entry]
    (folder / METRICS).write_text("".join(f"{json.dumps(entry)}\n" for entry in history), "utf-8")
    last = {key: value for entry in history for key, value in entry.items()}
    wanted = {"heldout/loss": "eval_loss", "train/loss": "train_loss", "train/tokens": "num_tokens"}
    wanted |= {f"heldout/rewards/{name}": f"eval_rewards/{name}" for name in ("margins", "accuracies")}  # preferences'
    metrics = {name: last[key] for name, key in wanted.items() if key in last}
    return metrics | {"train/updates": trainer.state.global_step}
