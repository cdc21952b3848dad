"""Checks of the hardware group: processes, devices, sharding, offloading."""

from collections.abc import Iterator
from pathlib import Path

from sacpo_exp.config.hardware import Accelerator, HardwareConfig, Offload


def find_hardware_problems(hardware: HardwareConfig) -> Iterator[str]:
    """Everything wrong with a hardware group by itself; how batches divide is checked with the stages."""
    if hardware.zero_stage not in (0, 1, 2, 3):
        yield f"`hardware.zero_stage` must be 0, 1, 2 or 3, but is {hardware.zero_stage}."
    if hardware.nodes > 0 and hardware.processes > 0:
        yield from _check_places(hardware)
    yield from _check_offload(hardware)


def _check_places(hardware: HardwareConfig) -> Iterator[str]:
    if hardware.processes % hardware.nodes:
        yield (
            f"`hardware.processes` must be a multiple of `hardware.nodes` = {hardware.nodes}, but is "
            f"{hardware.processes}; it counts those of all nodes together."
        )
        return
    if not hardware.devices:
        return
    here = hardware.processes // hardware.nodes
    if hardware.accelerator != Accelerator.cuda:
        yield f"`hardware.devices` has no effect with `hardware.accelerator` = {hardware.accelerator.value}."
    elif len(set(hardware.devices)) != len(hardware.devices) or min(hardware.devices) < 0:
        yield f"`hardware.devices` must name different GPUs by index, but is {hardware.devices}."
    elif len(hardware.devices) != here:
        yield (
            f"`hardware.devices` must name as many GPUs as there are processes per node, {here}, but names "
            f"{len(hardware.devices)}. Try: hardware.processes={len(hardware.devices) * hardware.nodes}"
        )


def _check_offload(hardware: HardwareConfig) -> Iterator[str]:
    needs = {"offload_optimizer": 1, "offload_param": 3}
    for name, stage in needs.items():
        where = getattr(hardware, name)
        stage = 3 if where == Offload.nvme else stage
        if where != Offload.none and hardware.zero_stage < stage:
            yield (
                f"`hardware.{name}={where.value}` needs ZeRO stage {stage}{' or more' if stage < 3 else ''}, but "
                f"`hardware.zero_stage` is {hardware.zero_stage}. Try: hardware.zero_stage={max(stage, 2)}"
            )
    is_on_disk = Offload.nvme in (hardware.offload_optimizer, hardware.offload_param)
    if is_on_disk and (hardware.nvme_path is None or not Path(hardware.nvme_path).expanduser().is_dir()):
        yield (
            f"`hardware.nvme_path` must be a folder on an NVMe disk, but {hardware.nvme_path} is not there. "
            "Try: hardware.nvme_path=/local_nvme"
        )
    if hardware.nvme_path is not None and not is_on_disk:
        yield "`hardware.nvme_path` has no effect: nothing is offloaded to it. Try: hardware.offload_optimizer=nvme"
