"""A look at this machine: its memory and its GPUs, without importing torch."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

GIB = 2**30
#: Where Linux says how much a container may take, by version of cgroups; a number of bytes, or `max`.
LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
#: nvidia-smi answers in one or two seconds; on a broken driver, never.
SECONDS = 20


@dataclass(frozen=True)
class Machine:
    """What a machine has.

    Attributes:
        memory: GiB that its processes may take together; None where it can't be told.
        gpus: GiB of each GPU that this process may use; None where the driver tells only that it is there.
    """

    memory: float | None
    gpus: tuple[float | None, ...] = ()

    @property
    def smallest_gpu(self) -> float | None:
        """GiB of the smallest GPU, None if there is none or one is unknown."""
        known = [memory for memory in self.gpus if memory is not None]
        return min(known) if known and len(known) == len(self.gpus) else None


def look_at_machine() -> Machine:
    """This machine, as processes started from here will find it."""
    return Machine(read_memory(), visible(read_gpus(), os.environ.get("CUDA_VISIBLE_DEVICES")))


def read_memory() -> float | None:
    """GiB of the machine, or of the container if that may take less."""
    try:
        found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (OSError, ValueError):
        found = []
    for path in LIMITS:
        try:
            found.append(int(path.read_text("utf-8")))
        except (OSError, ValueError):
            continue
    return min(found) / GIB if found else None


def read_gpus() -> tuple[float | None, ...]:
    """GiB of each GPU that nvidia-smi lists; without nvidia-smi those that the driver has, of unknown size."""
    if program := shutil.which("nvidia-smi"):
        command = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS)
            return tuple(float(line) / 1024 for line in done.stdout.split("\n") if line.strip())
        except (OSError, subprocess.SubprocessError, ValueError):
            pass
    return tuple(None for _ in Path("/proc/driver/nvidia/gpus").glob("*"))


def visible(gpus: tuple[float | None, ...], chosen: str | None) -> tuple[float | None, ...]:
    """Those of the GPUs that CUDA_VISIBLE_DEVICES lets through, which counts up to the first that is not there."""
    if chosen is None:
        return gpus
    kept: list[float | None] = []
    for name in chosen.split(","):
        if name.strip().startswith(("GPU-", "MIG-")):
            kept.append(None if len(set(gpus)) != 1 else gpus[0])
        elif name.strip().isdecimal() and int(name) < len(gpus):
            kept.append(gpus[int(name)])
        else:
            break
    return tuple(kept)
