"""Our names to TRL's. The only file that knows its trainers and their arguments."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sacpo_exp.config.hardware import Accelerator
from sacpo_exp.config.models import FloatType
from sacpo_exp.config.schema import RunConfig, StageConfig, StageJob
from sacpo_exp.config.stages import loss_of
from sacpo_exp.data.preferences import undesirable_weight
from sacpo_exp.data.preparation import count_rows_to_read
from sacpo_exp.training.adapters import peft_settings

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer

REFERENCE = "reference"


def build_trainer(
    job: StageJob,
    stage: StageConfig,
    policy: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    train: "Dataset",
    heldout: "Dataset",
    report_to: Sequence[str] = (),
) -> "Trainer":
    """The TRL trainer of a stage, which logs to the trackers that `report_to` names.

    Reference log-probabilities are those in `job.reference`, or are computed here, from `policy` as it was loaded,
    before any update and before a checkpoint is resumed, and written into `job.folder/reference`. Either way they are
    of the stage's parent: starting point and reference are the same policy by construction.
    """
    arguments = common_arguments(job, stage) | {"report_to": list(report_to)} | job.config.trainer | stage.trainer
    train = rows_to_read(train, stage.num_train_epochs or 1, job.config.seed)
    data = {"train_dataset": train, "eval_dataset": heldout, "processing_class": tokenizer}
    data["peft_config"] = peft_settings(job.config.adapter)
    return _TRAINERS[loss_of(stage).trainer](policy, job, stage, arguments, data)


def _sft(
    policy: Any, _job: StageJob, _stage: StageConfig, arguments: dict[str, Any], data: dict[str, Any]
) -> "Trainer":
    from trl import SFTConfig

    from sacpo_exp.training.tokenised import TokenisedSFTTrainer

    return TokenisedSFTTrainer(model=policy, args=SFTConfig(**{"completion_only_loss": True} | arguments), **data)


def _dpo(policy: Any, job: StageJob, stage: StageConfig, arguments: dict[str, Any], data: dict[str, Any]) -> "Trainer":
    from sacpo_exp.training.tokenised import TokenisedDPOTrainer

    own: dict[str, Any] = {"loss_type": [loss_of(stage).loss_type]}
    if stage.loss.label_smoothing is not None:
        own["label_smoothing"] = stage.loss.label_smoothing
    data["reference"] = _reference_folder(job)
    return TokenisedDPOTrainer(model=policy, args=_dpo_config(job, stage, own | arguments), **data)


def _pair(policy: Any, job: StageJob, stage: StageConfig, arguments: dict[str, Any], data: dict[str, Any]) -> "Trainer":
    from sacpo_exp.training.pair_losses import PAIR_LOSSES, PairTrainer

    data |= {"reference": _reference_folder(job), "pair_loss": PAIR_LOSSES[loss_of(stage).loss_type or ""]}
    data["settings"] = {name: getattr(stage.loss, name) for name in loss_of(stage).settings}
    return PairTrainer(model=policy, args=_dpo_config(job, stage, arguments), **data)


def _dpo_config(job: StageJob, stage: StageConfig, arguments: dict[str, Any]) -> Any:
    from trl import DPOConfig

    return DPOConfig(**reference_arguments(job.config, stage) | arguments)


def _kto(policy: Any, job: StageJob, stage: StageConfig, arguments: dict[str, Any], data: dict[str, Any]) -> "Trainer":
    from trl import KTOConfig

    from sacpo_exp.training.tokenised import TokenisedKTOTrainer

    # TRL pairs each prompt with its neighbour's completion to estimate the KL, in the order of the file, so
    # the two responses of one prompt must not stay side by side.
    train, heldout = data["train_dataset"], data["eval_dataset"]
    data["reference"] = _reference_folder(job)
    data |= {"train_dataset": train.shuffle(seed=job.config.seed), "eval_dataset": heldout.shuffle(seed=0)}
    arguments = reference_arguments(job.config, stage) | kto_arguments(stage, train) | arguments
    return TokenisedKTOTrainer(model=policy, args=KTOConfig(**arguments), **data)


def _reference_folder(job: StageJob) -> Path:
    return Path(job.reference or f"{job.folder}/{REFERENCE}")


def config_class(trainer: str) -> type:
    """TRL's configuration of a trainer, by `Loss.trainer`."""
    from trl import DPOConfig, KTOConfig, SFTConfig

    classes: dict[str, type] = {"sft": SFTConfig, "dpo": DPOConfig, "pair": DPOConfig, "kto": KTOConfig}
    return classes[trainer]


