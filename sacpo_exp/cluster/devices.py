"""Whether this machine has what the hardware group asks for, said before anything is loaded."""

import os
import socket
from pathlib import Path

from sacpo_exp.config.hardware import Accelerator, HardwareConfig, look_at_machine
from sacpo_exp.errors import ConfigError

LOOPBACK = "127.0.0.1"
#: There where GPUs are AMD's, which torch calls cuda too and nvidia-smi does not count.
ROCM = Path("/dev/kfd")


def check_devices(hardware: HardwareConfig) -> None:
    """Choose the devices of `hardware.devices` for this process and all that it starts.

    Raises:
        ConfigError: the machine has fewer devices than are asked for, or the port is taken.
    """
    check_port(hardware)
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
    needed, found = hardware.processes // hardware.nodes, len(look_at_machine().gpus)
    if found < needed and not ROCM.exists():
        raise ConfigError(
            f"`hardware={hardware.name}` needs {needed} GPU{'s' if needed > 1 else ''}, but this machine has {found}. "
            "Try: hardware=cpu, or dry_run=true to see the plan only."
        )


def check_port(hardware: HardwareConfig) -> None:
    """Raises ConfigError where another program listens on `hardware.port`."""
    if hardware.port is None or hardware.nodes > 1:  # of several nodes the first one alone opens it
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", hardware.port))
        except OSError as error:
            raise ConfigError(
                f"`hardware.port` {hardware.port} can't be used: {os.strerror(error.errno or 0)}. "
                "Try: hardware.port=null, which takes a free one."
            ) from error


def choose_port(hardware: HardwareConfig) -> int:
    """`hardware.port`, or a TCP port of this machine that nobody listens on."""
    if hardware.port is not None:
        return hardware.port
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
