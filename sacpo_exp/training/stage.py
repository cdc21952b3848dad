"""One training stage, from a loaded policy to a folder of plain safetensors: what every rank of a worker group runs."""

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sacpo_exp.config.hardware import Accelerator, HardwareConfig
from sacpo_exp.config.schema import StageConfig, StageJob
from sacpo_exp.data.sources import read_view
from sacpo_exp.errors import ConfigError
from sacpo_exp.stopping import Stop
from sacpo_exp.tracking.callbacks import attach
from sacpo_exp.tracking.opening import tracked
from sacpo_exp.training.adapters import load_parent, ready_adapter, save_merged
from sacpo_exp.training.checkpoints import CHECKPOINTS, Layout, checkpoint_sealer
from sacpo_exp.training.device_memory import keep_freed_memory
from sacpo_exp.training.models import Location, load_tokenizer
from sacpo_exp.training.monitor import stage_monitor
from sacpo_exp.training.shortage import explaining_shortage
from sacpo_exp.training.stopper import training_stopper
from sacpo_exp.training.trl_adapter import build_trainer, scoring_completions_only

if TYPE_CHECKING:
    from transformers import Trainer

log = logging.getLogger(__name__)

METRICS = "metrics.jsonl"


def stage_of(job: StageJob) -> StageConfig:
    """The stage that a job is about.

    Raises:
        ConfigError: the configuration has no such stage.
    """
    stage = job.config.stages.get(job.name)
    if stage is None:
        raise ConfigError(f"the configuration has no stage {job.name!r}.")
    return stage


def train_stage(job: StageJob, stop: Stop) -> dict[str, Any] | None:
    """Train, measure on held-out rows, and write weights, tokenizer and `metrics.jsonl` into `job.folder`.

    Returns:
        metrics: held-out loss, for preferences reward accuracy and margin, updates, tokens; empty on all ranks but
        the first. None if `stop` ended training early: then `job.folder` has a checkpoint and no policy.

    Raises:
        ConfigError: the model has another shape than the configuration says.
        DivergedError: the loss is no finite number any more.
        LaunchError: the device has too little memory.
    """
    with explaining_shortage(job):
        return _train(job, stop)


def _train(job: StageJob, stop: Stop) -> dict[str, Any] | None:
    stage, folder = stage_of(job), Path(job.folder)
    if job.config.hardware.accelerator == Accelerator.cpu:
        keep_freed_memory()
    join_group(job.config.hardware)
    location = Location(job.parent, job.revision, job.config.model.trust_remote_code)
    tokenizer = load_tokenizer(location, job.config.model.chat_template)
    policy = load_parent(job, location)
    place, is_continued = (job.config.paths.outputs, folder / CHECKPOINTS), job.checkpoint is not None
    with scoring_completions_only(), tracked(job.config.tracker, job.tracked, *place, is_continued) as tracking:
        train, heldout = (read_view(Path(job.view), part) for part in ("train", "heldout"))
        trainer = build_trainer(job, stage, policy, tokenizer, train, heldout, tracking.names)
        quiet(trainer)
        if job.config.adapter is not None:
            ready_adapter(trainer.model, job.config.adapter)
        attach(trainer, tracking)
        trainer.add_callback(stage_monitor(job, is_fresh=job.checkpoint is None))
        trainer.add_callback(checkpoint_sealer(Layout.of(job.config.hardware)))
        trainer.add_callback(training_stopper(stop))
        trainer.train(resume_from_checkpoint=job.checkpoint)
        if trainer.state.global_step < trainer.state.max_steps:
            return None
        trainer.evaluate()
        save_policy(trainer, job, location, folder)
        metrics = summarize(trainer, stage, folder) if trainer.is_world_process_zero() else {}
        # Not those of training, whose names are the curves'.
        tracking.log_scores({name: value for name, value in metrics.items() if name.startswith("heldout/")})
        tracking.log_policy(folder, metrics)
        tracking.is_complete = True
    return metrics


def join_group(hardware: HardwareConfig) -> None:
    """Open DeepSpeed's connections on CPUs, where it would otherwise look for another backend than gloo."""
    if hardware.zero_stage and hardware.accelerator == Accelerator.cpu:
        import deepspeed

        deepspeed.init_distributed(dist_backend="gloo")


def quiet(trainer: "Trainer") -> None:
    """Take away transformers' printing of every logged line; our own callback draws a progress bar instead."""
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)


def save_policy(trainer: "Trainer", job: StageJob, location: Location, folder: Path) -> None:
    """Whole weights as safetensors, gathered from all ranks, without anything that names this machine."""
    if job.config.adapter is not None:
        save_merged(trainer, job, location, folder)
    else:
        trainer.model.config._name_or_path = ""
        trainer.save_model(str(folder))
    if trainer.is_world_process_zero():
        (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle, with paths


def summarize(trainer: "Trainer", stage: StageConfig, folder: Path) -> dict[str, Any]:
    """Write every logged line to `metrics.jsonl`; return the numbers worth a place in the manifest."""
    history = trainer.state.log_history
    lines = (json.dumps({key: _number(value) for key, value in entry.items()}) for entry in history)
    (folder / METRICS).write_text("".join(f"{line}\n" for line in lines), "utf-8")
    last = {key: _number(value) for entry in history for key, value in entry.items()}
    wanted = {"heldout/loss": "eval_loss", "train/loss": "train_loss", "train/tokens": "num_tokens"}
    if stage.criterion is not None:
        wanted |= {"heldout/rewards/margins": "eval_rewards/margins"}
        wanted |= {"heldout/rewards/accuracies": "eval_rewards/accuracies"}
    found = {name: last[key] for name, key in wanted.items() if key in last}
    return found | {"train/updates": trainer.state.global_step}


def _number(value: Any) -> Any:
    """Some versions log numbers as texts."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return value
