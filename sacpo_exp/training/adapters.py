"""Low-rank adapters: put on a stage's parent, trained, and at the end merged into the parent's weights.

Each stage has a fresh adapter, which changes nothing before the first update, so its starting point and reference are
its parent: for the second stage base + first adapter. The result of a stage is a model like any other.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sacpo_exp.config.hardware import Accelerator, attention_of
from sacpo_exp.config.models import ALL_LINEAR, AdapterConfig, FloatType
from sacpo_exp.config.schema import StageJob
from sacpo_exp.config.validation import check_quantisation
from sacpo_exp.errors import ConfigError
from sacpo_exp.training.models import Location, keep_freed_memory, load_policy, page_out

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel, Trainer

#: Folder of the adapter itself inside a stage's folder.
ADAPTER = "adapter"
#: peft's name of the only adapter.
ONLY = "default"


def load_parent(job: StageJob, location: Location) -> "PreTrainedModel":
    """Return the policy that a stage starts from, with its weights quantised if the adapter says so.

    Raises:
        ConfigError: there is no such model, or it has none of the layers that the adapter names.
    """
    optimization = job.config.optimization
    name, dtype = attention_of(job.config.hardware.attention, optimization.is_short), optimization.dtype.value
    adapter = job.config.adapter
    if adapter is not None and adapter.quantize:
        policy = load_quantised(job, location, name)
    else:
        with loading_shards(job):
            policy = load_policy(location, dtype, attention=name)
    if adapter is not None:
        check_targets(policy, adapter)
    return policy


@contextmanager
def loading_shards(job: StageJob) -> Iterator[None]:
    """Have transformers give each rank its share of the weights of ZeRO 3 as it loads them, not a copy of all.

    Only the first rank reads the files. It gives back their pages as soon as they are copied.
    """
    if job.deepspeed is None or job.config.hardware.zero_stage < 3:
        yield
        return
    from transformers.integrations.deepspeed import HfDeepSpeedConfig

    settings = json.loads(Path(job.deepspeed).read_text("utf-8"))
    computed = job.config.optimization.autocast or job.config.optimization.dtype  # DeepSpeed casts for autocast
    kinds = {"bf16": {"enabled": computed == FloatType.bfloat16}, "fp16": {"enabled": computed == FloatType.float16}}
    content = {"zero_optimization": settings["zero_optimization"], "train_micro_batch_size_per_gpu": 1} | kinds
    kept = HfDeepSpeedConfig(content)  # transformers has a weak reference to it
    original: Any = torch.nn.Module._load_from_state_dict

    def load(module: torch.nn.Module, weights: dict[str, torch.Tensor], prefix: str, *others: Any) -> None:
        original(module, weights, prefix, *others)
        for name, _ in module.named_parameters(recurse=False):
            if prefix + name in weights:
                page_out(weights[prefix + name])

    keep_freed_memory(False)  # of whole matrices, which are gathered one after the other
    torch.nn.Module._load_from_state_dict = load
    try:
        yield
    finally:
        torch.nn.Module._load_from_state_dict = original
        del kept


def load_quantised(job: StageJob, location: Location, attention: str | None) -> "PreTrainedModel":
    """Return a policy in 4-bit NormalFloat, its quantisation constants quantised too (Dettmers et al. 2023, section 3).

    Raises:
        ConfigError: bitsandbytes is not installed, or there is no such model.
    """
    from accelerate import PartialState
    from transformers import BitsAndBytesConfig

    check_quantisation(job.config.adapter)
    optimization = job.config.optimization
    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=(optimization.autocast or optimization.dtype).value,
    )
    is_cpu = job.config.hardware.accelerator == Accelerator.cpu
    # The trainer does not move quantised weights, so each rank loads them onto its own device.
    device = {"": "cpu" if is_cpu else PartialState().local_process_index}
    given = {"attention": attention, "quantization_config": settings, "device_map": device}
    policy = load_policy(location, optimization.dtype.value, **given)
    for module in policy.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # Or the first pass without gradients, which is the reference's, would repack the weights of CPUs for
            # inference: rounded once more, and in a form that has no gradient.
            module.support_avx512bf16_for_cpu = False
    return policy


def check_targets(policy: "PreTrainedModel", adapter: AdapterConfig) -> None:
    """Raise ConfigError for a name in `adapter.target_modules` that no linear layer of the policy has."""
    linear = {
        name.split(".")[-1]
        for name, module in policy.named_modules()
        if isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D"  # GPT-2's
    }
    for name in adapter.target_modules:
        if name != ALL_LINEAR and name not in linear:
            raise ConfigError(
                f"`adapter.target_modules` names {name}, but the model's linear layers are {', '.join(sorted(linear))}."
            )


def peft_settings(adapter: AdapterConfig | None) -> "LoraConfig | None":
    """Return peft's settings of an adapter, as TRL takes them."""
    if adapter is None:
        return None
    from peft import LoraConfig

    is_all = ALL_LINEAR in adapter.target_modules
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=adapter.r,
        lora_alpha=adapter.lora_alpha,
        lora_dropout=adapter.lora_dropout,
        target_modules=ALL_LINEAR if is_all else list(adapter.target_modules),
    )


def ready_adapter(policy: "PeftModel", adapter: AdapterConfig) -> None:
    """Undo two things that TRL 1.16 does to adapters, after the trainer is made and before it trains.

    It rounds adapters of quantised weights to bfloat16, in which small updates are lost, and its preference trainers
    turn off all dropout. The reference is computed without the adapter, so dropout does not change it.
    """
    for name, module in policy.named_modules():
        if name.endswith(f"lora_dropout.{ONLY}") and isinstance(module, torch.nn.Dropout):
            module.p = adapter.lora_dropout
    if adapter.quantize:
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()


def save_merged(trainer: "Trainer", job: StageJob, location: Location, folder: Path) -> None:
    """Write parent + (lora_alpha / r) · B · A as plain weights into `folder`, and the adapter alone into `adapter/`.

    The sum is taken in float32 with the parent's weights before any quantisation, and stored in their dtype. All ranks
    have to call it: with ZeRO 3 each has a part of every matrix.
    """
    from peft import PeftModel
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    trainer.save_model(str(folder / ADAPTER))
    if not trainer.is_world_process_zero():
        return
    for path in (folder / ADAPTER).iterdir():
        if not path.name.startswith("adapter_"):  # a copy of the tokenizer, a model card with the parent's path
            path.unlink()
    unset_hf_deepspeed_config()  # or with ZeRO 3 the first rank would wait for the others
    adapted = PeftModel.from_pretrained(load_policy(location, job.config.optimization.dtype.value), folder / ADAPTER)
    settings = adapted.peft_config[ONLY]
    settings.base_model_name_or_path = None
    settings.save_pretrained(str(folder / ADAPTER))
    policy = adapted.merge_and_unload()
    policy.config._name_or_path = ""
    policy.save_pretrained(folder)
    trainer.processing_class.save_pretrained(folder)
