"""Estimate the memory of a training stage, before anything heavy is imported.

Weights, gradients and optimizer states are counted per parameter and divided among processes as ZeRO does (Rajbhandari
et al. 2020, section 5; with offloading Ren et al. 2021). Activations are tokens times a factor that was measured with
torch's saved tensors hooks on transformers' Llama. A batch is assumed to be as long as `max_length`, so the estimate is
an upper bound. `benchmarks/memory.py` compares it with measured memory.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from sacpo_exp.config.data import DatasetSource
from sacpo_exp.config.hardware import GIB, Accelerator, HardwareConfig, Machine, Offload, look_at_machine
from sacpo_exp.config.models import AdapterConfig, FloatType, ModelConfig, ModelShape, ModelSource
from sacpo_exp.config.schema import AUTO, RunConfig, StageConfig, StageJob
from sacpo_exp.config.stages import loss_of, per_device_batch_size
from sacpo_exp.data.hub import find_description, list_files
from sacpo_exp.data.preferences import make_view, prompt_text
from sacpo_exp.data.preparation import LENGTHS, QUANTILE, with_lengths
from sacpo_exp.data.sources import load_parts
from sacpo_exp.data.tokenising import CHARACTERS_PER_TOKEN
from sacpo_exp.errors import DataError, LaunchError
from sacpo_exp.method.losses import View

BYTES = {FloatType.float32: 4, FloatType.bfloat16: 2, FloatType.float16: 2}
#: Bytes of a weight in 4 bits with its scales (Dettmers et al. 2023).
QUANTISED = 0.53
#: DeepSpeed 0.19's defaults, in numbers: gradients in transit, parameters gathered at once, parameters fetched ahead,
#: parameters that stage 3 updates at once.
BUCKET, LIVE, PREFETCH, SUBGROUP = 500_000_000, 1_000_000_000, 50_000_000, 1_000_000_000
#: GiB of torch, transformers and TRL before a model is loaded; on a GPU a guess for context and workspaces.
RUNTIME = {Accelerator.cpu: 0.6, Accelerator.cuda: 1.0}
#: Vectors of `hidden_size` that a layer keeps per token, by bytes of a weight and of a matrix product (measured), and
#: vectors of `intermediate_size`: gate, its activation, up, their product.
HIDDEN, INTERMEDIATE = {(4, 4): 10, (2, 2): 12, (4, 2): 17}, 4
#: TRL 1.16 projects onto the vocabulary in tiles of so many tokens and words (trl.kernels.chunked_logprob).
TILE_TOKENS, TILE_WORDS = 4096, 32768
#: Messages of torch's allocator of main memory; that of GPUs has an exception of its own.
SHORTAGES = ("DefaultCPUAllocator", "can't allocate memory", "Cannot allocate memory")
#: Names of a shape's numbers in config.json files of other families.
ALIASES = {
    "hidden_size": ("n_embd", "d_model"),
    "intermediate_size": ("ffn_dim", "n_inner"),
    "num_hidden_layers": ("n_layer", "num_layers"),
    "num_attention_heads": ("n_head",),
    "num_key_value_heads": ("num_attention_heads", "n_head"),
    "max_position_embeddings": ("n_positions",),
}


@dataclass(frozen=True)
class MemoryPlan:
    """GiB per device (on CPUs: per process); `host` is what all processes of a node take on the host besides.

    `update` is what DeepSpeed takes to update the weights, when activations and buffers are free again.
    """

    weights: float
    gradients: float
    optimizer: float
    activations: float
    buffers: float
    update: float
    host: float
    runtime: float

    @property
    def total(self) -> float:
        states = self.weights + self.gradients + self.optimizer + self.runtime
        return states + max(self.activations + self.buffers, self.update)


def find_shape(model: ModelConfig) -> ModelShape | None:
    """Return the shape from the model's config.json (in a folder or on the hub), else the configured one, else None.

    Raises:
        ConfigError: the hub has no such model, or does not give access to it.
    """
    content = _read_config(model)
    return shape_of(content | content.get("text_config", {})) or model.shape


def model_parameters(model: ModelConfig, shape: ModelShape) -> int:
    """Return the parameters of a model: the configured ones, else by the bytes of its weights, else a Llama's."""
    if model.parameters is not None:
        return model.parameters
    files, path = dict[str, int](), model.path or ""
    if model.source == ModelSource.path:
        files = {file.name: file.stat().st_size for file in Path(path).expanduser().glob("*.safetensors")}
    elif model.source == ModelSource.hub:
        files = list_files("model", path, model.revision)
    content = _read_config(model)
    kind = str(content.get("dtype") or content.get("torch_dtype"))
    width = {each.value: size for each, size in BYTES.items()}.get(kind)
    stored = sum(size for name, size in files.items() if re.fullmatch(r"model[-\w]*\.safetensors", name))
    is_plain = "quantization_config" not in content
    return stored // width if width and stored and is_plain else count_parameters(shape)


