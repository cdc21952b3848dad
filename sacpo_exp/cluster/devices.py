"""The machine's devices and ports: checks before anything is loaded, and shares for the jobs of a sweep."""

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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


@dataclass(frozen=True)
class Share:
    """What one slot of a sweep may use: GPUs, named as in CUDA_VISIBLE_DEVICES, and threads."""

    devices: tuple[str, ...]
    threads: int

    def environment(self) -> dict[str, str]:
        """Return the environment of a job in this slot."""
        return os.environ | {"CUDA_VISIBLE_DEVICES": ",".join(self.devices), "OMP_NUM_THREADS": str(self.threads)}


def divide_machine(
    slots: int | None, threads: int | None, gpus: int, names: Sequence[str], environment: Mapping[str, str]
) -> list[Share]:
    """Return one share per slot.

    Args:
        slots: number of slots; None: as many as there are GPUs for, one where none are used.
        threads: per slot; None: OMP_NUM_THREADS, or else an equal part of the machine's cores.
        gpus: that a job needs; 0 on CPUs.
        names: this machine's GPUs that may be used.

    Raises:
        ConfigError: `slots` or `threads` is not a positive number, or there are too few GPUs.
    """
    for name, value in (("slots", slots), ("threads", threads)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise ConfigError(f"`hydra.launcher.{name}` must be a whole number of at least 1 or null, but is {value}.")
    if slots is None:
        slots = max(1, len(names) // gpus) if gpus else 1
    if slots * gpus > len(names):
        remedy = f"hydra.launcher.slots={len(names) // gpus}" if len(names) >= gpus else "hardware=cpu"
        raise ConfigError(
            f"`hydra.launcher.slots` = {slots} with {gpus} GPUs each needs {slots * gpus} GPUs, "
            f"but {len(names)} can be used here. Try: {remedy}"
        )
    given = environment.get("OMP_NUM_THREADS", "")
    threads = threads or (int(given) if given.isdigit() else max(1, len(os.sched_getaffinity(0)) // slots))
    return [Share(tuple(names[slot * gpus : (slot + 1) * gpus]), threads) for slot in range(slots)]


def find_gpus(environment: Mapping[str, str]) -> list[str]:
    """Return the names of the GPUs that may be used: those of CUDA_VISIBLE_DEVICES, or all by index."""
    if "CUDA_VISIBLE_DEVICES" in environment:
        return [name.strip() for name in environment["CUDA_VISIBLE_DEVICES"].split(",") if name.strip()]
    return [str(index) for index in range(len(read_gpus()))]