#: By `Loss.trainer`.
_TRAINERS: dict[str, Callable[..., "Trainer"]] = {"sft": _sft, "dpo": _dpo, "pair": _pair, "kto": _kto}


def rows_to_read(train: "Dataset", epochs: float, seed: int) -> "Dataset":
    """All rows; of a fraction of an epoch the seeded sample that it will see, so that no other row is scored."""
    if epochs >= 1:
        return train
    return train.shuffle(seed=seed).select(range(count_rows_to_read(len(train), epochs)))


def common_arguments(job: StageJob, stage: StageConfig) -> dict[str, Any]:
    """Arguments that the three trainers share."""
    config, optimization, hardware = job.config, job.config.optimization, job.config.hardware
    return {
        "output_dir": str(Path(job.folder) / "checkpoints"),
        "learning_rate": stage.learning_rate,
        "num_train_epochs": max(1.0, stage.num_train_epochs or 1),  # a fraction is taken by `rows_to_read`
        "per_device_train_batch_size": job.per_device,
        "per_device_eval_batch_size": hardware.per_device_eval_batch_size,
        "gradient_accumulation_steps": job.accumulation,
        "optim": optimization.optim,
        "lr_scheduler_type": optimization.lr_scheduler_type,
        "warmup_steps": optimization.warmup_ratio,  # below 1 transformers takes it as a share of all updates
        "weight_decay": optimization.weight_decay,
        "max_grad_norm": optimization.max_grad_norm,
        "max_length": optimization.max_length,
        "bf16": optimization.autocast == FloatType.bfloat16,
        "fp16": optimization.autocast == FloatType.float16,
        "gradient_checkpointing": hardware.activation_checkpointing,
        "tf32": hardware.tf32 or None,
        "use_cpu": hardware.accelerator == Accelerator.cpu,
        "dataloader_pin_memory": hardware.accelerator != Accelerator.cpu,
        "ddp_find_unused_parameters": False,  # there are none; looking for them costs a pass over the graph
        "deepspeed": job.deepspeed,
        "seed": config.seed,
        "logging_steps": hardware.logging_steps,
        "logging_nan_inf_filter": False,  # or a loss that is no number would be logged as the last good one
        "save_steps": hardware.save_steps,
        "run_name": job.artifact_id,
        "disable_tqdm": True,
    }


def reference_arguments(config: RunConfig, stage: StageConfig) -> dict[str, Any]:
    """Arguments of DPO and KTO alike: β, and the reference's log-probabilities computed once, beforehand."""
    return {
        "beta": stage.beta,
        "precompute_ref_log_probs": True,
        "precompute_ref_batch_size": config.hardware.per_device_eval_batch_size,
    }


def kto_arguments(stage: StageConfig, train: "Dataset") -> dict[str, Any]:
    """KTO's loss and the weights of its two labels; null takes them from the data as the paper's code does."""
    given, desirable = stage.loss.undesirable_weight, sum(train["label"])
    return {
        "loss_type": loss_of(stage).loss_type,
        "desirable_weight": 1.0 if stage.loss.desirable_weight is None else stage.loss.desirable_weight,
        "undesirable_weight": undesirable_weight(desirable, len(train) - desirable) if given is None else given,
    }


@contextmanager
def scoring_completions_only() -> Iterator[None]:
    """Make TRL's LM head skip prompt and padding positions on CPUs too, as it does on GPUs.

    TRL projects all positions where Triton is missing, since other accelerators recompile per shape; CPUs do not. The
    head is a quarter of a small model's work, and about half of the positions are prompt.
    """
    import trl.trainer.utils as trl_utils

    original = trl_utils._use_triton
    trl_utils._use_triton = lambda device: device.type == "cpu" or original(device)
    try:
        yield
    finally:
        trl_utils._use_triton = original
