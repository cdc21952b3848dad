"""Memory of one stage on one hardware group: arithmetic on a shape; pure.

Exact: weights, gradients, optimizer states and their shares (Rajbhandari et al. 2020, section 5; with offload Ren et
al. 2021 and Rajbhandari et al. 2021); DeepSpeed's own buffers, at their default sizes. Counted as they are saved:
activations (`activations.py`), for rows as long as `max_length` without any prompt, which is an upper bound.
Estimated: `runtime`, and what 4-bit weights take.

The sum counts gradients and activations at the same moment. With gradient accumulation that is what happens; without,
gradients come while activations go, but allocators seldom reuse one kind of block for the other (seen on CPUs).
"""

from dataclasses import dataclass

from sacpo_exp.config.activations import Pass, autocast_bytes, head_bytes, layers_bytes
from sacpo_exp.config.hardware import Accelerator, Attention, HardwareConfig, Offload
from sacpo_exp.config.machine import GIB
from sacpo_exp.config.models import FloatType, ModelShape
from sacpo_exp.config.schema import RunConfig, StageConfig
from sacpo_exp.config.shapes import count_adapter, count_in_layers, count_parameters
from sacpo_exp.config.stages import loss_of
from sacpo_exp.config.validation import per_device_batch_size

BYTES = {FloatType.float32: 4, FloatType.bfloat16: 2, FloatType.float16: 2}
#: Of weights in 4 bits: half a byte, and 8-bit scales of 64 weights with scales of their own (Dettmers et al. 2023).
QUANTISED = 0.53
#: DeepSpeed 0.19's defaults, in numbers: gradients on their way, parameters gathered at once, and ahead of time.
BUCKET, LIVE, PREFETCH = 500_000_000, 1_000_000_000, 50_000_000
#: GiB of torch, transformers and TRL before a model is loaded: seen on a CPU; on a GPU context and workspaces.
RUNTIME = {Accelerator.cpu: 0.6, Accelerator.cuda: 1.0}


