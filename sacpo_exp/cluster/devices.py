"""The machine's devices and ports: checks before anything is loaded, and shares for the jobs of a sweep."""

import os
import socket
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from sacpo_exp.config.hardware import Accelerator, HardwareConfig, look_at_machine, read_gpus
from sacpo_exp.errors import ConfigError

LOOPBACK = "127.0.0.1"
#: Exists where the GPUs are AMD's, which torch calls cuda too and nvidia-smi does not count.
ROCM = Path("/dev/kfd")


def check_devices(hardware: HardwareConfig) -> None:
    """Make `hardware.devices` the visible ones of this process and of all that it starts.

    Raises:
        ConfigError: the machine has too few devices, or another program listens on `hardware.port`.
    """
    if hardware.port is not None and hardware.nodes == 1:  # with several nodes only the first one opens it
        _check_port(hardware.port)
    if hardware.accelerator != Accelerator.cuda:
        return
    if hardware.devices:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        names = visible if visible != [""] else [str(index) for index in range(max(hardware.devices) + 1)]
        if max(hardware.devices) >= len(names):
            raise ConfigError(
                f"`hardware.devices` must be below {len(names)}, the number of GPUs that CUDA_VISIBLE_DEVICES lets "
                f"through, but has {max(hardware.devices)}."
            )
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(names[index] for index in hardware.devices)
    needed, count = hardware.processes // hardware.nodes, len(look_at_machine().gpus)
    if count < needed and not ROCM.exists():
        raise ConfigError(
            f"`hardware={hardware.name}` needs {needed} GPU{'s' if needed > 1 else ''}, but this machine has {count}. "
            "Try: hardware=cpu, or dry_run=true to see the plan only."
        )


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise ConfigError(
                f"`hardware.port` {port} can't be used: {os.strerror(error.errno or 0)}. "
                "Try: hardware.port=null, which takes a free one."
            ) from error


def choose_port(hardware: HardwareConfig) -> int:
    """Return `hardware.port`, or a TCP port of this machine that is free."""
    if hardware.port is not None:
        return hardware.port
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def divide_machine(slots: int | None, hardware: HardwareConfig | DictConfig) -> list[dict[str, str]]:
    """Return the variables of each slot for jobs with this hardware: GPUs of its own and an equal part of the cores.

    Args:
        slots: number of slots; None: as many as there are GPUs for, one where none are used.
        hardware: with one GPU per job if it is `auto` and there are GPUs.

    Raises:
        ConfigError: `slots` is not a positive number, or there are too few GPUs.
    """
    if slots is not None and (not isinstance(slots, int) or isinstance(slots, bool) or slots < 1):
        raise ConfigError(f"`hydra.launcher.slots` must be a whole number of at least 1 or null, but is {slots}.")
    names = find_gpus()
    if hardware.devices:
        names = [names[index] for index in hardware.devices if index < len(names)]
    is_auto = OmegaConf.is_missing(hardware, "accelerator")
    needed = min(1, len(names)) if is_auto else hardware.processes * (hardware.accelerator == Accelerator.cuda)
    if slots is None:
        slots = max(1, len(names) // needed) if needed else 1
    if slots * needed > len(names):
        remedy = f"hydra.launcher.slots={len(names) // needed}" if len(names) >= needed else "hardware=cpu"
        raise ConfigError(
            f"`hydra.launcher.slots` = {slots} with {needed} GPUs each needs {slots * needed} GPUs, "
            f"but {len(names)} can be used here. Try: {remedy}"
        )
    given = os.environ.get("OMP_NUM_THREADS", "")
    threads = given if given.isdigit() else str(max(1, len(os.sched_getaffinity(0)) // slots))
    groups = [names[slot * needed : (slot + 1) * needed] for slot in range(slots)]
    return [{"CUDA_VISIBLE_DEVICES": ",".join(group), "OMP_NUM_THREADS": threads} for group in groups]


def find_gpus() -> list[str]:
    """Return the names of the GPUs that may be used: those of CUDA_VISIBLE_DEVICES, or all by index."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name.strip() for name in visible.split(",") if name.strip()]
    return [str(index) for index in range(len(read_gpus()))]
