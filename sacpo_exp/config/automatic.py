"""`hardware=auto`: what the machine has decides what was left open."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sacpo_exp.config.hardware import HardwareConfig
from sacpo_exp.config.machine import Machine, look_at_machine
from sacpo_exp.config.memory_verdict import SHARING, fits, worst_stage
from sacpo_exp.config.models import FloatType
from sacpo_exp.config.schema import RunConfig
from sacpo_exp.config.stages import loss_of

log = logging.getLogger(__name__)

#: From the least to the most that sharing and offloading cost.
WAYS: tuple[dict[str, Any], ...] = ({"zero_stage": 0}, {"zero_stage": 1}, *SHARING)
#: Fields that are true of the group that the numbers are from, not of this machine.
OTHERS = ("name", "peak_tflops", "utilisation")
#: The fields that it sets.
SHARED = ("zero_stage", "offload_optimizer", "offload_param")


@dataclass(frozen=True)
class Batch:
    """A stage's global batch, and the least rows that a device must see of it at once."""

    size: int
    least: int = 1


@dataclass(frozen=True)
class Choice:
    """Values of hardware fields, and why."""

    values: dict[str, Any]
    reason: str


def fill_hardware(composed: DictConfig, overrides: list[str], conf: Path) -> DictConfig:
    """The composed configuration with what `hardware` leaves open filled in for this machine, and one line in the log.

    What the command line gives stays, also where it is what the schema has anyway.
    """
    if "hardware" not in composed or not OmegaConf.missing_keys(composed.hardware):
        return composed
    machine = look_at_machine()
    cpu, gpu = (read_hardware(conf / "hardware" / f"{name}.yaml") for name in ("cpu", "a100x1"))
    given = find_given(composed.hardware, overrides)
    config = _config_with(composed, cpu | given)
    stages = list(config.stages.values()) if config else []
    batches = [Batch(stage.global_batch_size or 1, loss_of(stage).least_rows) for stage in stages]
    is_short = config is not None and config.optimization.dtype != FloatType.float32 and config.adapter is None
    choice = choose_hardware(machine, batches, cpu, gpu, given, _judge_of(config, machine), is_short)
    filled = composed.copy()
    for key, value in choice.values.items():
        filled.hardware[key] = value
    log.info("hardware %s", choice.reason)
    return filled


def choose_hardware(
    machine: Machine,
    batches: Iterable[Batch],
    cpu: dict[str, Any],
    gpu: dict[str, Any],
    given: dict[str, Any],
    does_fit: Callable[[dict[str, Any]], bool | None],
    is_short: bool = False,
) -> Choice:
    """What to fill in on a machine; pure.

    Args:
        batches: of all stages; processes and rows per device are made to divide them.
        cpu, gpu: fields of the groups to take the other numbers from.
        given: fields that are settled.
        does_fit: whether all stages fit with these fields; None if nobody knows, and then the plainest is taken.
        is_short: weights are of 16 bits, so that only ZeRO updates them without rounding; every machine is to do that.
    """
    batches = list(batches)
    has_gpus = bool(machine.gpus) if "accelerator" not in given else given["accelerator"] == "cuda"
    values = {**(gpu if has_gpus else cpu), **given}
    if has_gpus:
        processes = choose_processes(max(1, len(machine.gpus)), batches)
        values |= {"device_memory": machine.smallest_gpu, "processes": processes} | given
    sharing = _list_sharing(values, given, is_short and has_gpus)
    found = _first_that_fits(values, batches, given, sharing, does_fit)
    chosen = {key: value for key, value in found[0].items() if key not in given and key not in OTHERS}
    return Choice(chosen, f"{_say_machine(machine)}: {_say_choice(found[0])}{found[1]}")


