"""Checks that types can't express, gathered and reported together, one sentence per problem."""

import math
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from sacpo_exp.config.adapters import find_adapter_problems
from sacpo_exp.config.choosing import ChooseConfig, Over, find_choice_problems
from sacpo_exp.config.evaluation_checks import check_model, find_evaluation_problems, find_secret_problems
from sacpo_exp.config.exports import find_export_problems
from sacpo_exp.config.hardware import HardwareConfig
from sacpo_exp.config.hardware_checks import find_hardware_problems
from sacpo_exp.config.messages import explain_no_effect
from sacpo_exp.config.others import find_other_problems, others_of
from sacpo_exp.config.schema import (
    DatasetConfig,
    DatasetSource,
    MergeMethod,
    RunConfig,
    StageConfig,
)
from sacpo_exp.config.stages import NUMBERS, PLACES, aligned_stages, known_criteria, loss_of, merge_weights, policy_of
from sacpo_exp.config.store import check_mirror, holds_secret
from sacpo_exp.method.losses import LOSSES, View, trained_losses

#: Fields of a verdict, beside which each criterion has one of its own name.
RESERVED = ("prompt_id", "prompt", "kind", "category", "response", "opponent_response", "is_refusal", "refusal")
#: Names that policies of a plan can have.
POLICIES = ("baseline", *PLACES, "merged")


def find_command_line_problems(arguments: list[str], environment: dict[str, str], command: str) -> list[str]:
    """Problems that are visible before Hydra reads the command line."""
    if problems := [problem for argument in arguments for problem in find_secret_problems(argument)]:
        return problems  # others would repeat the arguments
    is_one_per_node = environment.get("LOCAL_WORLD_SIZE") == "1" and environment.get("GROUP_WORLD_SIZE", "1") != "1"
    is_launched = "TORCHELASTIC_RUN_ID" in environment and not is_one_per_node  # torchrun may gather nodes, no more
    if is_launched or "ACCELERATE_MIXED_PRECISION" in environment:
        problems.append(
            f"sacpo_exp.{command} starts its own workers; do not start it with accelerate or torchrun. "
            f"Try: sacpo {command}; `hardware.processes` says how many."
        )
    flags = [i for i, argument in enumerate(arguments) if argument in ("-m", "--multirun")]
    is_override = [not argument.startswith("-") and ("=" in argument or "~" in argument) for argument in arguments]
    if flags and any(is_override[: flags[0]]) and any(is_override[flags[0] :]):
        overrides = " ".join(argument for i, argument in enumerate(arguments) if is_override[i])
        problems.append(f"overrides may not stand on both sides of `-m`. Try: sacpo {command} -m {overrides}")
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


def _check_stages(config: RunConfig) -> Iterator[str]:
    for name, stage in config.stages.items():
        key = f"stages.{name}"
        yield from _check_criterion(key, name, stage)
        yield from _check_loss(f"{key}.loss", stage)
        for field in NUMBERS:
            if getattr(stage, field) is None:
                yield f"`{key}.{field}` has no value. Try: {key}.{field}=..."
        if stage.dataset is not None:
            yield from _check_dataset(f"{key}.dataset", stage.dataset)
        yield from _check_batch(config, key, stage)
    for name in config.evaluated:
        if name not in known_criteria(config):
            yield (
                f"`evaluated` must name criteria that are known ({', '.join(known_criteria(config))}), but has {name}. "
                f"Try: +criterion@criteria.{name}={name}"
            )
    if not config.evaluated or len(set(config.evaluated)) < len(config.evaluated):
        yield f"`evaluated` must name one criterion or several, each once, but is {config.evaluated}."
    used = {
        name: known for name, known in known_criteria(config).items() if name in {*config.stages, *config.evaluated}
    }
    for name in used:
        if name in RESERVED:
            yield f"a criterion can't be called {name}, which is a field of every verdict. Try: another name"
    letters = [criterion.letter for criterion in used.values()]
    for letter in sorted({letter for letter in letters if letters.count(letter) > 1}):
        names = " and ".join(name for name, criterion in used.items() if criterion.letter == letter)
        yield f"`letter` must differ between criteria, but {names} have {letter}. Try: another one in conf/criterion"


def _check_criterion(key: str, name: str, stage: StageConfig) -> Iterator[str]:
    if stage.criterion is None:
        return
    if stage.criterion.name != name:
        yield (
            f"`{key}.criterion.name` must be {name}, as its stage is called, but is {stage.criterion.name}. A file of "
            f"conf/criterion/ begins with `# @package stages.{stage.criterion.name}`."
        )


def _check_loss(key: str, stage: StageConfig) -> Iterator[str]:
    """A loss of the stage's kind, with settings that it reads and that lie within their bounds."""
    loss = loss_of(stage)
    if (loss.view == View.responses) != (stage.criterion is None):
        kind = "be sft without a criterion" if stage.criterion is None else "read preferences"
        others = "" if stage.criterion is None else f" Try: {key}.name={trained_losses()[0]}"
        yield f"`{key}.name` must {kind}, but is {loss.name}.{others}"
        return
    for name in ("label_smoothing", "desirable_weight", "undesirable_weight"):
        value = getattr(stage.loss, name)
        if value is None:
            continue
        if name not in loss.settings:
            readers = ", ".join(other.name for other in LOSSES.values() if name in other.settings)
            yield f"`{key}.{name}={value:g}` has no effect: {loss.name} does not read it, but {readers} do."


