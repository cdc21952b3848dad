"""The memory plan as a table: this hardware and the alternatives, line by line."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from sacpo_exp.config.hardware import Accelerator, HardwareConfig, Offload
from sacpo_exp.config.machine import Machine
from sacpo_exp.config.memory import MemoryPlan, pass_of, plan_stage
from sacpo_exp.config.memory_verdict import SHARING, fits, room, worst_stage
from sacpo_exp.config.schema import RunConfig
from sacpo_exp.config.shapes import count_parameters, find_shape

COLUMNS = ("weights", "gradients", "optimizer", "activations", "reference", "buffers", "runtime", "total")

#: What the same machine could do otherwise, and what is said of each way of `SHARING` besides its stage.
TITLES = ("", "", ", optimizer on the host", ", optimizer on the host", ", all on the host")
VARIANTS = {f"ZeRO {changes['zero_stage']}{title}": changes for changes, title in zip(SHARING, TITLES, strict=True)}
PLAIN = {"offload_optimizer": Offload.none, "offload_param": Offload.none}


def draw_table(
    config: RunConfig, names: Iterable[str], others: Iterable[HardwareConfig], machine: Machine
) -> Iterator[str]:
    """Lines for the stage of `names` that needs most: this hardware first, then its variants, then `others`."""
    shape, found = find_shape(config.model), worst_stage(config, names)
    if shape is None:
        yield f"no memory plan: the shape of model={config.model.name} is not known. `model.shape` can say it."
        return
    if found is None:
        return
    name = found[0]
    stage = config.stages[name]
    seen = pass_of(config, stage)
    yield (
        f"memory plan of the {name} stage, GiB per device: {count_parameters(shape) / 1e6:,.0f} M parameters, "
        f"{seen.rows} sequences of {seen.length} tokens in one pass"
    )
    yield f"    {'hardware':<42}" + "".join(f" {column:>7}" for column in COLUMNS) + "    host  fits"
    for title, hardware in _list_hardware(config.hardware, others):
        plan = plan_stage(replace(config, hardware=hardware), stage, shape)
        mark = "  > " if hardware is config.hardware else "    "
        yield f"{mark}{title:<42}{_numbers(plan)}  {_say(plan, hardware, machine)}"
    yield "    reference: its log-probabilities are computed beforehand, by the same weights"


def _list_hardware(this: HardwareConfig, others: Iterable[HardwareConfig]) -> Iterator[tuple[str, HardwareConfig]]:
    yield f"{this.name}: {_describe(this)}", this
    for title, changes in VARIANTS.items():
        variant = replace(this, **(PLAIN | changes))
        is_pointless = this.accelerator == Accelerator.cpu and len(changes) > 1  # its only memory is the host's
        if variant != this and not is_pointless:
            yield f"{this.name}: {this.processes} × {title}", variant
    for other in others:
        if other.name != this.name:
            yield f"{other.name}: {_describe(other)}", other


def _describe(hardware: HardwareConfig) -> str:
    parts = [f"{hardware.processes} × ZeRO {hardware.zero_stage}"]
    held = [name for name in ("optimizer", "param") if getattr(hardware, f"offload_{name}") != Offload.none]
    return ", ".join([*parts, *(f"{name} elsewhere" for name in held)])


def _numbers(plan: MemoryPlan) -> str:
    numbers = (f" {getattr(plan, column):{max(7, len(column))}.2f}" for column in COLUMNS)
    return "".join(numbers) + f"{plan.host:8.1f}"


def _say(plan: MemoryPlan, hardware: HardwareConfig, machine: Machine) -> str:
    there_is = room(hardware, machine)
    if there_is is None:
        return "unknown"
    verdict = "yes" if fits(plan, hardware, machine) else "NO"
    share = " per process" if hardware.accelerator == Accelerator.cpu and hardware.processes > 1 else ""
    return f"{verdict}, of {there_is:.1f}{share}"
