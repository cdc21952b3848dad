"""The machine: what can be set about its use, and what this one has. Nothing here changes what is computed."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from omegaconf import MISSING

from sacpo_exp.config.bounds import bounded, count

GIB = 2**30
#: Where Linux states the memory limit of a container, by version of cgroups; a number of bytes, or `max`.
LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
#: nvidia-smi answers in one or two seconds; with a broken driver, never.
SECONDS = 20
#: Flags of processors with instructions for products of bfloat16: x86 with AVX-512 or AMX, and Arm.
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
CPU_INFO = Path("/proc/cpuinfo")
#: transformers' implementations of attention, equal up to rounding. PyTorch's two come first; others need a GPU.
ATTENTION = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flash_attention_4")
#: Field: packages of which one is needed. transformers takes flash attention from the hub where `kernels` is installed.
PACKAGES = {"attention": ("flash_attn", "flash_attn_interface", "kernels"), "liger": ("liger_kernel",)}
#: CUDA compute capability (Ampere) from which GPUs compute bfloat16 and tf32.
AMPERE = 8.0


class Accelerator(Enum):
    cpu = "cpu"
    cuda = "cuda"


class Offload(Enum):
    """Where ZeRO keeps what is not in use on the device (Ren et al. 2021)."""

    none = "none"
    cpu = "cpu"


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
    attention: str | None = None  # null: transformers' choice; one of ATTENTION, or a kernel of the hub: OWNER/NAME
    padding_free: bool = False  # supervised fine-tuning on rows end to end; TRL 1.16 can't for preferences
    liger: bool = False  # layers by liger-kernel
    activation_checkpointing: bool = False
    tf32: bool = False
    zero_stage: int = bounded(least=0, most=3, default=0)
    offload_optimizer: Offload = Offload.none
    offload_param: Offload = Offload.none
    # Between checkpoints; 0: after every update. Young (1974): √(2 · 1 min to write 7B · 3 h between preemptions).
    save_minutes: float = bounded(least=0, default=20)
    logging_steps: int = count(default=1)
    grace_seconds: int | None = count(default=None)  # for a checkpoint when asked to stop; null: from its size

    @property
    def kernels(self) -> list[str]:
        """The fields that choose kernels of further packages, all for GPUs."""
        return [field for field in PACKAGES if getattr(self, field) not in (None, False, *ATTENTION[:2])]


class Gpu(NamedTuple):
    """What is known of a GPU."""

    memory: float | None = None  # GiB
    capability: float | None = None  # CUDA compute capability


def attention_of(attention: str | None, is_short: bool) -> str | None:
    """Return the attention for numbers of 16 bits, or of 32, which only PyTorch's own computes."""
    return attention if is_short or attention in ATTENTION[:2] else None


def find_kernel_problems(hardware: HardwareConfig, is_short: bool) -> Iterator[str]:
    """Report kernels that can't train with this hardware; `is_short`: in numbers of 16 bits."""
    name = hardware.attention
    if name is not None and name not in ATTENTION and not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w.-]+)?", name):
        yield f"`hardware.attention` must be {', '.join(ATTENTION)} or OWNER/NAME on the hub, but is {name}."
        return
    if name != attention_of(name, is_short):
        yield f"`hardware.attention={name}` computes numbers of 16 bits only. Try: optimization.autocast=bfloat16"
    for field in hardware.kernels if hardware.accelerator == Accelerator.cpu else ():
        yield f"`hardware.{field}={str(getattr(hardware, field)).lower()}` needs a GPU. Try: leave it out"


def is_installed(field: str) -> bool:
    """Return whether a package for a field of PACKAGES is installed."""
    return any(importlib.util.find_spec(name) for name in PACKAGES[field])


@dataclass(frozen=True)
class Machine:
    """What a machine has."""

    memory: float  # GiB that its processes may use together
    gpus: tuple[Gpu, ...] = ()  # that may be used
    has_bfloat16: bool = False  # the CPU

    @property
    def smallest_gpu(self) -> float | None:
        """GiB of the smallest GPU; None if there is none or one is unknown."""
        known = [gpu.memory for gpu in self.gpus if gpu.memory is not None]
        return min(known) if known and len(known) == len(self.gpus) else None

    def computes_bfloat16(self, accelerator: Accelerator) -> bool:
        """Return whether it multiplies bfloat16 natively; a GPU that is not known is taken for one that does."""
        if accelerator == Accelerator.cpu:
            return self.has_bfloat16
        return all((gpu.capability or AMPERE) >= AMPERE for gpu in self.gpus)


def look_at_machine() -> Machine:
    """Return what processes started from here can use, without importing torch."""
    gpus = visible(read_gpus(), os.environ.get("CUDA_VISIBLE_DEVICES"))
    words = CPU_INFO.read_text("utf-8").split() if CPU_INFO.is_file() else []  # only Linux has it
    return Machine(read_memory(), gpus, not BFLOAT16_FLAGS.isdisjoint(words))


def read_memory() -> float:
    """Return the GiB of the machine, or of the container if that is less."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in LIMITS:
        with suppress(OSError, ValueError):
            limits.append(int(path.read_text("utf-8")))
    return min(limits) / GIB


def read_gpus() -> tuple[Gpu, ...]:
    """Return the GPUs that nvidia-smi lists; without nvidia-smi those that the driver knows, of unknown size."""
    if program := shutil.which("nvidia-smi"):
        command = [program, "--query-gpu=memory.total,compute_cap", "--format=csv,noheader,nounits"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS)
            rows = [line.split(",") for line in done.stdout.split("\n") if line.strip()]
            return tuple(Gpu(float(memory) / 1024, float(capability)) for memory, capability in rows)
        except (OSError, subprocess.SubprocessError, ValueError):
            pass
    return tuple(Gpu() for _ in Path("/proc/driver/nvidia/gpus").glob("*"))


def visible(gpus: tuple[Gpu, ...], chosen: str | None) -> tuple[Gpu, ...]:
    """Return the GPUs that CUDA_VISIBLE_DEVICES selects; like CUDA, stop at the first that does not exist."""
    if chosen is None:
        return gpus
    kept: list[Gpu] = []
    for name in chosen.split(","):
        if name.strip().startswith(("GPU-", "MIG-")):
            kept.append(gpus[0] if len(set(gpus)) == 1 else Gpu())
        elif name.strip().isdecimal() and int(name) < len(gpus):
            kept.append(gpus[int(name)])
        else:
            break
    return tuple(kept)
