"""Checks that types can't express, gathered and reported together, one sentence per problem."""

import math
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from sacpo_exp.config.adapters import find_adapter_problems
from sacpo_exp.config.choosing import ChooseConfig, Over, find_choice_problems
from sacpo_exp.config.evaluation_checks import check_model, find_evaluation_problems
from sacpo_exp.config.exports import find_export_problems
from sacpo_exp.config.hardware import HardwareConfig
from sacpo_exp.config.hardware_checks import find_hardware_problems
from sacpo_exp.config.messages import explain_no_effect
from sacpo_exp.config.others import find_other_problems, others_of
from sacpo_exp.config.schema import (
    BaseStageConfig,
    DatasetConfig,
    DatasetSource,
    LossName,
    MergeMethod,
    RunConfig,
    StageConfig,
)
from sacpo_exp.config.store import check_mirror, holds_secret

#: Values of `loss_type` in TRL 1.16 that read nothing but β and what conf/loss offers.
LOSS_TYPES = {
    LossName.dpo: ("sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "apo_zero"),
    LossName.kto: ("kto", "apo_zero_unpaired"),
}
#: Those of them that read `label_smoothing`.
SMOOTHED = ("robust", "exo_pair")
POLICIES = ("baseline", "first", "second", "merged")


def find_command_line_problems(arguments: list[str], environment: dict[str, str], command: str) -> list[str]:
    """Problems that are visible before Hydra reads the command line."""
    problems = []
    is_one_per_node = environment.get("LOCAL_WORLD_SIZE") == "1" and environment.get("GROUP_WORLD_SIZE", "1") != "1"
    is_launched = "TORCHELASTIC_RUN_ID" in environment and not is_one_per_node  # torchrun may gather nodes, no more
    if is_launched or "ACCELERATE_MIXED_PRECISION" in environment:
        problems.append(
            f"sacpo_exp.{command} starts its own workers; do not start it with accelerate or torchrun. "
            f"Try: python -m sacpo_exp.{command}; `hardware.processes` says how many."
        )
    flags = [i for i, argument in enumerate(arguments) if argument in ("-m", "--multirun")]
    is_override = [not argument.startswith("-") and ("=" in argument or "~" in argument) for argument in arguments]
    if flags and any(is_override[: flags[0]]) and any(is_override[flags[0] :]):
        overrides = " ".join(argument for i, argument in enumerate(arguments) if is_override[i])
        problems.append(
            f"overrides may not stand on both sides of `-m`. Try: python -m sacpo_exp.{command} -m {overrides}"
        )
    if flags and command == "chat":
        problems.append("chat is one conversation, not a sweep. Try: policies=all, for several policies side by side")
    for argument in arguments:
        if argument.startswith("~"):
            problems.append(f"`{argument[1:]}` can't be removed: every setting has a value. Try: leave it out.")
        name, sign, value = argument.partition("=")
        if sign and not name.strip("+~"):
            problems.append(f"`{argument}` names no setting. Try: key=value, without spaces.")
        if name == "paths.outputs" and (reason := _find_obstacle(value.strip("'\""))):
            problems.append(f"`paths.outputs` must be a folder, or the name of a new one, but {reason}.")
        if name.lstrip("+") == "store.mirror" and holds_secret(value):  # now, before Hydra writes it down
            problems += check_mirror(value)
    return problems


def _find_obstacle(folder: str) -> str | None:
    """Why nothing can be written below `folder`, as far as names tell."""
    if not folder.strip():
        return "is empty"
    place = next(path for path in (Path(folder), *Path(folder).parents) if path.exists())
    return None if place.is_dir() else f"{place} is a file"


def find_run_problems(config: RunConfig, overrides: list[str]) -> list[str]:
    """Everything wrong with a composed `train` or `eval` configuration.

    Args:
        config: the composed configuration.
        overrides: as typed by the user; some mistakes (settings without any effect) can only be seen there.
    """
    problems = list(_check_stages(config))
    problems += _check_merge(config)
    problems += check_model("model", config.model)
    problems += _check_dataset("dataset", config.dataset)
    problems += find_other_problems(config, POLICIES)
    problems += _check_policies(config)
    problems += _check_lengths(config)
    problems += find_hardware_problems(config.hardware)
    problems += find_adapter_problems(config)
    problems += find_evaluation_problems(config)
    problems += find_export_problems(config, policy_names(config))
    problems += check_mirror(config.store.mirror) if config.store.mirror is not None else []
    problems += _check_no_effect(config, overrides)
    problems += find_choice_problems(config, overrides) if isinstance(config, ChooseConfig) else []
    return problems


def stages_of(config: RunConfig) -> Iterator[tuple[str, BaseStageConfig]]:
    """(name, stage) of the stages that this configuration has, in order."""
    for name, stage in (("base", config.stages.base), ("first", config.stages.first), ("second", config.stages.second)):
        if stage is not None:
            yield name, stage


def _check_stages(config: RunConfig) -> Iterator[str]:
    for name, stage in stages_of(config):
        key = f"stages.{name}"
        if isinstance(stage, StageConfig):
            # Without bounds of its own, since it mostly is `beta`, which has them.
            if not (math.isfinite(stage.beta) and stage.beta > 0) and stage.beta != config.beta:
                yield f"`{key}.beta` must be greater than 0, but is {stage.beta:g}."
            if stage.loss.name == LossName.sft:
                yield f"`{key}.loss` must be dpo or kto, but is sft; supervised fine-tuning is base=sft."
            yield from _check_loss(f"{key}.loss", stage)
            first = config.stages.first
            if name == "second" and first and stage.criterion == first.criterion:
                yield f"`{key}.criterion` must differ from the first stage's, but both are {stage.criterion.value}."
        elif stage.loss.name != LossName.sft:
            yield f"`{key}.loss` must be sft, but is {stage.loss.name.value}."
        if stage.dataset is not None:
            yield from _check_dataset(f"{key}.dataset", stage.dataset)
        yield from _check_batch(config, key, stage)


def _check_loss(key: str, stage: StageConfig) -> Iterator[str]:
    loss = stage.loss
    allowed = LOSS_TYPES.get(loss.name, ())
    if loss.loss_type not in allowed:
        if allowed:
            yield f"`{key}.loss_type` must be one of {', '.join(allowed)}, but is {loss.loss_type}."
    elif loss.loss_type == "exo_pair" and not 0 < loss.label_smoothing < 0.5:
        yield f"`{key}.label_smoothing` must lie between 0 and 0.5 for exo_pair, but is {loss.label_smoothing:g}."
    elif not 0 <= loss.label_smoothing < 0.5:
        yield f"`{key}.label_smoothing` must be at least 0 and below 0.5, but is {loss.label_smoothing:g}."
    elif loss.label_smoothing and loss.loss_type not in SMOOTHED:
        remedy = "loss_type=robust" if loss.name == LossName.dpo else "label_smoothing=0"
        yield (
            f"`{key}.label_smoothing={loss.label_smoothing:g}` has no effect: {loss.loss_type} does not read it. "
            f"Try: {key}.{remedy}"
        )
    for name in ("desirable_weight", "undesirable_weight"):
        weight = getattr(loss, name)
        if weight is not None and loss.name != LossName.kto:
            yield f"`{key}.{name}={weight:g}` has no effect: {loss.name.value} does not read it."


def _check_batch(config: RunConfig, key: str, stage: BaseStageConfig) -> Iterator[str]:
    """The global batch has to be a whole number of passes over what the machine takes at once."""
    hardware = config.hardware
    if min(stage.global_batch_size, hardware.processes, hardware.per_device_train_batch_size) < 1:
        return  # outside their bounds, which is said elsewhere
    per_device = per_device_batch_size(config, stage)
    if not _divides(stage.global_batch_size, hardware):
        near = _nearest_batches(stage.global_batch_size, hardware, stage.loss.name == LossName.kto)
        yield (
            f"`{key}.global_batch_size` = {stage.global_batch_size} can't be divided among `hardware.processes` = "
            f"{hardware.processes} with `hardware.per_device_train_batch_size` = "
            f"{hardware.per_device_train_batch_size}. Try: {key}.global_batch_size={near[0]} or {near[1]}"
        )
    elif stage.loss.name == LossName.kto and per_device < 2:
        yield (
            f"`{key}` uses KTO, which estimates its KL within the per-device batch and needs at least 2 rows in it, "
            f"but has {per_device}. Try: hardware.per_device_train_batch_size=2 "
            f"{key}.global_batch_size={8 * hardware.processes}"
        )


def per_device_batch_size(config: RunConfig, stage: BaseStageConfig) -> int:
    """Rows per device and pass: what the hardware takes, or all of a smaller global batch."""
    share = stage.global_batch_size // config.hardware.processes
    return max(1, min(config.hardware.per_device_train_batch_size, share))


def _divides(size: int, hardware: HardwareConfig) -> bool:
    """Whether a global batch is a whole number of passes of equal size on every process."""
    share, rest = divmod(size, hardware.processes)
    return rest == 0 and share > 0 and share % min(share, hardware.per_device_train_batch_size) == 0


def _nearest_batches(size: int, hardware: HardwareConfig, is_kto: bool) -> list[int]:
    """The two global batches nearest to `size` that can be divided, the smaller one first; two rows each for KTO."""
    processes, rows = hardware.processes, hardware.per_device_train_batch_size
    share, whole = size // processes, size // processes // rows * rows
    # A share of one pass may have any size; of several, it is a multiple of `rows`.
    shares = {min(share + step, rows) for step in (-1, 0, 1, 2)} | {whole + step * rows for step in (-1, 0, 1, 2)}
    least = min(rows, 2) if is_kto else 1
    can = sorted(processes * share for share in shares | {least, least + 1, rows - 1} if share >= least)
    return sorted(sorted(filter(partial(_divides, hardware=hardware), can), key=lambda batch: abs(batch - size))[:2])


def _check_merge(config: RunConfig) -> Iterator[str]:
    q = config.merge_ratio
    if q is None:
        if config.merge == MergeMethod.naive and not (
            isinstance(config, ChooseConfig) and config.over == Over.merge_ratio
        ):
            yield "`merge=naive` needs a ratio. Try: merge=naive merge_ratio=0.5"
        return
    if config.stages.second is None:
        yield "`merge_ratio` needs two stages, but the chosen order has one. Try: order=helpful_first"


def _check_dataset(key: str, dataset: DatasetConfig) -> Iterator[str]:
    if dataset.source == DatasetSource.path:
        yield from _check_files(key, dataset)
    if dataset.source == DatasetSource.hub and not dataset.path:
        yield f"`{key}.path` must be a repository on the hub, but is null. Try: {key}.path=OWNER/NAME"


def _check_files(key: str, dataset: DatasetConfig) -> Iterator[str]:
    paths = {f"{key}.path": dataset.path}
    if dataset.mix:
        if dataset.path:
            yield f"`{key}.mix` has no effect beside `{key}.path`. Try: {key}.path=null"
        paths = {f"{key}.mix[{number}].path": part.path for number, part in enumerate(dataset.mix)}
    if dataset.heldout_path:
        paths[f"{key}.heldout_path"] = dataset.heldout_path
    for name, path in paths.items():
        if not path or not Path(path).expanduser().exists():
            yield f"`{name}` must be a file or folder, but {path} is not there. Try: {name}=FILE.jsonl"


def _check_policies(config: RunConfig) -> Iterator[str]:
    if config.policies in ("final", "all"):
        return
    if not isinstance(config.policies, list) or not config.policies:
        yield f"`policies` must be final, all or a list of {', '.join(POLICIES)}, but is {config.policies!r}."
        return
    there = policy_names(config)
    for name in config.policies:
        if name not in there:
            yield f"`policies` must name policies of the plan ({', '.join(there)}), but has {name!r}."


def policy_names(config: RunConfig) -> list[str]:
    """Names of the policies that a plan of this configuration holds, in order of making."""
    has_second = config.stages.second is not None and config.merge == MergeMethod.linear
    optional = [("first", config.stages.first), ("second", has_second), ("merged", config.merge_ratio is not None)]
    return ["baseline", *others_of(config), *(name for name, is_there in optional if is_there)]


def _check_lengths(config: RunConfig) -> Iterator[str]:
    lengths = config.optimization
    if 0 < lengths.max_length <= lengths.max_prompt_length:
        yield (
            f"`optimization.max_prompt_length` must be less than `optimization.max_length` = {lengths.max_length}, "
            f"but is {lengths.max_prompt_length}."
        )


def _check_no_effect(config: RunConfig, overrides: list[str]) -> Iterator[str]:
    for override in overrides:
        for name in ("base", "first", "second"):
            is_there = getattr(config.stages, name) is not None
            if not is_there and re.match(rf"[+]*[\w]*@?stages\.{name}\b", override):
                yield explain_no_effect(override)
        if config.stages.first is None and re.match(r"[+]*beta=", override):
            yield explain_no_effect(override)
    last = config.stages.second or config.stages.first
    key = "stages.second.beta" if config.stages.second else "stages.first.beta"
    if last and last.beta != config.beta and any(override.lstrip("+").startswith("beta=") for override in overrides):
        yield f"`beta={config.beta:g}` has no effect: `{key}={last.beta:g}` overrules it. Give one of the two."
