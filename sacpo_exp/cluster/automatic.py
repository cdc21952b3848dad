"""`hardware=auto`: fill in what the hardware group leaves open from what this machine has and what fits."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sacpo_exp.cluster.memory import SHARING, fits, name_sharing, worst_stage
from sacpo_exp.config.hardware import Accelerator, HardwareConfig, Machine, look_at_machine
from sacpo_exp.config.models import FloatType
from sacpo_exp.config.schema import RunConfig
from sacpo_exp.config.stages import loss_of

log = logging.getLogger(__name__)

#: Ways to divide and offload states, the cheapest first.
WAYS: tuple[dict[str, Any], ...] = ({"zero_stage": 0}, {"zero_stage": 1}, *SHARING)
#: Fields of a group that describe its own devices, not those of this machine.
FOREIGN = ("name", "device_memory", "peak_tflops", "utilisation")


def fill_hardware(composed: DictConfig, overrides: list[str], conf: Path) -> DictConfig:
    """Return the composed configuration with all hardware fields, and log what was chosen.

    Numbers are those of `hardware=a100x1` where there is a GPU, else those of `hardware=cpu`. Values from the command
    line and from files are kept.
    """
    if "hardware" not in composed or not OmegaConf.missing_keys(composed.hardware):
        return composed
    machine, given = look_at_machine(), find_given(composed.hardware, overrides)
    accelerator = given.get("accelerator", Accelerator.cuda if machine.gpus else Accelerator.cpu)
    group = read_hardware(conf / "hardware" / f"{'cpu' if accelerator == Accelerator.cpu else 'a100x1'}.yaml")
    filled = composed.copy()
    filled.hardware = OmegaConf.merge(composed.hardware, {k: v for k, v in group.items() if k not in FOREIGN}, given)
    try:
        config = OmegaConf.to_object(filled)
    except OmegaConfBaseException:
        return filled  # another setting has no value, which is reported later
    if isinstance(config, RunConfig):
        hardware, reason = choose_hardware(config, machine, given)
        filled.hardware = OmegaConf.structured(hardware)
        log.info("hardware %s", reason)
    return filled


def find_given(hardware: DictConfig, overrides: list[str]) -> dict[str, Any]:
    """Return the fields that were set: on the command line, or in a file to another value than the schema's."""
    typed = {text.lstrip("+").split("=")[0] for text in overrides}
    default = OmegaConf.structured(HardwareConfig)
    given = [key for key in map(str, hardware) if not OmegaConf.is_missing(hardware, key)]
    return {
        key: hardware[key]
        for key in given
        if f"hardware.{key}" in typed or OmegaConf.is_missing(default, key) or hardware[key] != default[key]
    }


def choose_hardware(config: RunConfig, machine: Machine, given: dict[str, Any]) -> tuple[HardwareConfig, str]:
    """Return the hardware for a run on this machine, and the reason in words.

    All GPUs that divide the global batches are used, with as many rows per device as possible and with the cheapest way
    of sharing that fits.
    """
    hardware = config.hardware
    batches = [(stage.global_batch_size or 1, loss_of(stage).least_rows) for stage in config.stages.values()]
    if hardware.accelerator == Accelerator.cuda and "processes" not in given:
        hardware = replace(hardware, processes=choose_processes(max(1, len(machine.gpus)), batches))
    sizes = [hardware.per_device_train_batch_size]
    if "per_device_train_batch_size" not in given:
        sizes = list_rows(sizes[0], hardware.processes, batches) or sizes
    tried = hardware
    for rows in sizes:
        for way in list_ways(config, hardware, given):
            tried = replace(hardware, per_device_train_batch_size=rows, **way)
            worst = worst_stage(replace(config, hardware=tried))
            verdict = fits(worst[1], tried, machine) if worst else None
            if verdict is not False:
                known = "which fits by the memory plan" if verdict else "of which is not known whether it fits"
                return tried, f"{_describe(tried, machine)}, {known}"
    return tried, f"{_describe(tried, machine)}; nothing fits by the memory plan"


def choose_processes(gpus: int, batches: list[tuple[int, int]]) -> int:
    """Return the largest number of processes that divides every (global batch, least rows per device)."""
    numbers = (n for n in range(gpus, 0, -1) if all(size % n == 0 and size // n >= least for size, least in batches))
    return next(numbers, 1)


def list_rows(most: int, processes: int, batches: list[tuple[int, int]]) -> list[int]:
    """Return the numbers of rows per device, from `most` downwards, that divide every process's share of a batch."""
    shares, least = [size // processes for size, _ in batches], max((least for _, least in batches), default=1)
    return [rows for rows in range(most, 0, -1) if rows >= least and all(s % max(1, min(rows, s)) == 0 for s in shares)]


def list_ways(config: RunConfig, hardware: HardwareConfig, given: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the ways of sharing that make sense on the hardware and contradict nothing that was given."""
    is_gpu, is_alone = hardware.accelerator == Accelerator.cuda, hardware.processes == 1
    # Without ZeRO 16-bit weights are updated without a float32 copy, which changes the result (plan.rounds_updates).
    least = int(is_gpu and config.adapter is None and config.optimization.dtype != FloatType.float32)
    ways = [
        way
        for way in WAYS
        if way["zero_stage"] >= least
        and (is_gpu or len(way) == 1)  # a CPU has no other memory to offload to
        and not (is_alone and len(way) == 1 and way["zero_stage"] > least)  # nobody to share with
        and all(getattr(replace(hardware, **way), name) == value for name, value in given.items())
    ]
    return ways or [{}]


def read_hardware(path: Path) -> dict[str, Any]:
    """Return the fields of a hardware group, on top of those of the groups that it is based on."""
    content: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    values: dict[str, Any] = {}
    for other in content.pop("defaults", ()):
        if other != "_self_":
            values |= read_hardware(path.with_name(f"{other}.yaml"))
    return values | content


def list_hardware(conf: Path) -> Iterator[HardwareConfig]:
    """Yield all groups of conf/hardware that leave nothing open."""
    for path in sorted((conf / "hardware").glob("*.yaml")):
        merged = OmegaConf.merge(OmegaConf.structured(HardwareConfig), read_hardware(path))
        if not OmegaConf.missing_keys(merged):
            yield cast(HardwareConfig, OmegaConf.to_object(merged))


def _describe(hardware: HardwareConfig, machine: Machine) -> str:
    has = f"{len(machine.gpus)} GPUs" if machine.gpus else f"no GPU and {machine.memory or 0:.0f} GiB"
    if machine.smallest_gpu:
        has += f" of {machine.smallest_gpu:.0f} GiB"
    return f"auto: this machine has {has}: {name_sharing(hardware)}, {hardware.per_device_train_batch_size} rows each"
