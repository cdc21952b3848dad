"""Whether a stage fits, and what would make it fit, in sentences."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from sacpo_exp.config.hardware import Accelerator, HardwareConfig, Offload
from sacpo_exp.config.machine import Machine, look_at_machine
from sacpo_exp.config.memory import MemoryPlan, plan_stage
from sacpo_exp.config.schema import RunConfig, StageConfig
from sacpo_exp.config.shapes import find_shape
from sacpo_exp.config.stages import loss_of

#: Ways to share out and offload what training keeps, the least costly first: names as typed.
SHARING: tuple[dict[str, Any], ...] = (
    {"zero_stage": 2},
    {"zero_stage": 3},
    {"zero_stage": 2, "offload_optimizer": Offload.cpu},
    {"zero_stage": 3, "offload_optimizer": Offload.cpu},
    {"zero_stage": 3, "offload_optimizer": Offload.cpu, "offload_param": Offload.cpu},
)
#: What can be changed about a machine's use, the least costly first.
REMEDIES: tuple[dict[str, Any], ...] = ({"activation_checkpointing": True}, *SHARING)


def find_misfit(config: RunConfig, names: Iterable[str] | None = None) -> str | None:
    """Why the worst of these stages can't run, in one sentence with figures and a remedy; None if all fit.

    `names` are those of stages that still have to be trained; None: all. Where the shape or the machine is not known,
    nothing is said: there is no plan then.
    """
    machine = look_at_machine()
    worst = worst_stage(config, names)
    if worst is None or fits(worst[1], config.hardware, machine) is not False:
        return None
    name, plan = worst
    remedies = [*find_remedies(config, machine, names), "hardware=<a larger one>"]
    has = _what_there_is(config.hardware, machine)
    return f"the {name} stage needs {_figures(config.hardware, plan)}, but {has}. Try: {remedies[0]}, or force=true"


def describe_memory(config: RunConfig, stage_name: str) -> str:
    """One or two sentences for when memory ran out in a stage: the plan's figures, and what to change."""
    found = worst_stage(config, [stage_name])
    if found is None:
        return (
            f"No memory plan can be made: the shape of model={config.model.name} is not known. Try: {_smaller(config)}"
        )
    machine = look_at_machine()
    remedies = list(find_remedies(config, machine, [stage_name], below=found[1].total)) or [_smaller(config)]
    planned = f"The memory plan has {_figures(config.hardware, found[1])}; {_what_there_is(config.hardware, machine)}"
    return f"{planned}. Try: {remedies[0]}"


def worst_stage(config: RunConfig, names: Iterable[str] | None = None) -> tuple[str, MemoryPlan] | None:
    """(name, plan) of the stage that needs most; None without stages, or where the shape is unknown."""
    shape = find_shape(config.model)
    chosen = _chosen(config, names)
    if shape is None or not chosen:
        return None
    plans = [(name, plan_stage(config, stage, shape)) for name, stage in chosen]
    return max(plans, key=lambda entry: entry[1].total)


def fits(plan: MemoryPlan, hardware: HardwareConfig, machine: Machine) -> bool | None:
    """Whether a plan fits the hardware; None where nobody knows how much there is."""
    there_is = room(hardware, machine)
    if hardware.accelerator == Accelerator.cuda and machine.gpus and machine.memory and plan.host > machine.memory:
        return False
    return None if there_is is None else plan.total <= there_is


def room(hardware: HardwareConfig, machine: Machine) -> float | None:
    """GiB for one process: `hardware.device_memory`, else this machine's. Processes on CPUs share one memory."""
    if hardware.accelerator == Accelerator.cuda:
        return hardware.device_memory or machine.smallest_gpu
    memory = hardware.device_memory or machine.memory
    return memory / max(1, hardware.processes // hardware.nodes) if memory else None


def find_remedies(
    config: RunConfig, machine: Machine, names: Iterable[str] | None = None, below: float = float("inf")
) -> Iterator[str]:
    """Overrides under which the stages fit, the least costly first; with `below` also need less than so many GiB."""
    for remedy in (*REMEDIES, *_smaller_batches(config, names)):
        hardware = replace(config.hardware, **remedy)
        if hardware == config.hardware or hardware.zero_stage < config.hardware.zero_stage:
            continue
        worst = worst_stage(replace(config, hardware=hardware), names)
        if worst and worst[1].total < below and fits(worst[1], hardware, machine) is not False:
            yield " ".join(f"hardware.{key}={_typed(value)}" for key, value in remedy.items())


def _smaller_batches(config: RunConfig, names: Iterable[str] | None) -> Iterator[dict[str, Any]]:
    """Per-device batches that divide the present one, with the rest left as it is and with all that saves."""
    now = config.hardware.per_device_train_batch_size
    least = max((loss_of(stage).least_rows for _, stage in _chosen(config, names)), default=1)
    for size in (now // 2**power for power in range(1, 8) if now % 2**power == 0 and now >= 2**power):
        if size < least:
            return
        yield {"per_device_train_batch_size": size}
        yield REMEDIES[-1] | {"activation_checkpointing": True, "per_device_train_batch_size": size}


def _chosen(config: RunConfig, names: Iterable[str] | None) -> list[tuple[str, StageConfig]]:
    wanted = None if names is None else set(names)
    return [entry for entry in config.stages.items() if wanted is None or entry[0] in wanted]


def _figures(hardware: HardwareConfig, plan: MemoryPlan) -> str:
    """The sum and its parts, in GiB."""
    parts = {name: getattr(plan, name) for name in ("weights", "gradients", "optimizer", "activations", "buffers")}
    listed = ", ".join(f"{name} {value:.1f}" for name, value in parts.items() if value >= 0.05)
    where = "device" if hardware.accelerator == Accelerator.cuda else "process"
    host = f", and {plan.host:.0f} GiB of the host's memory" if _offloads(hardware) and plan.host else ""
    return f"{plan.total:.1f} GiB per {where} ({listed}, runtime {plan.runtime:.1f}){host}"


def _what_there_is(hardware: HardwareConfig, machine: Machine) -> str:
    there_is = room(hardware, machine)
    if there_is is None:
        return f"how much hardware={hardware.name} has is not known"
    if hardware.accelerator == Accelerator.cuda:
        host = f" and {machine.memory:.0f} on the host" if _offloads(hardware) and machine.memory else ""
        return f"hardware={hardware.name} has {there_is:.1f}{host}"
    share = f" for each of {hardware.processes // hardware.nodes} processes" if hardware.processes > 1 else ""
    return f"this machine has {there_is:.1f}{share}"


def _offloads(hardware: HardwareConfig) -> bool:
    return Offload.cpu in (hardware.offload_optimizer, hardware.offload_param)


def _smaller(config: RunConfig) -> str:
    size = max(1, config.hardware.per_device_train_batch_size // 2)
    return f"hardware.per_device_train_batch_size={size} hardware.activation_checkpointing=true"


def _typed(value: Any) -> str:
    """As on the command line."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value.value if isinstance(value, Offload) else value)
