"""The machine: what can be set about its use, and what this one has. Nothing here changes what is computed."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from omegaconf import MISSING

from sacpo_exp.config.bounds import bounded, count

GIB = 2**30
#: Where Linux states the memory limit of a container, by version of cgroups; a number of bytes, or `max`.
LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
#: nvidia-smi answers in one or two seconds; with a broken driver, never.
SECONDS = 20


class Accelerator(Enum):
    cpu = "cpu"
    cuda = "cuda"


class Offload(Enum):
    """Where ZeRO keeps what is not in use on the device (Ren et al. 2021)."""

    none = "none"
    cpu = "cpu"


class Attention(Enum):
    """transformers' implementations of attention; equal up to rounding."""

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
    device_memory: float | None = bounded(above=0, default=None)  # GiB per device; null: what this machine has
    peak_tflops: float | None = bounded(above=0, default=None)  # per device, to estimate hours; null: not known
    utilisation: float | None = bounded(above=0, default=None)  # share of it that training reaches
    per_device_train_batch_size: int = bounded(least=1, most=2**16)
    per_device_eval_batch_size: int = count()
    generation_batch_size: int = count()
    attention: Attention | None = None  # null: transformers' choice
    activation_checkpointing: bool = False
    tf32: bool = False
    zero_stage: int = bounded(least=0, most=3, default=0)
    offload_optimizer: Offload = Offload.none
    offload_param: Offload = Offload.none
    # Between checkpoints; 0: after every update. Young (1974): √(2 · 1 min to write 7B · 3 h between preemptions).
    save_minutes: float = bounded(least=0, default=20)
    logging_steps: int = count(default=1)
    grace_seconds: int | None = count(default=None)  # for a checkpoint when asked to stop; null: from its size


@dataclass(frozen=True)
class Machine:
    """What a machine has."""

    memory: float | None  # GiB that its processes may use together; None if unknown
    gpus: tuple[float | None, ...] = ()  # GiB of each GPU that may be used; None where only its existence is known

    @property
    def smallest_gpu(self) -> float | None:
        """GiB of the smallest GPU; None if there is none or one is unknown."""
        known = [memory for memory in self.gpus if memory is not None]
        return min(known) if known and len(known) == len(self.gpus) else None


def look_at_machine() -> Machine:
    """Return what processes started from here can use, without importing torch."""
    return Machine(read_memory(), visible(read_gpus(), os.environ.get("CUDA_VISIBLE_DEVICES")))


def read_memory() -> float | None:
    """Return the GiB of the machine, or of the container if that is less."""
    try:
        limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (OSError, ValueError):
        limits = []
    for path in LIMITS:
        try:
            limits.append(int(path.read_text("utf-8")))
        except (OSError, ValueError):
            continue
    return min(limits) / GIB if limits else None


def read_gpus() -> tuple[float | None, ...]:
    """Return the GiB of each GPU that nvidia-smi lists; without nvidia-smi, None for each that the driver knows."""
    if program := shutil.which("nvidia-smi"):
        command = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS)
            return tuple(float(line) / 1024 for line in done.stdout.split("\n") if line.strip())
        except (OSError, subprocess.SubprocessError, ValueError):
            pass
    return tuple(None for _ in Path("/proc/driver/nvidia/gpus").glob("*"))


def visible(gpus: tuple[float | None, ...], chosen: str | None) -> tuple[float | None, ...]:
    """Return the GPUs that CUDA_VISIBLE_DEVICES selects; like CUDA, stop at the first that does not exist."""
    if chosen is None:
        return gpus
    kept: list[float | None] = []
    for name in chosen.split(","):
        if name.strip().startswith(("GPU-", "MIG-")):
            kept.append(gpus[0] if len(set(gpus)) == 1 else None)
        elif name.strip().isdecimal() and int(name) < len(gpus):
            kept.append(gpus[int(name)])
        else:
            break
    return tuple(kept)
