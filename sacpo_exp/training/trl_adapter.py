"""From our settings to TRL's: which trainer a stage has, and with which arguments."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sacpo_exp.config.hardware import Accelerator
from sacpo_exp.config.models import FloatType
from sacpo_exp.config.schema import REFERENCE, StageConfig, StageJob
from sacpo_exp.config.stages import loss_of
from sacpo_exp.data.preferences import undesirable_weight
from sacpo_exp.data.preparation import count_rows_to_read
from sacpo_exp.training.adapters import peft_settings

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer


def build_trainer(
    job: StageJob,
    stage: StageConfig,
    policy: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    train: "Dataset",
    heldout: "Dataset",
) -> "Trainer":
    """Return the TRL trainer of a stage.

    Reference log-probabilities are those in `job.reference`, or are computed here, from `policy` as it was loaded,
    before any update and before a checkpoint is resumed, and written into `job.folder/reference`. Either way they are
    of the stage's parent: starting point and reference are the same policy by construction.
    """
    from transformers import PrinterCallback

    from sacpo_exp.training import trainers
    from sacpo_exp.training.pair_losses import PAIR_LOSSES

    loss = loss_of(stage)
    config = config_class(loss.trainer)
    arguments = {"report_to": []} | given_arguments(job, stage)
    if (epochs := stage.num_train_epochs or 1) < 1:  # the sample that is read, so that no other row is scored
        train = train.shuffle(seed=job.config.seed).select(range(count_rows_to_read(len(train), epochs)))
    own: dict[str, Any] = {"completion_only_loss": True}
    data: dict[str, Any] = {"processing_class": tokenizer, "peft_config": peft_settings(job.config.adapter)}
    kind: type[Trainer] = trainers.TokenisedSFTTrainer
    if loss.trainer != "sft":
        size = job.config.hardware.per_device_eval_batch_size
        own = {"beta": stage.beta, "precompute_ref_log_probs": True, "precompute_ref_batch_size": size}
        data["reference"] = Path(job.reference or f"{job.folder}/{REFERENCE}")
        data["guides"] = {Path(folder): weight for folder, weight in job.guides.items()}
    if loss.trainer == "dpo":
        kind = trainers.TokenisedDPOTrainer
        own["loss_type"] = [loss.loss_type or loss.name]
        if stage.loss.label_smoothing is not None:
            own["label_smoothing"] = stage.loss.label_smoothing
        if stage.loss.sft_weight is not None:
            own["loss_type"].append("sft")
            own["loss_weights"] = [1.0, stage.loss.sft_weight]
    elif loss.trainer == "pair":
        kind = trainers.PairTrainer
        data["pair_loss"] = PAIR_LOSSES[loss.name]
        data["settings"] = {name: getattr(stage.loss, name) for name in loss.settings} | {"beta": stage.beta}
    elif loss.trainer == "label":
        kind = trainers.LabelTrainer
        own["loss_type"] = "apo_zero_unpaired"  # of TRL's, the one that reads no other completions
    elif loss.trainer == "kto":
        kind = trainers.TokenisedKTOTrainer
        own |= kto_arguments(stage, train)
        # TRL pairs each prompt with its neighbour's completion to estimate the KL, in the order of the file, so
        # the two responses of one prompt must not stay side by side.
        train, heldout = train.shuffle(seed=job.config.seed), heldout.shuffle(seed=0)
    settings = config(**own | arguments)
    settings._n_gpu = min(1, settings.n_gpu)  # or one process would take all GPUs (DataParallel), which TRL refuses
    trainer = kind(model=policy, args=settings, train_dataset=train, eval_dataset=heldout, **data)
    trainer.remove_callback(PrinterCallback)  # it prints every logged line
    return trainer


def given_arguments(job: StageJob, stage: StageConfig) -> dict[str, Any]:
    """Return the arguments of every trainer with those that the user gave, and fine-tuning without padding."""
    arguments = common_arguments(job, stage) | job.config.trainer | stage.trainer
    if job.config.hardware.padding_free and loss_of(stage).trainer == "sft" and not arguments.get("packing"):
        # Rows are cut already, and TRL would refuse to cut them here.
        arguments |= {"padding_free": True, "max_length": None}
    return arguments


def config_class(trainer: str) -> type:
    """Return TRL's configuration class of a trainer, by `Loss.trainer`."""
    from trl import DPOConfig, KTOConfig, SFTConfig

    classes: dict[str, type] = {
        "sft": SFTConfig,
        "dpo": DPOConfig,
        "pair": DPOConfig,
        "kto": KTOConfig,
        "label": KTOConfig,
    }
    return classes[trainer]


def common_arguments(job: StageJob, stage: StageConfig) -> dict[str, Any]:
    """Return the arguments that all trainers share."""
    config, optimization, hardware = job.config, job.config.optimization, job.config.hardware
    return {
        "output_dir": str(Path(job.folder) / "checkpoints"),
        "learning_rate": stage.learning_rate,
        "num_train_epochs": max(1.0, stage.num_train_epochs or 1),  # `build_trainer` takes a fraction
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
        "use_liger_kernel": hardware.liger,
        "use_cpu": hardware.accelerator == Accelerator.cpu,
        "dataloader_pin_memory": hardware.accelerator != Accelerator.cpu,
        "ddp_find_unused_parameters": False,  # there are none; looking for them costs a pass over the graph
        "deepspeed": job.deepspeed,
        "seed": config.seed,
        "logging_steps": hardware.logging_steps,
        "logging_nan_inf_filter": False,  # or a loss that is no number would be logged as the last good one
        "save_strategy": "no",  # `callbacks` says when
        "run_name": job.artifact_id,
        "disable_tqdm": True,
    }


def kto_arguments(stage: StageConfig, train: "Dataset") -> dict[str, Any]:
    """Return KTO's loss and the weights of its labels; null takes them from the data as the paper's code does."""
    given, desirable = stage.loss.undesirable_weight, sum(train["label"])
    return {
        "loss_type": loss_of(stage).name,
        "desirable_weight": 1.0 if stage.loss.desirable_weight is None else stage.loss.desirable_weight,
        "undesirable_weight": undesirable_weight(desirable, len(train) - desirable) if given is None else given,
    }
