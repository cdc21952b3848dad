"""What this machine decides: `hardware=auto`, types of numbers that are `auto`, and advice where nothing fits."""

import importlib.util
import os
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sacpo_exp.cluster.memory import describe_needs, fits, foresee_length, worst_stage
from sacpo_exp.config import CONF
from sacpo_exp.config.hardware import Accelerator, HardwareConfig, Machine, Offload, is_installed, look_at_machine
from sacpo_exp.config.models import FloatType
from sacpo_exp.config.schema import RunConfig
from sacpo_exp.config.stages import loss_of
from sacpo_exp.errors import ConfigError

#: Ways to divide and offload states, the cheapest first.
WAYS: tuple[dict[str, Any], ...] = (
    *({"zero_stage": stage} for stage in range(4)),
    {"zero_stage": 2, "offload_optimizer": Offload.cpu},
    {"zero_stage": 3, "offload_optimizer": Offload.cpu},
    {"zero_stage": 3, "offload_optimizer": Offload.cpu, "offload_param": Offload.cpu},
)
#: Fields of a group that describe its own devices, not those of this machine.
FOREIGN = ("name", "device_memory", "peak_tflops", "utilisation")
#: Types of numbers that can be `auto`, and what they are where bfloat16 would be emulated, which is slow.
NUMBERS: dict[str, FloatType | None] = {"optimization.autocast": None, "generation.dtype": FloatType.float32}


def fill_settings(composed: DictConfig, overrides: list[str], is_sound: bool = True) -> tuple[DictConfig, str]:
    """Return the composed configuration with what this machine decides, and one line that says what that is.

    Unless it `is_sound`, what fits is not looked for.

    Raises:
        ConfigError: a type of numbers is `auto` that decides more than speed.
    """
    if "hardware" not in composed:
        return composed, ""
    machine, filled = look_at_machine(), composed.copy()
    given = fill_hardware(filled, overrides, machine)
    line = choose_numbers(filled, machine)
    if given is None:  # numbers that a reader expects need no line
        return filled, "" if machine.computes_bfloat16(filled.hardware.accelerator) else line
    try:
        config = OmegaConf.to_object(filled) if is_sound else None
    except OmegaConfBaseException:
        return filled, ""  # another setting has no value, which is reported later
    if isinstance(config, RunConfig):
        config, _ = foresee_length(config)
        hardware, reason = choose_hardware(config, machine, given)
        filled.hardware = OmegaConf.structured(hardware)
        line = "; ".join(filter(None, [f"hardware {reason}", line]))
    return filled, line


def choose_numbers(config: DictConfig, machine: Machine) -> str:
    """Set the types of numbers that are `auto` for the accelerator, and return what was chosen in words."""
    for key in ("optimization.dtype", "judge.dtype"):
        if OmegaConf.select(config, key) == FloatType.auto:
            raise ConfigError(f"`{key}` can't be auto, as {' and '.join(NUMBERS)} can. Try: {key}=float32")
    keys = [key for key in NUMBERS if OmegaConf.select(config, key) == FloatType.auto]
    if not keys:
        return ""
    is_native = machine.computes_bfloat16(config.hardware.accelerator)
    for key in keys:
        OmegaConf.update(config, key, FloatType.bfloat16 if is_native else NUMBERS[key])
    owner = "this CPU" if config.hardware.accelerator == Accelerator.cpu else "a GPU here"
    reason = "" if is_native else f", since {owner} would emulate bfloat16"
    return f"{', '.join(keys)}: {'bfloat16' if is_native else 'float32'}{reason}"


def fill_hardware(config: DictConfig, overrides: list[str], machine: Machine) -> dict[str, Any] | None:
    """Fill in the hardware fields that have no value, and return those that have one; None if all have.

    Numbers are those of `hardware=a100x1` where there is a GPU, else those of `hardware=cpu`. Values from the command
    line and from files are kept.
    """
    if not OmegaConf.missing_keys(config.hardware):
        return None
    typed = {text.lstrip("+").split("=")[0] for text in overrides}
    present: Any = OmegaConf.to_container(config.hardware)
    usual: Any = OmegaConf.to_container(OmegaConf.structured(HardwareConfig))
    given = {key: value for key, value in present.items() if value not in ("???", usual[key])}
    given |= {key: value for key, value in present.items() if f"hardware.{key}" in typed}
    accelerator = given.get("accelerator", Accelerator.cuda if machine.gpus else Accelerator.cpu)
    name = "cpu" if accelerator == Accelerator.cpu else "a100x1"
    group = yaml.safe_load((CONF / "hardware" / f"{name}.yaml").read_text("utf-8"))
    config.hardware = OmegaConf.merge(config.hardware, {k: v for k, v in group.items() if k not in FOREIGN}, given)
    return given


