"""Rules that types and bounds can't express, one sentence for each that is broken, all reported together."""

import importlib.util
import math
import re
from collections.abc import Iterator
from pathlib import Path

from sacpo_exp.config.data import DatasetConfig, DatasetSource, PromptsSource
from sacpo_exp.config.environment import VARIABLE, check_mirror
from sacpo_exp.config.hardware import HardwareConfig, Offload, find_kernel_problems
from sacpo_exp.config.judges import OpenAIJudgeConfig, RewardModelJudgeConfig, ScorerJudgeConfig
from sacpo_exp.config.models import ALL_LINEAR, AdapterConfig, FloatType, check_model, is_model_folder
from sacpo_exp.config.schema import (
    AUTO,
    ChatConfig,
    Engine,
    EvalConfig,
    ExportConfig,
    Matches,
    MergeMethod,
    RunConfig,
    StageConfig,
    TrackerConfig,
)
from sacpo_exp.config.stages import (
    NUMBERS,
    POLICIES,
    REPOSITORY,
    aligned_stages,
    datasets_of,
    find_missing_inputs,
    known_criteria,
    loss_of,
    merge_weights,
    per_device_batch_size,
    policy_names,
    read_other,
)
from sacpo_exp.config.studies import (
    ChooseConfig,
    MultiplierConfig,
    Over,
    find_choice_problems,
    find_multiplier_problems,
)
from sacpo_exp.errors import ConfigError
from sacpo_exp.method.losses import LOSSES, View, trained_losses

#: Fields of a verdict; each criterion has one of its own name beside them.
RESERVED = ("prompt_id", "prompt", "kind", "category", "response", "opponent_response", "is_refusal", "refusal")
#: Keys of `prompts` that name files, by source.
PROMPT_FILES = {
    PromptsSource.sacpo: ("helpful_path", "safety_path"),
    PromptsSource.local: ("path",),
    PromptsSource.xstest: ("path",),
}


def find_run_problems(config: RunConfig, overrides: list[str]) -> list[str]:
    """Return one sentence for every rule that a composed configuration breaks.

    Settings without any effect are only visible in `overrides`, which are as the user typed them.
    """
    checks = [
        _check_stages,
        _check_datasets,
        _check_optimization,
        _check_criteria,
        _check_merge,
        _check_policies,
        _check_adapter,
        _check_judge,
        _check_prompts,
    ]
    problems = [problem for check in checks for problem in check(config)]
    problems += [*check_model("model", config.model), *_check_hardware(config.hardware)]
    problems += _check_no_effect(config, overrides)
    if config.store.mirror is not None:
        problems += check_mirror(config.store.mirror)
    if isinstance(config, EvalConfig):
        problems += _check_responses(config)
    if isinstance(config, ExportConfig) and config.folder is not None and Path(config.folder).expanduser().is_file():
        problems.append(f"`folder` must be a folder, but {config.folder} is a file.")
    if isinstance(config, ChatConfig) and config.generation.engine == Engine.vllm:
        problems.append("`generation.engine=vllm` answers in batches, chat one by one. Try: generation.engine=hf")
    engines, shared = config.hardware.processes // max(1, config.hardware.nodes), config.generation.tensor_parallel_size
    if config.generation.engine == Engine.vllm and shared > 0 and engines % shared:
        devices = f"the {engines} devices of a node"
        problems.append(f"`generation.tensor_parallel_size` must divide {devices}, but is {shared}. Try: 1")
    if isinstance(config, ChooseConfig):
        problems += find_choice_problems(config, overrides)
    if isinstance(config, MultiplierConfig):
        problems += find_multiplier_problems(config)
    return problems


def _check_stages(config: RunConfig) -> Iterator[str]:
    for name, stage in config.stages.items():
        key, loss = f"stages.{name}", loss_of(stage)
        if stage.criterion and stage.criterion.name != name:
            hint = f"begin its file with `# @package stages.{stage.criterion.name}`"
            yield f"`{key}.criterion.name` must be {name}, but is {stage.criterion.name}. Try: {hint}"
        if stage.criterion is None and loss.view != View.responses:
            yield f"`{key}.loss.name` must be sft without a criterion, but is {loss.name}."
        elif stage.criterion is not None and loss.view == View.responses:
            hint = f"{key}.loss.name={trained_losses()[0]}"
            yield f"`{key}.loss.name` must read preferences, but is {loss.name}. Try: {hint}"
        for setting, value in vars(stage.loss).items():
            if setting != "name" and value is not None and setting not in loss.settings:
                readers = ", ".join(other.name for other in LOSSES.values() if setting in other.settings)
                yield f"`{key}.loss.{setting}={value:g}` has no effect: {loss.name} does not read it, but {readers} do."
        yield from find_missing_inputs(config, name, stage)
        for number in NUMBERS:
            if getattr(stage, number) is None:
                yield f"`{key}.{number}` has no value. Try: {key}.{number}=..."
        yield from _check_batch(config, key, stage)