def _check_batch(config: RunConfig, key: str, stage: StageConfig) -> Iterator[str]:
    """The global batch has to be a whole number of passes over what the machine takes at once."""
    hardware = config.hardware
    size = stage.global_batch_size or 0
    if min(size, hardware.processes, hardware.per_device_train_batch_size) < 1:
        return  # outside their bounds, which is said elsewhere
    per_device = per_device_batch_size(config, stage)
    if not _divides(size, hardware):
        near = _nearest_batches(size, hardware, loss_of(stage).least_rows)
        yield (
            f"`{key}.global_batch_size` = {stage.global_batch_size} can't be divided among `hardware.processes` = "
            f"{hardware.processes} with `hardware.per_device_train_batch_size` = "
            f"{hardware.per_device_train_batch_size}. Try: {key}.global_batch_size={near[0]} or {near[1]}"
        )
    elif per_device < (least := loss_of(stage).least_rows):
        yield (
            f"`{key}` uses {loss_of(stage).title}, which estimates its KL within the per-device batch and needs at "
            f"least {least} rows in it, but has {per_device}. Try: hardware.per_device_train_batch_size={least} "
            f"{key}.global_batch_size={8 * hardware.processes}"
        )


def per_device_batch_size(config: RunConfig, stage: StageConfig) -> int:
    """Rows per device and pass: what the hardware takes, or all of a smaller global batch."""
    share = (stage.global_batch_size or 1) // config.hardware.processes
    return max(1, min(config.hardware.per_device_train_batch_size, share))


def _divides(size: int, hardware: HardwareConfig) -> bool:
    """Whether a global batch is a whole number of passes of equal size on every process."""
    share, rest = divmod(size, hardware.processes)
    return rest == 0 and share > 0 and share % min(share, hardware.per_device_train_batch_size) == 0


def _nearest_batches(size: int, hardware: HardwareConfig, least_rows: int) -> list[int]:
    """The two global batches nearest to `size` that can be divided, the smaller one first."""
    processes, rows = hardware.processes, hardware.per_device_train_batch_size
    share, whole = size // processes, size // processes // rows * rows
    # A share of one pass may have any size; of several, it is a multiple of `rows`.
    shares = {min(share + step, rows) for step in (-1, 0, 1, 2)} | {whole + step * rows for step in (-1, 0, 1, 2)}
    least = min(rows, least_rows)
    can = sorted(processes * share for share in shares | {least, least + 1, rows - 1} if share >= least)
    return sorted(sorted(filter(partial(_divides, hardware=hardware), can), key=lambda batch: abs(batch - size))[:2])


def _check_merge(config: RunConfig) -> Iterator[str]:
    weights, q = merge_weights(config), config.merge_ratio
    if weights is None:
        if config.merge == MergeMethod.naive and not (
            isinstance(config, ChooseConfig) and config.over == Over.merge_ratio
        ):
            yield "`merge=naive` needs a ratio. Try: merge=naive merge_ratio=0.5"
        return
    if config.merge_weights is not None and q is not None:
        yield "`merge_ratio` has no effect beside `merge_weights`. Give one of the two."
    count, key = len(aligned_stages(config)), "merge_weights" if q is None else "merge_ratio"
    if count < 2:
        yield f"`{key}` needs two stages, but the chosen order has {('none', 'one')[count]}. Try: order=helpful_first"
    elif len(weights) != count:
        given = "is for two policies" if q is not None else f"has {len(weights)} number{'s' * (len(weights) != 1)}"
        given += f", but the order makes {count}"
        equal = [round(1 / count, 2)] * (count - 1)
        shares = ",".join(f"{weight:g}" for weight in (*equal, round(1 - sum(equal), 2)))
        yield f"`{key}` {given}. Try: merge_weights=[{shares}], one for each, which sum to 1"
    elif q is None and not (math.isclose(sum(weights), 1, abs_tol=1e-6) and all(weight >= 0 for weight in weights)):
        yield f"`{key}` must be numbers from 0 to 1 that sum to 1, but {list(weights)} sum to {sum(weights):g}."


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
    made = [policy_of(place) for place in range(len(aligned_stages(config)))]
    merged = ["merged"] if merge_weights(config) is not None else []
    return ["baseline", *others_of(config), *made, *merged]


def _check_lengths(config: RunConfig) -> Iterator[str]:
    lengths = config.optimization
    if 0 < lengths.max_length <= lengths.max_prompt_length:
        yield (
            f"`optimization.max_prompt_length` must be less than `optimization.max_length` = {lengths.max_length}, "
            f"but is {lengths.max_prompt_length}."
        )


def _check_no_effect(config: RunConfig, overrides: list[str]) -> Iterator[str]:
    stages = aligned_stages(config)
    given = {text.lstrip("+").split("=")[0]: text for text in overrides}
    if "earlier_betas" in given and len(stages) < 2:
        yield explain_no_effect(given["earlier_betas"])
    if config.merge == MergeMethod.naive:
        first, *others = [*stages, ""]
        own = r"stages\.(\w+)\.(?!beta|criterion|dataset)(.+)"
        for found in (re.fullmatch(own, key) for key in given):
            if found and found[1] in others:
                yield (
                    f"`{given[found[0]]}` has no effect: with merge=naive all stages are trained as the first. "
                    f"Try: stages.{first}.{found[2]}=VALUE"
                )
    if "beta" not in given:
        return
    if not stages:
        yield explain_no_effect(given["beta"])
        return
    name, last = list(stages.items())[-1]
    if last.beta != config.beta:
        yield f"`beta={config.beta:g}` has no effect: `stages.{name}.beta={last.beta:g}` overrules it. Give one."
