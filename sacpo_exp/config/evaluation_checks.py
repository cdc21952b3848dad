"""Checks of what an evaluation is made of: prompts, judge, imported responses, report."""

import math
import re
from collections.abc import Iterator
from pathlib import Path

from sacpo_exp.config.judges import OpenAIJudgeConfig, PriceConfig, RewardModelJudgeConfig, ScorerJudgeConfig
from sacpo_exp.config.models import ModelConfig, ModelSource, find_model_problems
from sacpo_exp.config.schema import (
    Engine,
    EvalConfig,
    JudgeConfig,
    Matches,
    PromptsConfig,
    PromptsSource,
    RunConfig,
)
from sacpo_exp.config.store import holds_secret

#: Keys of `prompts` that hold a path, by source.
PROMPT_PATHS = {
    PromptsSource.demo: (),
    PromptsSource.sacpo: ("helpful_path", "safety_path"),
    PromptsSource.local: ("path",),
    PromptsSource.xstest: ("path",),
}


#: Settings that would hold a secret, if there were any: at the beginning of an override, or inside of a mapping.
SECRET = re.compile(r"""(?:^|[{,.+\s])['"]?(\w*(?:api_?key|_token|password|secret))['"]?\s*[=:]""", re.IGNORECASE)
VARIABLE = re.compile(r"[A-Za-z_]\w*")


def find_secret_problems(override: str) -> Iterator[str]:
    """What must not be written down, which Hydra does with every override; it is not repeated."""
    name, _, value = override.partition("=")
    hint = "Try: export NAME=... judge.api_key_env=NAME; conf/judge says which name each judge has by itself"
    if found := SECRET.search(override):
        yield f"`{found[1]}` can't be a setting, since settings are written to disk, and keys must not be. {hint}"
    elif name.endswith("judge.base_url") and holds_secret(value):
        yield f"`{name.lstrip('+')}` must be an address without user, password or query. {hint}"
    elif name.endswith("api_key_env") and not VARIABLE.fullmatch(value):
        yield f"`{name.lstrip('+')}` must be the name of an environment variable, or null. {hint}"


def find_evaluation_problems(config: RunConfig) -> Iterator[str]:
    """What is wrong with the prompts, the judge, and who meets whom."""
    # Only who asks the prompts needs them, and a dry run may count with those foreseen.
    may_lack = config.prompts.foreseen is not None and (config.dry_run or not isinstance(config, EvalConfig))
    yield from _check_prompts(config.prompts, may_lack)
    yield from check_judge(config.judge)
    yield from _check_engine(config)
    if isinstance(config, EvalConfig):
        yield from _check_responses(config)


def _check_engine(config: RunConfig) -> Iterator[str]:
    generation, hardware, shape = config.generation, config.hardware, config.model.shape
    if generation.engine != Engine.vllm:
        if generation.python is not None:
            yield f"`generation.python={generation.python}` has no effect: only generation.engine=vllm reads it."
        return
    here = hardware.processes // max(1, hardware.nodes)
    if shape is not None and here > 0 and shape.num_attention_heads % here:
        yield (
            "`generation.engine=vllm` splits the attention heads over the devices, but `model` has "
            f"{shape.num_attention_heads} heads and `hardware.processes` says {here} per node. "
            "Try: hardware.processes=1"
        )


def check_model(key: str, model: ModelConfig) -> Iterator[str]:
    """What is wrong with the model at `key`."""
    if model.source == ModelSource.path:
        folder = Path(model.path or "").expanduser()
        if model.path is None:
            yield f"`{key}.path` must be the folder of a saved model, but is null. Try: {key}.path=DIR"
        elif not (folder / "config.json").is_file():
            found = "is not there" if not folder.exists() else "has no config.json"
            yield f"`{key}.path` must be the folder of a saved model, but {model.path} {found}."
    if model.source == ModelSource.scratch and model.shape is None:
        yield f"`{key}.shape` must give the shape of the model, but is null."
    yield from find_model_problems(key, model)


