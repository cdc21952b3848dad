"""Low-rank adapters: put on a stage's parent, trained, and at the end merged into the parent's weights.

Each stage has a fresh adapter, which changes nothing before the first update, so its starting point and reference are
its parent: for the second stage base + first adapter. The result of a stage is a model like any other.
"""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sacpo_exp.config.hardware import Accelerator, attention_of
from sacpo_exp.config.models import ALL_LINEAR, AdapterConfig, FloatType
from sacpo_exp.config.schema import StageJob
from sacpo_exp.config.validation import check_quantisation
from sacpo_exp.errors import ConfigError
from sacpo_exp.training.models import Location, explain_unreachable, load_policy, quiet_transformers

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
    name, dtype = attention_of(job.config.hardware, optimization.is_short), optimization.dtype.value
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

    Only the first rank reads the files.
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
    yield
    del kept


def load_quantised(job: StageJob, location: Location, attention: str | None) -> "PreTrainedModel":
    """Return a policy in 4-bit NormalFloat, its quantisation constants quantised too (Dettmers et al. 2023, section 3).

    Raises:
        ConfigError: bitsandbytes is not installed, or there is no such model.
    """
    from accelerate import PartialState
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    check_quantisation(job.config.adapter)
    quiet_transformers()
    optimization = job.config.optimization
    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=(optimization.autocast or optimization.dtype).value,
    )
    is_cpu = job.config.hardware.accelerator == Accelerator.cpu
    arguments = location.arguments() | ({"attn_implementation": attention} if attention else {})
    try:
        policy = AutoModelForCausalLM.from_pretrained(
            location.path,
            dtype=getattr(torch, optimization.dtype.value),
            quantization_config=settings,
            # The trainer does not move quantised weights, so each rank loads them onto its own device.
            device_map={"": "cpu" if is_cpu else PartialState().local_process_index},
            use_safetensors=location.use_safetensors,
            **arguments,
        )
    except OSError as error:
        raise explain_unreachable(location, error) from error
    for module in policy.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # Or the first pass without gradients, which is the reference's, would repack the weights of CPUs for
            # inference: rounded once more, and in a form that has no gradient.
            module.support_avx512bf16_for_cpu = False
    return policy.eval()


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
    for _, layer in lora_layers(policy):
        if isinstance(layer.lora_dropout[ONLY], torch.nn.Dropout):
            layer.lora_dropout[ONLY].p = adapter.lora_dropout
    if adapter.quantize:
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()


def lora_layers(policy: "PeftModel") -> Iterator[tuple[str, Any]]:
    """Yield (name in the model below, layer) of all layers with an adapter."""
    from peft.tuners.lora import LoraLayer

    for name, module in policy.get_base_model().named_modules():
        if isinstance(module, LoraLayer):
            yield name, module


def save_merged(trainer: "Trainer", job: StageJob, location: Location, folder: Path) -> None:
    """Write parent + (lora_alpha / r) · B · A as plain weights into `folder`, and the adapter alone into `adapter/`.

    The sum is taken in float32 with the parent's weights before any quantisation, and stored in their dtype. All ranks
    have to call it: with ZeRO 3 each has a part of every matrix.
    """
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    adapted = trainer.accelerator.unwrap_model(trainer.model)
    matrices = {}
    for name, layer in lora_layers(adapted):
        a, b = layer.lora_A[ONLY].weight, layer.lora_B[ONLY].weight
        with whole([a, b]):
            matrices[name] = (a.detach().float().cpu().clone(), b.detach().float().cpu().clone())
    if not trainer.is_world_process_zero():
        return
    unset_hf_deepspeed_config()  # or with ZeRO 3 the first rank would wait for the others
    parent = load_policy(location, job.config.optimization.dtype.value)
    for name, layer in lora_layers(adapted):
        a, b = matrices[name]
        weight = parent.get_submodule(name).weight
        change = layer.scaling[ONLY] * (b @ a)
        change = change.T if layer.fan_in_fan_out else change
        weight.data = (weight.data.float() + change).to(weight.dtype)
    parent.config._name_or_path = ""
    parent.save_pretrained(folder)
    trainer.processing_class.save_pretrained(folder)
    save_adapter(adapted, matrices, folder / ADAPTER)


def whole(parameters: list[torch.nn.Parameter]) -> AbstractContextManager[Any]:
    """Return a context in which parameters that ZeRO 3 has sharded are whole on every rank."""
    if not any(hasattr(parameter, "ds_id") for parameter in parameters):
        return nullcontext()
    import deepspeed

    gathered: AbstractContextManager[Any] = deepspeed.zero.GatheredParameters(parameters)
    return gathered


def save_adapter(policy: "PeftModel", matrices: dict[str, tuple[torch.Tensor, torch.Tensor]], folder: Path) -> None:
    """Write (A, B) by layer as peft's `PeftModel.from_pretrained` reads them, without the path of the parent."""
    from peft.utils import SAFETENSORS_WEIGHTS_NAME
    from safetensors.torch import save_file

    folder.mkdir(exist_ok=True)
    tensors: dict[str, torch.Tensor] = {}
    for name, (a, b) in matrices.items():
        tensors |= {f"base_model.model.{name}.lora_A.weight": a, f"base_model.model.{name}.lora_B.weight": b}
    save_file(tensors, folder / SAFETENSORS_WEIGHTS_NAME, metadata={"format": "pt"})
    settings = copy(policy.peft_config[ONLY])
    settings.base_model_name_or_path = None
    settings.inference_mode = True
    settings.save_pretrained(str(folder))