def _read_config(model: ModelConfig) -> dict[str, Any]:
    """Return the content of a model's config.json; empty where there is none, which loading the model reports."""
    folder = None
    if model.source == ModelSource.path and model.path:
        folder = Path(model.path).expanduser()
    elif model.source == ModelSource.hub and model.path:
        folder = find_description("model", model.path, model.revision)
    try:
        content = json.loads((folder / "config.json").read_text("utf-8")) if folder else None
    except (OSError, ValueError):
        content = None
    return content if isinstance(content, dict) else {}


def shape_of(content: Mapping[str, Any]) -> ModelShape | None:
    """Return the shape that a config.json states, or None if it lacks one of the numbers."""
    values: dict[str, Any] = {
        name: next((content[key] for key in (name, *ALIASES.get(name, ())) if content.get(key) is not None), None)
        for name in (field.name for field in fields(ModelShape))
    }
    is_tied = bool(values.pop("tie_word_embeddings"))
    if values["intermediate_size"] is None and isinstance(values["hidden_size"], int):
        values["intermediate_size"] = 4 * values["hidden_size"]  # GPT-2 and its relatives
    is_known = all(isinstance(value, int) and value > 0 for value in values.values())
    return ModelShape(**values, tie_word_embeddings=is_tied) if is_known else None


def linear_sizes(shape: ModelShape) -> dict[str, tuple[int, int]]:
    """Return (inputs, outputs) of the linear layers of one block, by transformers' names."""
    width, inner = shape.hidden_size, shape.intermediate_size
    keys = width // shape.num_attention_heads * shape.num_key_value_heads
    attention = {"q_proj": (width, width), "k_proj": (width, keys), "v_proj": (width, keys), "o_proj": (width, width)}
    return attention | {"gate_proj": (width, inner), "up_proj": (width, inner), "down_proj": (inner, width)}


def count_linear(shape: ModelShape) -> int:
    """Return the number of weights in the linear layers of all blocks."""
    return shape.num_hidden_layers * sum(a * b for a, b in linear_sizes(shape).values())


def count_parameters(shape: ModelShape) -> int:
    """Return the parameters of a Llama of this shape: embedding, blocks, norms, and a head unless tied."""
    embeddings = shape.vocab_size * shape.hidden_size * (1 if shape.tie_word_embeddings else 2)
    return embeddings + (2 * shape.num_hidden_layers + 1) * shape.hidden_size + count_linear(shape)


def count_adapter(shape: ModelShape, adapter: AdapterConfig) -> int:
    """Return the trained parameters: r × (inputs + outputs) per adapted weight (Hu et al. 2022, section 4.1)."""
    sizes = linear_sizes(shape)
    chosen = sizes if "all-linear" in adapter.target_modules else adapter.target_modules
    return shape.num_hidden_layers * adapter.r * sum(sum(sizes[name]) for name in chosen if name in sizes)


def plan_stage(config: RunConfig, stage: StageConfig, shape: ModelShape) -> MemoryPlan:
    """Return the memory plan of one stage of a configuration on its hardware."""
    hardware, adapter, zero = config.hardware, config.adapter, config.hardware.zero_stage
    n, (weight, _) = hardware.processes, _bytes(config)
    parameters = model_parameters(config.model, shape)
    trained = parameters if adapter is None else count_adapter(shape, adapter)
    gradient = weight if adapter is None or zero else 4  # peft trains adapters in float32
    weights = float(parameters * weight) + (0 if adapter is None else trained * gradient)
    if adapter is not None and adapter.quantize:
        weights -= count_linear(shape) * (weight - QUANTISED)
    # AdamW's two moments; ZeRO holds them in float32, with a float32 copy of the weights, which stage 3 does without if
    # they are float32 already.
    has_copy = zero and config.optimization.float32_copy
    per_parameter = 2 * gradient if not has_copy else 8 if zero == 3 and gradient == 4 else 12
    updated = min(trained / n, SUBGROUP if zero == 3 else trained) if zero else 0
    parts = {
        "weights": weights / (n if zero == 3 else 1),
        "gradients": trained * gradient / (n if zero >= 2 else 1),
        "optimizer": trained * per_parameter / (n if zero >= 1 else 1),
        "activations": _activations(config, stage, shape),
        "buffers": _buffers(hardware, weights, trained * gradient, gradient, parameters),
        # The gradients of a process are joined, and then cast to the type of the copy.
        "update": updated * (gradient + 4 * (has_copy and gradient < 4)),
        "host": 0.0,
    }
    if zero and hardware.offload_optimizer == Offload.cpu:
        parts |= {"host": parts["optimizer"], "optimizer": 0.0, "update": 0.0}
        if zero >= 2:  # float32 gradients are where the optimizer is
            parts |= {"host": parts["host"] + 4 * trained / n, "gradients": 0.0}
    if zero == 3 and hardware.offload_param == Offload.cpu:
        parts |= {"host": parts["host"] + parts["weights"], "weights": 0.0}
    if hardware.accelerator == Accelerator.cpu:  # it has one memory only
        parts |= {"buffers": parts["buffers"] + parts["host"], "update": parts["update"] + parts["host"], "host": 0.0}
    else:
        # What each process reads as it starts, unless more stays on the host.
        read = weights / n if zero == 3 and not (adapter and adapter.quantize) else weights
        parts["host"] = n // hardware.nodes * (RUNTIME[Accelerator.cpu] * GIB + max(parts["host"], read))
    return MemoryPlan(runtime=RUNTIME[hardware.accelerator], **{name: size / GIB for name, size in parts.items()})


