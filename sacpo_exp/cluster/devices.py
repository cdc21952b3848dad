"""GPUs of this machine: a check before anything is loaded, and shares for the jobs of a sweep."""

import os
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from sacpo_exp.config.hardware import (
    PACKAGES,
    Accelerator,
    HardwareConfig,
    is_installed,
    look_at_machine,
    read_gpus,
)
from sacpo_exp.errors import ConfigError

#: Exists where the GPUs are AMD's, which torch calls cuda too and nvidia-smi does not count.
ROCM = Path("/dev/kfd")


def check_devices(hardware: HardwareConfig) -> None:
    """Raise ConfigError if this machine has too few GPUs, or lacks the package of a kernel."""
    needed, count = hardware.processes // hardware.nodes, len(look_at_machine().gpus)
    if hardware.accelerator == Accelerator.cuda and count < needed and not ROCM.exists():
        raise ConfigError(
            f"`hardware={hardware.name}` needs {needed} GPU{'s' if needed > 1 else ''}, but this machine has {count}. "
            "Try: hardware=cpu, or dry_run=true to see the plan only."
        )
    if missing := [field for field in hardware.kernels if not is_installed(field)]:
        names = " or ".join(name.replace("_", "-") for name in PACKAGES[missing[0]])
        raise ConfigError(f"`hardware.{missing[0]}` needs {names}, which is not installed. Try: leave it out")


def divide_machine(slots: int | None, hardware: DictConfig) -> list[dict[str, str]]:
    """Return the variables of each slot for jobs with this hardware: GPUs of its own and an equal part of the cores.

    Args:
        slots: number of slots; None: as many as there are GPUs for, one where none are used.
        hardware: with one GPU per job if it is `auto` and there are GPUs.

    Raises:
        ConfigError: `slots` is not a positive number, or there are too few GPUs.
    """
    if slots is not None and (type(slots) is not int or slots < 1):
        raise ConfigError(f"`hydra.launcher.slots` must be a whole number of at least 1 or null, but is {slots}.")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(len(read_gpus())))))
    names = [name.strip() for name in visible.split(",") if name.strip()]
    is_auto = OmegaConf.is_missing(hardware, "accelerator")
    needed = min(1, len(names)) if is_auto else hardware.processes * (hardware.accelerator == Accelerator.cuda)
    slots = slots or (max(1, len(names) // needed) if needed else 1)
    if slots * needed > len(names):
        remedy = f"hydra.launcher.slots={len(names) // needed}" if len(names) >= needed else "hardware=cpu"
        raise ConfigError(
            f"`hydra.launcher.slots` = {slots} with {needed} GPUs each needs {slots * needed} GPUs, "
            f"but {len(names)} can be used here. Try: {remedy}"
        )
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, len(os.sched_getaffinity(0)) // slots))
    groups = [names[slot * needed : (slot + 1) * needed] for slot in range(slots)]
    return [{"CUDA_VISIBLE_DEVICES": ",".join(group), "OMP_NUM_THREADS": threads} for group in groups]
