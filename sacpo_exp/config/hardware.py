"""The machine: how much of what is at work. Nothing here changes what is computed."""

from dataclasses import dataclass, field
from enum import Enum

from omegaconf import MISSING

from sacpo_exp.config.bounds import bounded, count


class Accelerator(Enum):
    cpu = "cpu"
    cuda = "cuda"


class Offload(Enum):
    """Where ZeRO keeps what is not at work on the device (Rajbhandari et al. 2021)."""

    none = "none"
    cpu = "cpu"
    nvme = "nvme"


class Attention(Enum):
    """transformers' implementations of attention; the same numbers to rounding."""

    eager = "eager"
    sdpa = "sdpa"
    flash_attention_2 = "flash_attention_2"


@dataclass
class HardwareConfig:
    """Processes and devices, and what each takes at once.

    `processes` counts those of all nodes together, one per device, as accelerate does.
    """

    name: str = MISSING
    accelerator: Accelerator = MISSING
    processes: int = count()
    nodes: int = count(default=1)
    devices: list[int] = field(default_factory=list)  # of this machine, by index; none: as many as there are processes
    device_memory: float | None = bounded(
        above=0, default=None
    )  # GiB per device, for the memory plan; null: what this machine has
    peak_tflops: float | None = bounded(above=0, default=None)  # per device, for estimates of hours; null: not known
    utilisation: float | None = bounded(
        above=0, default=None
    )  # share of it that training reaches, recomputation counted as work
    per_device_train_batch_size: int = bounded(least=1, most=2**16)
    per_device_eval_batch_size: int = count()
    generation_batch_size: int = count()
    attention: Attention | None = None  # null: transformers' choice
    activation_checkpointing: bool = False
    tf32: bool = False
    zero_stage: int = 0
    offload_optimizer: Offload = Offload.none
    offload_param: Offload = Offload.none
    nvme_path: str | None = None
    save_steps: int = count()
    logging_steps: int = count(default=1)
    port: int | None = bounded(least=1, most=65535, default=None)  # that ranks meet at; null: a free one
    grace_seconds: int = count(
        default=25
    )  # to write a checkpoint when asked to stop, below Slurm's 30 s between SIGTERM and SIGKILL