def check_judge(judge: JudgeConfig) -> Iterator[str]:
    """What is wrong with the judge, whatever its kind."""
    if isinstance(judge, ScorerJudgeConfig):
        yield from check_model("judge.encoder", judge.encoder)
        yield from _require(judge, {"layer": 1, "max_length": 1})
    elif isinstance(judge, RewardModelJudgeConfig):
        for name, head in judge.heads.items():
            yield from check_model(f"judge.heads.{name}.model", head.model)
        yield from _require(judge, {"max_length": 1, "batch_size": 1})
    elif isinstance(judge, OpenAIJudgeConfig):
        yield from _check_openai(judge)


def _check_openai(judge: OpenAIJudgeConfig) -> Iterator[str]:
    counts = ("repeats", "max_tokens", "concurrency", "max_attempts", "max_failures", "max_calls")
    yield from _require(judge, dict.fromkeys(counts, 1) | {"seed": 0})
    for name in ("timeout", "budget_usd"):
        value = getattr(judge, name)
        if value is not None and not (math.isfinite(value) and value > 0):
            hint = " Try: judge.budget_usd=null for no limit." if name == "budget_usd" else ""
            yield f"`judge.{name}` must be greater than 0, but is {value:g}.{hint}"
    if judge.temperature is not None and not 0 <= judge.temperature <= 2:
        yield f"`judge.temperature` must lie between 0 and 2, but is {judge.temperature:g}."
    if not judge.min_score < judge.max_score:
        least = f"`judge.min_score` = {judge.min_score:g}"
        yield f"`judge.max_score` must be greater than {least}, but is {judge.max_score:g}."
    if judge.base_url is not None and not judge.base_url.startswith(("http://", "https://")):
        yield (
            f"`judge.base_url` must be an address that begins with http:// or https://, but is {judge.base_url}. "
            "Try: judge.base_url=http://localhost:8000/v1"
        )
    if judge.api_key_env is not None and not VARIABLE.fullmatch(judge.api_key_env):
        yield "`judge.api_key_env` must be the name of an environment variable, or null, but is none."
    yield from _check_price(judge.price)


def _check_price(price: PriceConfig) -> Iterator[str]:
    if (price.input is None) != (price.output is None):
        lacking = "output" if price.output is None else "input"
        yield f"`judge.price` must have both `input` and `output`, but lacks one. Try: judge.price.{lacking}=..."
    for name, value in vars(price).items():
        if value is not None and not (math.isfinite(value) and value >= 0):
            yield f"`judge.price.{name}` must be at least 0 US dollars per million tokens, but is {value:g}."


def _require(judge: JudgeConfig, least: dict[str, int]) -> Iterator[str]:
    for name, bound in least.items():
        value = getattr(judge, name)
        if value is not None and value < bound:
            yield f"`judge.{name}` must be at least {bound}, but is {value}."


def _check_prompts(prompts: PromptsConfig, may_lack: bool) -> Iterator[str]:
    keys = PROMPT_PATHS[prompts.source]
    paths = {key: getattr(prompts, key) for key in keys}
    if keys and not any(paths.values()) and not may_lack:
        yield f"`prompts.{keys[0]}` must be a file, but is null. Try: prompts.{keys[0]}=FILE"
    for key, path in paths.items():
        if path and not Path(path).expanduser().exists():
            yield f"`prompts.{key}` must be a file, but {path} is not there."
    for key in {key for keys in PROMPT_PATHS.values() for key in keys} - set(keys):
        if getattr(prompts, key) is not None:
            yield f"`prompts.{key}` has no effect: prompts={prompts.name} does not read it."


def _check_responses(config: EvalConfig) -> Iterator[str]:
    if not config.responses:
        if config.baseline is not None:
            yield f"`baseline={config.baseline}` has no effect: it names one of `responses`. Try: responses=[FILE,FILE]"
        return
    if config.matches == Matches.all_pairs and len(config.responses) == 1 and "*" not in config.responses[0]:
        yield "`responses` must name at least two files or folders, but names one."
    for pattern in config.responses:
        if "*" not in pattern and not Path(pattern).expanduser().exists():
            yield f"`responses` must name files or folders, but {pattern} is not there."