@dataclass(frozen=True)
class MemoryPlan:
    """GiB per device (of CPUs: per process).

    Attributes:
        activations: of training, with the 16-bit copies of weights that autocast keeps, and the projection on words.
        reference: 0, since its log-probabilities are computed once, beforehand, by the same weights.
        buffers: of DDP or DeepSpeed.
        runtime: of libraries and context, which growth after the imports has not.
        host: of the machine's memory that all processes of one node take besides; of CPUs 0, they have no other.
        disk: on NVMe, by all processes of one node.
    """

    weights: float
    gradients: float
    optimizer: float
    activations: float
    buffers: float
    runtime: float
    reference: float = 0.0
    host: float = 0.0
    disk: float = 0.0

    @property
    def growth(self) -> float:
        """GiB over what there is after the imports."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.reference + self.buffers

    @property
    def total(self) -> float:
        return self.growth + self.runtime


@dataclass(frozen=True)
class _States:
    """Bytes of a training run before anything is shared out."""

    weights: float
    gradients: float
    optimizer: float
    gradient_bytes: int
    weight_bytes: int


def plan_stage(config: RunConfig, stage: StageConfig, shape: ModelShape) -> MemoryPlan:
    """The plan of one stage of a configuration on its hardware."""
    hardware = config.hardware
    this = pass_of(config, stage)
    states = _states(config, shape, this)
    is_cpu = hardware.accelerator == Accelerator.cpu
    activations = layers_bytes(shape, this, hardware.activation_checkpointing) + autocast_bytes(shape, this)
    activations += head_bytes(shape, this, config.adapter is None, is_cpu)
    shared = _share(states, hardware)
    buffers = _buffers(states, hardware, count_parameters(shape))
    on_host, on_disk = _offloaded(states, hardware)
    if is_cpu:  # there is one memory only
        buffers, on_host = buffers + on_host, 0.0
    ranks = hardware.processes // hardware.nodes
    return MemoryPlan(
        weights=shared.weights / GIB,
        gradients=shared.gradients / GIB,
        optimizer=shared.optimizer / GIB,
        activations=activations / GIB,
        buffers=buffers / GIB,
        runtime=RUNTIME[hardware.accelerator],
        host=0.0 if is_cpu else ranks * (RUNTIME[Accelerator.cpu] + max(on_host, states.weights) / GIB),
        disk=ranks * on_disk / GIB,
    )


def pass_of(config: RunConfig, stage: StageConfig) -> Pass:
    """What one pass of a stage sees on one device."""
    dtype, autocast = config.optimization.dtype, config.optimization.autocast
    compute = BYTES[autocast or dtype]
    # DeepSpeed casts the weights themselves where others cast on the fly.
    weights = compute if config.hardware.zero_stage and autocast else BYTES[dtype]
    rows = per_device_batch_size(config, stage) * loss_of(stage).sequences
    attention = config.hardware.attention or Attention.sdpa
    return Pass(rows, config.optimization.max_length, weights, compute, attention)


def _states(config: RunConfig, shape: ModelShape, this: Pass) -> _States:
    """Weights, gradients and AdamW's two moments; under ZeRO also a float32 copy of what is trained in 16 bits.

    Plain torch keeps the moments in the weights' own dtype; DeepSpeed keeps them, and the copy, in float32. Of float32
    weights ZeRO 1 and 2 keep a copy too, ZeRO 3 does not.
    """
    everything, zero = count_parameters(shape), config.hardware.zero_stage
    adapter = config.adapter
    trained = everything if adapter is None else count_adapter(shape, adapter)
    weights = float(everything * this.weight_bytes)
    gradient_bytes = this.weight_bytes
    if adapter is not None:
        gradient_bytes = 4 if not zero else this.weight_bytes  # peft trains adapters in float32
        if adapter.quantize:
            weights -= count_in_layers(shape) * (this.weight_bytes - QUANTISED)
        weights += trained * gradient_bytes
    per_parameter = 2 * gradient_bytes
    if zero:
        per_parameter = 8 if zero == 3 and gradient_bytes == 4 else 12
    return _States(weights, trained * gradient_bytes, trained * per_parameter, gradient_bytes, this.weight_bytes)


def _share(states: _States, hardware: HardwareConfig) -> _States:
    """What is left on one device: ZeRO 1 shares out the optimizer, 2 also gradients, 3 also weights."""
    n, zero = hardware.processes, hardware.zero_stage
    weights = states.weights / n if zero == 3 else states.weights
    gradients = states.gradients / n if zero >= 2 else states.gradients
    optimizer = states.optimizer / n if zero >= 1 else states.optimizer
    if zero and hardware.offload_optimizer != Offload.none:
        optimizer = 0.0
        gradients = 0.0 if zero >= 2 else gradients  # they go to where the optimizer is
    if zero == 3 and hardware.offload_param != Offload.none:
        weights = 0.0
    return _States(weights, gradients, optimizer, states.gradient_bytes, states.weight_bytes)


def _offloaded(states: _States, hardware: HardwareConfig) -> tuple[float, float]:
    """(host, disk) bytes of one process: its share of the optimizer, with float32 gradients, and of the weights."""
    n, zero = hardware.processes, hardware.zero_stage
    places = {Offload.none: 0.0, Offload.cpu: 0.0, Offload.nvme: 0.0}
    if zero:
        gradients = states.gradients / states.gradient_bytes * 4 if zero >= 2 else 0.0
        places[hardware.offload_optimizer] += (states.optimizer + gradients) / n
    if zero == 3:
        places[hardware.offload_param] += states.weights / n
    return places[Offload.cpu], places[Offload.nvme]


def _buffers(states: _States, hardware: HardwareConfig, parameters: int) -> float:
    """Bytes of what is on its way: DDP copies all gradients; DeepSpeed has a bucket, and gathers weights for ZeRO 3.

    Pages of a bucket that a small model never touches are not taken on CPUs, so no more than the gradients count.
    """
    if not hardware.zero_stage:
        return states.gradients if hardware.processes > 1 else 0.0
    bucket = float(BUCKET * states.gradient_bytes)
    if hardware.accelerator == Accelerator.cpu:
        bucket = min(bucket, states.gradients)
    if hardware.zero_stage < 3:
        return bucket
    gathered = min(LIVE, parameters) + min(PREFETCH, parameters)
    whole = states.weights * gathered / parameters  # of 4-bit weights, so many 4-bit numbers
    return bucket + (whole if hardware.processes > 1 or hardware.offload_param != Offload.none else 0.0)