def _check_optimization(config: RunConfig) -> Iterator[str]:
    settings = config.optimization
    whole, prompt = settings.max_length, settings.max_prompt_length
    for key, value in (("max_length", whole), ("max_prompt_length", prompt)):
        if value != AUTO and type(value) is not int:
            yield f"`optimization.{key}` must be a number of tokens or {AUTO}, but is {value}."
    if isinstance(whole, int) and isinstance(prompt, int) and 0 < whole <= prompt:
        most = f"`optimization.max_length` = {whole}"
        yield f"`optimization.max_prompt_length` must be less than {most}, but is {prompt}."
    is_short = (settings.dtype, settings.autocast, config.adapter) == (FloatType.bfloat16, None, None)
    is_whole = config.hardware.zero_stage in (0, 3) and config.hardware.offload_optimizer == Offload.none
    yield from find_kernel_problems(config.hardware, settings.is_short)
    if not settings.float32_copy and not (is_short and is_whole):  # TRL scores the reference without ZeRO 1 and 2
        needs = "optimization.dtype=bfloat16 optimization.autocast=null adapter=none hardware.offload_optimizer=none"
        yield f"`optimization.float32_copy=false` needs {needs}, and hardware.zero_stage=3 or 0."


def _check_batch(config: RunConfig, key: str, stage: StageConfig) -> Iterator[str]:
    """Check that the global batch is a whole number of passes of the hardware."""
    hardware, size, loss = config.hardware, stage.global_batch_size or 0, loss_of(stage)
    processes, rows = hardware.processes, hardware.per_device_train_batch_size
    if min(size, processes, rows) < 1:
        return  # outside their bounds
    if size % processes or size // processes % min(size // processes, rows):
        whole = processes * rows
        near = size // whole * whole or processes * loss.least_rows
        yield (
            f"`{key}.global_batch_size` = {size} can't be divided among `hardware.processes` = {processes} with "
            f"`hardware.per_device_train_batch_size` = {rows}. "
            f"Try: {key}.global_batch_size={near} or {size // whole * whole + whole}"
        )
    elif (share := per_device_batch_size(config, stage)) < loss.least_rows:
        yield (
            f"`{key}` uses {loss.title}, which estimates its KL within the per-device batch and needs at least "
            f"{loss.least_rows} rows in it, but has {share}. Try: hardware.per_device_train_batch_size="
            f"{loss.least_rows} {key}.global_batch_size={8 * processes}"
        )


def _check_criteria(config: RunConfig) -> Iterator[str]:
    known = known_criteria(config)
    used = {name: known[name] for name in known if name in {*config.stages, *config.evaluated}}
    if not config.evaluated or len(set(config.evaluated)) < len(config.evaluated):
        yield f"`evaluated` must name one criterion or several, each once, but is {config.evaluated}."
    for name in (name for name in config.evaluated if name not in known):
        hint = f"+criterion@criteria.{name}={name}"
        yield f"`evaluated` must name known criteria ({', '.join(known)}), but has {name}. Try: {hint}"
    for name in (name for name in used if name in RESERVED):
        yield f"a criterion can't be called {name}, which is a field of every verdict. Try: another name"
    letters = [criterion.letter for criterion in used.values()]
    for letter in sorted({letter for letter in letters if letters.count(letter) > 1}):
        names = " and ".join(name for name, criterion in used.items() if criterion.letter == letter)
        yield f"`letter` must differ between criteria, but {names} have {letter}. Try: another one in conf/criterion"


def _check_merge(config: RunConfig) -> Iterator[str]:
    weights, count = merge_weights(config), len(aligned_stages(config))
    is_swept = isinstance(config, ChooseConfig) and config.over == Over.merge_ratio
    if weights is None:
        if config.merge == MergeMethod.naive and not is_swept:
            yield "`merge=naive` needs a ratio. Try: merge=naive merge_ratio=0.5"
        return
    key = "merge_weights" if config.merge_ratio is None else "merge_ratio"
    if config.merge_weights is not None and config.merge_ratio is not None:
        yield "`merge_ratio` has no effect beside `merge_weights`. Give one of the two."
    if count < 2:
        yield f"`{key}` needs two stages, but the chosen order has {('none', 'one')[count]}. Try: order=helpful_first"
    elif len(weights) != count:
        shares = [round(1 / count, 2)] * (count - 1)
        hint = ",".join(f"{weight:g}" for weight in (*shares, round(1 - sum(shares), 2)))
        yield f"`{key}` gives {len(weights)} weights, but the order makes {count} policies. Try: merge_weights=[{hint}]"
    elif config.merge_weights and (not math.isclose(sum(weights), 1, abs_tol=1e-6) or min(weights) < 0):
        yield f"`{key}` must be numbers from 0 to 1 that sum to 1, but {list(weights)} sum to {sum(weights):g}."