def choose_processes(gpus: int, batches: Iterable[Batch]) -> int:
    """The most processes, one per GPU, among which every global batch can be divided."""
    sizes = list(batches)
    return max(
        n for n in range(1, gpus + 1) if all(b.size % n == 0 and b.size // n >= b.least for b in sizes) or n == 1
    )


def choose_rows(most: int, processes: int, batches: Iterable[Batch]) -> int:
    """The most rows per device and pass, up to `most`, that divide each process's share of every global batch."""
    shares = [batch.size // processes for batch in batches]
    return next(rows for rows in range(most, 0, -1) if all(s % max(1, min(rows, s)) == 0 for s in shares) or rows == 1)


def find_given(hardware: DictConfig, overrides: list[str]) -> dict[str, Any]:
    """Fields that somebody has set: those with another value than the schema's, and those on the command line."""
    typed = {text.lstrip("+").split("=")[0] for text in overrides}
    given = {}
    for field in fields(HardwareConfig):
        if OmegaConf.is_missing(hardware, field.name):
            continue
        value = hardware[field.name]
        default = list(field.default_factory()) if callable(field.default_factory) else field.default
        if f"hardware.{field.name}" in typed or value != default:
            given[field.name] = value
    return {key: _plain(value) for key, value in given.items()}


def read_hardware(path: Path) -> dict[str, Any]:
    """Fields of a hardware group, on top of those of the groups beside it that it names.

    Raises:
        OSError, yaml.YAMLError: it can't be read.
    """
    content: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    found: dict[str, Any] = {}
    for other in content.pop("defaults", ()):
        if other != "_self_":
            found |= read_hardware(path.with_name(f"{other}.yaml"))
    return found | content


def list_hardware(conf: Path) -> Iterator[HardwareConfig]:
    """All groups of conf/hardware that leave nothing open."""
    for path in sorted((conf / "hardware").glob("*.yaml")):
        merged = OmegaConf.merge(OmegaConf.structured(HardwareConfig), read_hardware(path))
        if not OmegaConf.missing_keys(merged):
            yield cast(HardwareConfig, OmegaConf.to_object(merged))


def _first_that_fits(
    values: dict[str, Any],
    batches: list[Batch],
    given: dict[str, Any],
    ways: list[dict[str, Any]],
    does_fit: Callable[[dict[str, Any]], bool | None],
) -> tuple[dict[str, Any], str]:
    """(fields, what to say of the memory): as many rows as possible, with the least sharing and offloading."""
    most = choose_rows(values["per_device_train_batch_size"], values["processes"], batches)
    least = max((batch.least for batch in batches), default=1)
    sizes = [rows for rows in range(most, 0, -1) if choose_rows(rows, values["processes"], batches) == rows >= least]
    if "per_device_train_batch_size" in given:
        sizes = [given["per_device_train_batch_size"]]
    tried = dict(values)
    for rows in sizes or [most]:
        for sharing in ways:
            tried = values | sharing | {"per_device_train_batch_size": rows} | given
            verdict = does_fit(tried)
            if verdict is None:
                return tried, "; whether it fits is not known"
            if verdict:
                return tried, ", which fits by the memory plan"
    return tried, "; nothing fits by the memory plan"


def _list_sharing(values: dict[str, Any], given: dict[str, Any], needs_zero: bool) -> list[dict[str, Any]]:
    """What is worth trying: alone there is nobody to share with, and a CPU's only memory is the host's."""
    is_cpu, is_alone = values["accelerator"] == "cpu", values["processes"] == 1
    found = [
        sharing
        for sharing in WAYS
        if not (is_cpu and len(sharing) > 1)
        and not (needs_zero and not sharing["zero_stage"])
        and not (is_alone and len(sharing) == 1 and sharing["zero_stage"] > needs_zero)
        and all(_plain(sharing.get(name, "none")) == given[name] for name in SHARED if name in given)
    ]
    return found or [{}]


def _judge_of(config: RunConfig | None, machine: Machine) -> Callable[[dict[str, Any]], bool | None]:
    def does_fit(values: dict[str, Any]) -> bool | None:
        if config is None:
            return None
        hardware = to_hardware(values)
        found = worst_stage(replace(config, hardware=hardware))
        return None if found is None else fits(found[1], hardware, machine)

    return does_fit


def to_hardware(values: dict[str, Any]) -> HardwareConfig:
    """A hardware group from fields as YAML has them."""
    merged = OmegaConf.merge(OmegaConf.structured(HardwareConfig), values)
    return cast(HardwareConfig, OmegaConf.to_object(merged))


def _config_with(composed: DictConfig, values: dict[str, Any]) -> RunConfig | None:
    """The configuration with these hardware fields; None if other settings have no value, which is told later."""
    filled = composed.copy()
    filled.hardware = OmegaConf.merge(filled.hardware, values)
    try:
        config = OmegaConf.to_object(filled)
    except OmegaConfBaseException:
        return None
    return config if isinstance(config, RunConfig) else None


def _plain(value: Any) -> Any:
    if OmegaConf.is_list(value):
        return list(value)
    return getattr(value, "value", value)


def _say_machine(machine: Machine) -> str:
    if not machine.gpus:
        memory = f" and {machine.memory:.0f} GiB" if machine.memory else ""
        return f"auto: this machine has no GPU{memory}"
    size = f" of {machine.smallest_gpu:.0f} GiB" if machine.smallest_gpu else ""
    return f"auto: this machine has {len(machine.gpus)} GPU{'s' if len(machine.gpus) > 1 else ''}{size}"


def _say_choice(values: dict[str, Any]) -> str:
    parts = [f"{values['processes']} process{'es' if values['processes'] > 1 else ''}"]
    parts.append(f"{values['per_device_train_batch_size']} rows each")
    parts.append(f"ZeRO {values.get('zero_stage', 0)}")
    for part, name in (("offload_optimizer", "the optimizer"), ("offload_param", "the weights")):
        if _plain(values.get(part, "none")) != "none":
            parts.append(f"{name} on the host")
    return ", ".join(parts)
