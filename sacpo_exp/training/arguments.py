"""Trainer arguments that a user sets with `trainer.KEY=VALUE`: checked against the fields of TRL's configurations."""

import difflib
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, get_type_hints

from sacpo_exp.config.schema import RunConfig
from sacpo_exp.config.stages import loss_of

_OUTSIDE = "which is set by the project and can't be changed"
#: Arguments that the project owns, with the key to use instead.
OWNED = {
    **{name: f"stages.NAME.{name}" for name in ("learning_rate", "num_train_epochs", "beta")},
    **{name: f"stages.NAME.loss.{name}" for name in ("label_smoothing", "desirable_weight", "undesirable_weight")},
    **{name: f"optimization.{name}" for name in ("optim", "lr_scheduler_type", "max_length", "max_prompt_length")},
    **dict.fromkeys(("loss_type", "loss_weights"), "losses=[NAME] or stages.NAME.loss.name"),
    **{
        name: f"hardware.{name}"
        for name in ("per_device_train_batch_size", "per_device_eval_batch_size", "save_steps", "logging_steps", "tf32")
    },
    **dict.fromkeys(("bf16", "fp16"), "optimization.dtype and optimization.autocast"),
    "warmup_ratio": "optimization.warmup_ratio",
    "warmup_steps": "optimization.warmup_ratio",
    "gradient_accumulation_steps": "stages.NAME.global_batch_size",
    "gradient_checkpointing": "hardware.activation_checkpointing",
    "use_cpu": "hardware.accelerator",
    "deepspeed": "hardware.zero_stage",
    "fsdp": "hardware.zero_stage",
    "report_to": "tracker",
    "seed": "seed",
    "output_dir": "paths.outputs",
    **dict.fromkeys(
        ("run_name", "save_strategy", "save_total_limit", "resume_from_checkpoint", "push_to_hub", "disable_tqdm")
    ),
    **dict.fromkeys(("precompute_ref_log_probs", "precompute_ref_batch_size", "remove_unused_columns")),
}


def find_argument_problems(config: RunConfig) -> list[str]:
    """Everything wrong with the trainer arguments of a configuration; TRL is imported only if there are any."""
    problems: list[str] = []
    for name, stage in config.stages.items():
        given = {f"trainer.{key}": value for key, value in config.trainer.items()}
        given |= {f"stages.{name}.trainer.{key}": value for key, value in stage.trainer.items()}
        if given:
            problems += _check(given, name, loss_of(stage).trainer)
    return list(dict.fromkeys(problems))


def _check(given: dict[str, Any], stage: str, trainer: str) -> Iterator[str]:
    from pydantic import TypeAdapter, ValidationError

    from sacpo_exp.training.trl_adapter import config_class

    kind = config_class(trainer)
    hints, names = get_type_hints(kind), [field.name for field in fields(kind)]
    for key, value in given.items():
        name = key.rsplit(".", 1)[-1]
        if name in OWNED:
            instead = OWNED[name]
            yield f"`{key}` is not taken from here. Try: {instead}" if instead else f"`{key}` is {_OUTSIDE}."
        elif name not in names:
            near = difflib.get_close_matches(name, [entry for entry in names if entry not in OWNED], n=1)
            hint = f" Did you mean `{key.removesuffix(name)}{near[0]}`?" if near else ""
            yield f"`{key}` is not an argument of {kind.__name__}, which trains stages.{stage}.{hint}"
        else:
            try:
                TypeAdapter(hints[name]).validate_python(value)
            except ValidationError as error:
                yield f"`{key}` can't be {value!r}: {error.errors()[0]['msg']}."