def _check_datasets(config: RunConfig) -> Iterator[str]:
    # Other paths may be made of the run's, so that one comes first.
    problems = [*_check_dataset("dataset", config.dataset)]
    yield from problems or (problem for entry in datasets_of(config).items() for problem in _check_dataset(*entry))


def _check_dataset(key: str, dataset: DatasetConfig) -> Iterator[str]:
    if dataset.source == DatasetSource.hub and not dataset.path:
        yield f"`{key}.path` must be a repository on the hub, but is null. Try: {key}.path=OWNER/NAME"
    if dataset.source != DatasetSource.path:
        return
    paths = {f"{key}.path": dataset.path}
    if dataset.path and dataset.heldout_path:
        paths[f"{key}.heldout_path"] = dataset.heldout_path
    for name, path in paths.items():
        if not path or not Path(path).expanduser().exists():
            yield f"`{name}` must be a file or folder, but {path or 'null'} does not exist. Try: {name}=FILE.jsonl"


def _check_policies(config: RunConfig) -> Iterator[str]:
    for text in config.others:
        if not is_model_folder(text) and not REPOSITORY.fullmatch(text):
            hint = "others=[OWNER/NAME@COMMIT]"
            yield f"`others` must name repositories on the hub or folders of saved models, but has {text}. Try: {hint}"
    names = [read_other(config.model, text)[0] for text in config.others]
    for name in sorted({name for name in names if names.count(name) > 1 or name in POLICIES}):
        yield f"`others` must differ in the last part of their paths, and from names of policies, but has {name} twice."
    if config.policies in ("final", "all"):
        return
    if not isinstance(config.policies, list) or not config.policies:
        yield f"`policies` must be final, all or a list of {', '.join(POLICIES)}, but is {config.policies!r}."
        return
    known = policy_names(config)
    for name in (name for name in config.policies if name not in known):
        yield f"`policies` must name policies of the plan ({', '.join(known)}), but has {name!r}."


def _check_hardware(hardware: HardwareConfig) -> Iterator[str]:
    for name, least in {"offload_optimizer": 1, "offload_param": 3}.items():
        if getattr(hardware, name) != Offload.none and hardware.zero_stage < least:
            reason = f"needs ZeRO stage {least}, but `hardware.zero_stage` is {hardware.zero_stage}"
            yield f"`hardware.{name}=cpu` {reason}. Try: hardware.zero_stage={max(least, 2)}"
    if min(hardware.nodes, hardware.processes) < 1:
        return  # outside their bounds
    if hardware.processes % hardware.nodes:
        rule = f"counts those of all nodes and must be a multiple of `hardware.nodes` = {hardware.nodes}"
        yield f"`hardware.processes` {rule}, but is {hardware.processes}."


def _check_adapter(config: RunConfig) -> Iterator[str]:
    if config.adapter is None:
        return
    names = config.adapter.target_modules
    if not names or (ALL_LINEAR in names and len(names) > 1):
        yield f"`adapter.target_modules` must be [{ALL_LINEAR}] or a list of layers, but is {names}."
    for name in ("lm_head", "embed_tokens"):  # TRL 1.16 reads the head's own weights only; embeddings are not linear
        if name in names:
            yield f"`adapter.target_modules` must name linear layers inside the model, but has {name}."
    if config.adapter.quantize and config.hardware.zero_stage == 3:
        hint = "hardware.zero_stage=2, or adapter=lora"
        yield f"`hardware.zero_stage=3` can't shard quantised weights (`adapter.quantize`). Try: {hint}"


def check_quantisation(adapter: AdapterConfig | None) -> None:
    """Raise ConfigError if weights are to be quantised and bitsandbytes is not installed."""
    if adapter is not None and adapter.quantize and importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(
            f"`adapter={adapter.name}` quantises weights with bitsandbytes, which is not installed. "
            "Try: pip install bitsandbytes==0.50.2, or adapter=lora"
        )