def choose_hardware(config: RunConfig, machine: Machine, given: dict[str, Any]) -> tuple[HardwareConfig, str]:
    """Return the hardware for a run on this machine, and the reason in words: all GPUs that divide the batches."""
    if config.hardware.accelerator == Accelerator.cuda:
        count = choose_processes(max(1, len(machine.gpus)), list_batches(config))
        own = choose_kernels(config, machine) | {"processes": count} | given
        config = replace(config, hardware=replace(config.hardware, **own))
    candidates = list_candidates(config, given)
    chosen = find_fitting(config, candidates, machine) or candidates[-1]
    worst = worst_stage(replace(config, hardware=chosen))
    verdict = {
        True: ", which fits by the memory plan",
        None: ", of which is not known whether it fits",
        False: "; nothing fits by the memory plan",
    }[fits(worst[1], chosen, machine) if worst else None]
    has = f"{len(machine.gpus)} GPUs" if machine.gpus else f"no GPU and {machine.memory:.0f} GiB"
    if machine.smallest_gpu:
        has += f" of {machine.smallest_gpu:.0f} GiB"
    parts = [f"{chosen.processes} × ZeRO {chosen.zero_stage}"]
    parts += [
        f"{part} on the host" for part in ("optimizer", "param") if vars(chosen)[f"offload_{part}"] != Offload.none
    ]
    parts += [chosen.attention] if chosen.attention else []
    parts += [name for name in ("padding_free", "liger", "tf32") if getattr(chosen, name)]
    way = ", ".join([*parts, f"{chosen.per_device_train_batch_size} rows each"])
    return chosen, f"auto: this machine has {has}: {way}{verdict}"


def choose_kernels(config: RunConfig, machine: Machine) -> dict[str, Any]:
    """Return the fields of kernels that this machine's GPUs have and that are installed; none changes a result."""
    is_ampere = machine.computes_bfloat16(Accelerator.cuda)
    found: dict[str, Any] = {"tf32": is_ampere, "liger": is_installed("liger")}
    # transformers loads `kernels` from the hub.
    can_attend = importlib.util.find_spec("flash_attn") or (
        is_installed("attention") and not os.environ.get("HF_HUB_OFFLINE")
    )
    if is_ampere and config.optimization.is_short and can_attend:
        found |= {"attention": "flash_attention_2", "padding_free": True}
    return found


def find_misfit(config: RunConfig, names: Iterable[str] | None = None) -> str | None:
    """Return one sentence, with numbers and what would fit, if the largest of these stages can't fit; None if all can.

    `names` are the stages that have still to be trained; None means all.
    """
    machine, worst = look_at_machine(), worst_stage(config, names)
    if worst is None or fits(worst[1], config.hardware, machine) is not False:
        return None
    found = find_fitting(config, list_candidates(config, {}), machine, names)
    changed = {
        key: value for key, value in vars(found or config.hardware).items() if value != vars(config.hardware)[key]
    }
    hint = " ".join(f"hardware.{key}={getattr(value, 'value', value)}" for key, value in changed.items()).lower()
    return f"{describe_needs(config, *worst, machine)}. Try: {hint or 'hardware=<a larger one>'}, or force=true"


def find_fitting(
    config: RunConfig, candidates: Iterable[HardwareConfig], machine: Machine, names: Iterable[str] | None = None
) -> HardwareConfig | None:
    """Return the first hardware on which these stages fit, or may fit if that is not known; None if there is none."""
    for hardware in candidates:
        worst = worst_stage(replace(config, hardware=hardware), names)
        if worst is None or fits(worst[1], hardware, machine) is not False:
            return hardware
    return None


def list_candidates(config: RunConfig, given: dict[str, Any]) -> list[HardwareConfig]:
    """Return all ways to use the hardware that keep what was given, the fastest first.

    They have as many rows per device as possible, then the cheapest way of sharing; checkpointing is the last resort.
    """
    hardware, is_gpu = config.hardware, config.hardware.accelerator == Accelerator.cuda
    is_alone = hardware.processes == 1
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
    rows = [hardware.per_device_train_batch_size]
    if "per_device_train_batch_size" not in given:
        rows = list_rows(rows[0], hardware.processes, list_batches(config)) or rows
    plain = [replace(hardware, per_device_train_batch_size=size, **way) for size in rows for way in ways or [{}]]
    if hardware.activation_checkpointing or "activation_checkpointing" in given:
        return plain
    return plain + [replace(candidate, activation_checkpointing=True) for candidate in plain]


def list_batches(config: RunConfig) -> list[tuple[int, int]]:
    """Return (global batch, least rows per device) of every stage."""
    return [(stage.global_batch_size or 1, loss_of(stage).least_rows) for stage in config.stages.values()]


def choose_processes(gpus: int, batches: list[tuple[int, int]]) -> int:
    """Return the largest number of processes that divides every (global batch, least rows per device)."""
    numbers = (n for n in range(gpus, 0, -1) if all(size % n == 0 and size // n >= least for size, least in batches))
    return next(numbers, 1)


def list_rows(most: int, processes: int, batches: list[tuple[int, int]]) -> list[int]:
    """Return the numbers of rows per device, from `most` downwards, that divide every process's share of a batch."""
    shares, least = [size // processes for size, _ in batches], max((least for _, least in batches), default=1)
    return [rows for rows in range(most, 0, -1) if rows >= least and all(s % max(1, min(rows, s)) == 0 for s in shares)]