def _bytes(config: RunConfig) -> tuple[int, int]:
    """Return the bytes of a weight and of a number in matrix products; DeepSpeed casts the weights for autocast."""
    dtype, autocast = config.optimization.dtype, config.optimization.autocast
    compute = BYTES[autocast or dtype]
    return (compute if config.hardware.zero_stage and autocast else BYTES[dtype]), compute


def _activations(config: RunConfig, stage: StageConfig, shape: ModelShape) -> float:
    """Return the bytes that one pass keeps for layers, autocast's copies of weights, and the output projection."""
    weight, compute = _bytes(config)
    width, tokens = shape.hidden_size, _sequences(config, stage) * int(config.optimization.max_length)
    layer = tokens * compute * (HIDDEN.get((weight, compute), 17) * width + INTERMEDIATE * shape.intermediate_size)
    layers = shape.num_hidden_layers * layer
    if config.hardware.activation_checkpointing:  # the inputs of all layers, and one that is computed again
        layers = shape.num_hidden_layers * weight * width * tokens + layer
    copies = count_linear(shape) * compute if weight != compute else 0
    words = min(shape.vocab_size, TILE_WORDS)
    tile = min(tokens, TILE_TOKENS) * words
    head = (4 + weight) * tokens * width + compute * tile
    if config.adapter is None:  # the head's gradient in float32, and in the weight's own dtype
        head += (4 if weight == 4 else 4 + weight) * shape.vocab_size * width
    if config.hardware.accelerator == Accelerator.cpu:  # without a fused kernel: log p, p, gradient and an operand
        head += 16 * tile + (4 + compute) * words * width
    return layers + copies + head


def foresee_length(config: RunConfig, prepared: Sequence[int] = ()) -> tuple[RunConfig, str]:
    """Return the configuration with a number for `max_length=auto`, and where it is from.

    `prepared` are the numbers of datasets that are prepared already; without any, texts that are here are measured.
    """
    shape, datasets = find_shape(config.model), [stage.dataset or config.dataset for stage in config.stages.values()]
    if config.optimization.max_length != AUTO or shape is None:
        return config, ""
    most, source = shape.max_position_embeddings, "the model's limit, since no data are here"
    if prepared:
        most, source = max(prepared), "as the data were prepared"
    elif datasets and all(dataset.source != DatasetSource.hub for dataset in datasets):
        with suppress(DataError):  # which is reported where they are needed
            parts = [load_parts(dataset)[0]["train"] for dataset in datasets]
            rows = [row for part in parts for row in make_view(part, View.responses, None)]
            sizes = [len(prompt_text(row["prompt"] + row["completion"]).encode()) for row in rows]
            most = min(math.ceil(np.quantile(sizes, QUANTILE) / CHARACTERS_PER_TOKEN), most)
            source = f"{QUANTILE:.0%} of the dialogues, with {CHARACTERS_PER_TOKEN} bytes per token"
    return with_lengths(config, dict.fromkeys(LENGTHS, most)), source


def _sequences(config: RunConfig, stage: StageConfig) -> int:
    return per_device_batch_size(config, stage) * loss_of(stage).sequences


def _buffers(hardware: HardwareConfig, weights: float, gradients: float, gradient: int, parameters: int) -> float:
    """Bytes in transit: DDP copies all gradients; DeepSpeed fills a bucket, and gathers weights for ZeRO 3."""
    if not hardware.zero_stage:
        return gradients if hardware.processes > 1 else 0.0
    bucket = float(BUCKET * gradient)
    if hardware.accelerator == Accelerator.cpu:  # pages that a small model never touches are not taken
        bucket = min(bucket, gradients)
    if hardware.zero_stage < 3 or (hardware.processes == 1 and hardware.offload_param == Offload.none):
        return bucket
    return bucket + weights * (min(LIVE, parameters) + min(PREFETCH, parameters)) / parameters