def find_tracker_problems(tracker: TrackerConfig) -> Iterator[str]:
    """Report a tracker whose package is not installed, before anything is trained for it."""
    spec = importlib.util.find_spec("mlflow")
    if tracker.mlflow is not None and (spec is None or spec.origin is None):  # a folder `mlflow` here has no origin
        yield "`tracker=mlflow` needs a package that is not installed. Try: pip install 'sacpo_exp[mlflow]'"


def _check_judge(config: RunConfig) -> Iterator[str]:
    judge = config.judge
    if isinstance(judge, ScorerJudgeConfig):
        yield from check_model("judge.encoder", judge.encoder)
    elif isinstance(judge, RewardModelJudgeConfig):
        for name, head in judge.heads.items():
            yield from check_model(f"judge.heads.{name}.model", head.model)
    elif isinstance(judge, OpenAIJudgeConfig):
        yield from _check_openai(judge)
    elif isinstance(config, EvalConfig) and config.responses:
        yield "`responses` are judged, but judge=none judges nothing. Try: judge=openai"


def _check_prompts(config: RunConfig) -> Iterator[str]:
    prompts, keys = config.prompts, PROMPT_FILES.get(config.prompts.source, ())
    # Training does not read the prompts, and a dry run can count with the expected sizes.
    may_lack = prompts.foreseen is not None and (
        config.dry_run or not (isinstance(config, EvalConfig) or config.log_completions)
    )
    paths = {key: getattr(prompts, key) for key in keys}
    if prompts.source == PromptsSource.hub and not prompts.path:
        yield "`prompts.path` must be a repository on the hub, but is null. Try: prompts.path=OWNER/NAME"
    if keys and not any(paths.values()) and not may_lack:
        names, hint = " and ".join(f"`prompts.{key}`" for key in keys), " ".join(f"prompts.{key}=FILE" for key in keys)
        yield f"{names} must be a file{' each' * (len(keys) > 1)}, but nothing is given. Try: {hint}"
    for key, path in paths.items():
        if path and not Path(path).expanduser().exists():
            yield f"`prompts.{key}` must be a file, but {path} does not exist."


def _check_openai(judge: OpenAIJudgeConfig) -> Iterator[str]:
    if not judge.min_score < judge.max_score:
        low = f"`judge.min_score` = {judge.min_score:g}"
        yield f"`judge.max_score` must be greater than {low}, but is {judge.max_score:g}."
    if judge.base_url is not None and not judge.base_url.startswith(("http://", "https://")):
        hint = "judge.base_url=http://localhost:8000/v1"
        yield f"`judge.base_url` must begin with http:// or https://, but is {judge.base_url}. Try: {hint}"
    if judge.api_key_env is not None and not VARIABLE.fullmatch(judge.api_key_env):
        yield "`judge.api_key_env` must be the name of an environment variable, or null, but is neither."
    if (judge.price.input is None) != (judge.price.output is None):
        lacking = "output" if judge.price.output is None else "input"
        yield f"`judge.price` must have both `input` and `output`, but lacks one. Try: judge.price.{lacking}=..."


def _check_responses(config: EvalConfig) -> Iterator[str]:
    if config.baseline is not None and not config.responses:
        yield f"`baseline={config.baseline}` has no effect: it names one of `responses`. Try: responses=[FILE,FILE]"
    if config.matches == Matches.all_pairs and len(config.responses) == 1 and "*" not in config.responses[0]:
        yield "`responses` must name at least two files or folders, but names one."
    for pattern in config.responses:
        if "*" not in pattern and not Path(pattern).expanduser().exists():
            yield f"`responses` must name files or folders, but {pattern} does not exist."


def _check_no_effect(config: RunConfig, overrides: list[str]) -> Iterator[str]:
    """Report overrides that this composition does not read."""
    stages, given = aligned_stages(config), {text.lstrip("+").split("=")[0]: text for text in overrides}
    if "earlier_betas" in given and len(stages) < 2:
        yield f"`{given['earlier_betas']}` has no effect: only one stage is aligned. Try: beta=VALUE"
    if "beta" in given and not stages:
        yield f"`{given['beta']}` has no effect: the chosen order has no stage. Try: order=helpful_first"
    elif "beta" in given and (last := list(stages.values())[-1]).beta != config.beta:
        name = list(stages)[-1]
        yield f"`beta={config.beta:g}` has no effect: `stages.{name}.beta={last.beta:g}` overrules it. Give one."
    for key in given if config.merge == MergeMethod.naive else []:
        match = re.fullmatch(r"stages\.(\w+)\.(?!beta|criterion|dataset)(.+)", key)
        if match and match[1] in list(stages)[1:]:
            hint = f"stages.{next(iter(stages))}.{match[2]}=VALUE"
            yield f"`{given[key]}` has no effect: with merge=naive all stages are trained like the first. Try: {hint}"