def worst_stage(config: RunConfig, names: Iterable[str] | None = None) -> tuple[str, MemoryPlan] | None:
    """Return (name, plan) of the stage that needs most; None without stages, or if the shape is unknown."""
    shape, wanted = find_shape(config.model), set(config.stages if names is None else names)
    plans = {
        name: plan_stage(config, stage, shape) for name, stage in config.stages.items() if shape and name in wanted
    }
    return max(plans.items(), key=lambda entry: entry[1].total) if plans else None


def fits(plan: MemoryPlan, hardware: HardwareConfig, machine: Machine) -> bool | None:
    """Return whether a plan fits the hardware; None if it is not known how much there is."""
    has = room(hardware, machine)
    if hardware.accelerator == Accelerator.cuda and machine.gpus and plan.host > machine.memory:
        return False
    return None if has is None else plan.total <= has


def room(hardware: HardwareConfig, machine: Machine) -> float | None:
    """Return the GiB for one process: `hardware.device_memory`, else this machine's. CPU processes share one memory."""
    if hardware.accelerator == Accelerator.cuda:
        return hardware.device_memory or machine.smallest_gpu
    memory = hardware.device_memory or machine.memory
    return memory / max(1, hardware.processes // hardware.nodes)


def describe_needs(config: RunConfig, name: str, plan: MemoryPlan, machine: Machine) -> str:
    """Return what a stage needs, part by part, and what the hardware has."""
    hardware, has = config.hardware, room(config.hardware, machine)
    left_out = (
        ("update", "host") if plan.activations + plan.buffers >= plan.update else ("activations", "buffers", "host")
    )
    parts = ", ".join(
        f"{part} {value:.1f}" for part, value in vars(plan).items() if value >= 0.05 and part not in left_out
    )
    unit, owner = "device", f"hardware={hardware.name}"
    if hardware.accelerator == Accelerator.cpu:
        unit, owner = "process", "this machine"
    text = f"the {name} stage needs {plan.total:.1f} GiB per {unit} ({parts})"
    if hardware.offload_optimizer == Offload.cpu and plan.host:
        text += f" and {plan.host:.0f} GiB on the host, which has {machine.memory:.0f}"
    return f"{text}; {owner} has {'an unknown amount' if has is None else f'{has:.1f}'}"


def describe_plan(config: RunConfig, names: Iterable[str]) -> str:
    """Return a line about the stage that needs most."""
    shape, worst = find_shape(config.model), worst_stage(config, names)
    if shape is None or worst is None:
        return f"no memory plan: the shape of model={config.model.name} is not known. `model.shape` can state it."
    machine = look_at_machine()
    verdict = {True: "; it fits", False: "; it does not fit", None: ""}[fits(worst[1], config.hardware, machine)]
    parameters = model_parameters(config.model, shape) / 1e6
    batch = f"{_sequences(config, config.stages[worst[0]])} sequences of {config.optimization.max_length} tokens"
    needs = describe_needs(config, *worst, machine)
    return f"memory   {needs}{verdict} ({parameters:,.0f} M parameters, {batch} per pass)"


def describe_divergence(config: RunConfig, shape: ModelShape) -> str:
    """Return a line about the memory of the sampled KL: two float32 models, of which one at a time is on a GPU."""
    model = 4 * model_parameters(config.model, shape) / GIB
    on_device = f" on the host and {model:.1f} on one device" * (config.hardware.accelerator == Accelerator.cuda)
    return f"memory   the sampled KL needs {2 * model:.1f} GiB{on_device}"


@contextmanager
def explaining_shortage(job: StageJob) -> Iterator[None]:
    """Turn a failed allocation in the block into a LaunchError with the figures of the memory plan."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        import torch

        is_shortage = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not is_shortage and not any(text in str(error) for text in SHORTAGES):
            raise
        hardware, worst = job.config.hardware, worst_stage(job.config, [job.name])
        device = "the GPU" if hardware.accelerator == Accelerator.cuda else "this machine"
        text = f"the {job.name} stage needs more memory than {device} has left."
        if worst:
            text += f" By the memory plan {describe_needs(job.config, *worst, look_at_machine())}."
        half = max(1, hardware.per_device_train_batch_size // 2)
        hint = f"hardware.per_device_train_batch_size={half} hardware.activation_checkpointing=true"
        raise LaunchError(f"{text} Try: {hint}") from error
