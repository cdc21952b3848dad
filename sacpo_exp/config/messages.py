"""Texts for the user: `sacpo COMMAND --help`, and errors of Hydra and OmegaConf in one sentence each."""

import difflib
import itertools
import re
import sys
import textwrap
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import yaml
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from sacpo_exp.config import CONF
from sacpo_exp.config import schema as schemas
from sacpo_exp.config.bounds import walk
from sacpo_exp.config.judges import JUDGES
from sacpo_exp.config.schema import JudgeConfig, ReportConfig, RunConfig
from sacpo_exp.config.studies import ChooseConfig, MultiplierConfig, OracleConfig
from sacpo_exp.errors import ConfigError

SCHEMAS: dict[str, type] = {
    "train": RunConfig,
    "eval": schemas.EvalConfig,
    "choose": ChooseConfig,
    "multiplier": MultiplierConfig,
    "prepare": schemas.PrepareConfig,
    "export": schemas.ExportConfig,
    "chat": schemas.ChatConfig,
    "report": ReportConfig,
    "oracle": OracleConfig,
}
#: Groups in the order of `--help`, with what an option of them chooses.
GROUPS = {
    "experiment": "preset: an experiment of the paper, the same on a small model, or a study",
    "model": "model that is aligned",
    "dataset": "preference data; dataset@stages.NAME.dataset=OPTION for one stage",
    "base": "supervised fine-tuning before the first stage, or none",
    "order": "criteria of the stages and their order; criterion=[A,B] gives any other list",
    "objective": "losses of the stages, by position",
    "optimization": "learning rates, epochs, batch sizes, precision; by default those of the model",
    "adapter": "what is trained: all weights or low-rank adapters",
    "hardware": "processes, rows per device, ZeRO stage",
    "generation": "how policies generate responses",
    "prompts": "evaluation prompts",
    "judge": "who compares the responses",
    "tracker": "where curves and scores are sent; tracker=[A,B] for several",
    "hydra/launcher": "how the jobs of a sweep (-m) are run",
}
#: Arguments that the project sets, with the key to use instead; None: there is none.
OWNED: dict[str, str | None] = {
    name: key.replace("*", name)
    for key, names in {
        "stages.NAME.*=VALUE": ("learning_rate", "num_train_epochs", "beta"),
        "stages.NAME.loss.*=VALUE": ("label_smoothing", "desirable_weight", "undesirable_weight"),
        "stages.NAME.loss.name=LOSS": ("loss_type", "loss_weights"),
        "stages.NAME.global_batch_size=VALUE": ("gradient_accumulation_steps",),
        "optimization.*=VALUE": ("optim", "lr_scheduler_type", "max_length", "max_prompt_length", "warmup_ratio"),
        "optimization.warmup_ratio=VALUE": ("warmup_steps",),
        "optimization.dtype=TYPE optimization.autocast=TYPE": ("bf16", "fp16"),
        "hardware.*=VALUE": (
            *("per_device_train_batch_size", "per_device_eval_batch_size"),
            *("logging_steps", "tf32", "activation_checkpointing", "padding_free"),
        ),
        "hardware.save_minutes=VALUE": ("save_steps", "save_strategy"),
        "hardware.activation_checkpointing=VALUE": ("gradient_checkpointing",),
        "hardware.zero_stage=VALUE": ("deepspeed", "fsdp"),
        "hardware.accelerator=cpu": ("use_cpu",),
        "hardware.liger=true": ("use_liger_kernel",),
        "tracker=wandb": ("report_to",),
        "seed=VALUE": ("seed",),
        "paths.outputs=FOLDER": ("output_dir",),
    }.items()
    for name in names
} | dict.fromkeys(
    (
        *("run_name", "save_total_limit", "resume_from_checkpoint", "push_to_hub", "disable_tqdm"),
        *("precompute_ref_log_probs", "precompute_ref_batch_size", "remove_unused_columns"),
    )
)
ONLY_TRACKER = ("report", "oracle")  # commands that read no other group
#: Keys that no file shows as `KEY=VALUE`, for the commands with stages.
FURTHER = (
    ("stages.NAME.KEY=VALUE", "of one stage: beta, learning_rate, num_train_epochs, global_batch_size, loss.name"),
    ("trainer.KEY=VALUE", "any argument of TRL's trainers, for all stages; stages.NAME.trainer.KEY=VALUE for one"),
    ("model.path=DIR", "with model=local: folder of the model"),
    ("dataset.path=FILE", "with dataset=local: file or folder with the rows"),
    ("prompts.path=FILE", "with prompts=local: file with the prompts"),
    ("paths.outputs=DIR", "where everything is written and found again (default: outputs)"),
)
TEXT = """{heading}

usage: sacpo {command} [-m] [GROUP=OPTION ...] [KEY=VALUE ...]

groups, with the default in brackets:
{groups}

settings, with their defaults:
{settings}

options:
  -m, --multirun                run once for every combination of values separated by commas
  --cfg job                     print the whole composed configuration
  --hydra-help                  further options of Hydra

Every setting with its type, bounds and default: page Reference of the documentation (`make docs`)."""
#: How alike a key and a suggestion must be, by difflib's ratio, where their last parts differ.
NEAR = 0.8
#: OmegaConf's names of types, for messages.
KINDS = {"Float": "a number", "Integer": "a whole number", "bool": "true or false"}


@contextmanager
def translated_errors(config_name: str) -> Iterator[None]:
    """Turn an error of Hydra or OmegaConf into a `ConfigError`."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        cause = error.__cause__ if isinstance(error, HydraException) else error
        raise ConfigError(_explain(str(error), cause, SCHEMAS[config_name])) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{mark.name}, line {mark.line + 1}" if mark else "a configuration file"
        raise ConfigError(f"{where}: this is not YAML: {error.problem or error.context}.") from error
    except (ValueError, AssertionError) as error:
        modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
        if not modules[-1].startswith(("hydra.", "omegaconf.")) or "sacpo_exp.cluster.commands" in modules[2:]:
            raise
        # OmegaConf asserts for a key below a node that is null
        parts = r"\+*(tracker\.\w+|(stages|criteria)\.\w+\.dataset)\."
        idle = [f"`{text}` has no effect: that part is not chosen." for text in sys.argv[1:] if re.match(parts, text)]
        raise ConfigError(idle or f"an override can't be read: {str(error).splitlines()[0]}.") from error


def known_keys(schema: type) -> list[str]:
    """Return all dotted keys of a dataclass and of those inside it; NAME stands for the keys of a mapping."""
    keys = []
    for name, hint in get_type_hints(schema).items():
        keys.append(name)
        inner = [kind for kind in (hint, *get_args(hint)) if is_dataclass(kind)]
        if hint is JudgeConfig:
            inner = list(JUDGES.values())
        below = f"{name}.NAME" if get_origin(hint) is dict else name
        keys += [f"{below}.{key}" for kind in inner for key in known_keys(kind)]  # type: ignore[arg-type]
    return list(dict.fromkeys(keys))


def find_unknown_keys(composed: Any, schema: type) -> list[str]:
    """Return the dotted keys of a composed mapping that its dataclass lacks; `+key=...` can add them."""
    return [
        f"{prefix}{key}"
        for prefix, node, kind in walk(composed, schema)
        for key in node
        if key not in {field.name for field in fields(kind)}
    ]


def explain_unknown_key(key: str, schema: type, groups: Sequence[str] = ()) -> str:
    """Return one sentence for a key that does not exist, with one of the same last part, or else the nearest."""
    words = key.split(".")
    # `key` itself can be among them: a group that this command does not have
    keys = (name for name in (*known_keys(schema), *groups) if name != key)
    candidates = [name for name in keys if not name.startswith("stage_defaults.")]
    if len(words) > 2:
        candidates = [name.replace(f"{words[0]}.NAME.", f"{words[0]}.{words[1]}.") for name in candidates]
    same = [name for name in candidates if name.rsplit(".", 1)[-1] == words[-1]]
    of_stages = [name for name in same if name.startswith("stages.")]
    near = of_stages or difflib.get_close_matches(key, same, cutoff=0) or difflib.get_close_matches(key, candidates)
    if not same and words[-1] in OWNED:
        hint = f" Try: {OWNED[words[-1]]}" if OWNED[words[-1]] else " The project sets it."
    elif not same and words[-1] in find_trainer_arguments():
        hint = f" Try: trainer.{words[-1]}=VALUE"
    elif near and (same or difflib.SequenceMatcher(None, key, near[0]).ratio() > NEAR):
        hint = f" Did you mean `{near[0]}`?"
    else:
        hint = " `--cfg job` lists all keys."
    return f"`{key}` is not a setting.{hint}"


def find_trainer_arguments() -> set[str]:
    """Return the arguments of transformers' and TRL's trainers, read from their sources, without importing torch."""
    sources = (("transformers", "training_args.py"), ("trl", "trainer/dpo_config.py"))
    paths = [Path(str(distribution(package).locate_file(f"{package}/{file}"))) for package, file in sources]
    return {name for path in paths for name in re.findall(r"(?m)^    (\w+): ", path.read_text("utf-8"))}


def explain_stage(override: str) -> str:
    """Return one sentence for an override of a stage that this composition does not have."""
    name = re.sub(r".*\bstages\.", "", override.split("=")[0]).split(".")[0]
    if name == "sft":
        return f"`{override}` has no effect: there is no such stage with base=none. Try: base=sft"
    criteria = read_options("criterion")
    hint = "" if name in criteria else did_you_mean(name, criteria)
    hint = hint or f" Try: order=helpful_first, or {name} in criterion=[...]"
    return f"`{override}` has no effect: the chosen order has no stage for {name}.{hint}"


def did_you_mean(word: str, options: Sequence[str]) -> str:
    """Return a question with the option nearest to `word`, after a space; empty if none is near."""
    near = difflib.get_close_matches(word, options, n=1)
    return f" Did you mean `{near[0]}`?" if near else ""


def _explain(message: str, cause: BaseException | None, schema: type) -> str:
    """Return one sentence for Hydra's or OmegaConf's message."""
    text = " ".join(message.split("\nSee https")[0].split())
    if match := re.search(r"Could not (?:find|load) '(.+)/([^/']*)'", message):
        return _explain_option(match[1], match[2])
    if match := re.search(r"(?s)^In '([^']+)'.*full_key: (\S+)", message):  # in a file
        is_unknown = re.search(r"Key '\S+' (is )?not in", message)
        value = f"`{match[2]}` has a wrong value: {_explain_value(message.partition(chr(10))[2])}."
        return f"{match[1]}.yaml: {explain_unknown_key(match[2], schema) if is_unknown else value}"
    if match := re.search(r"Could not override '([^']+)'|Override (\S+?)=\S* looks like a config group", message):
        key = match[1] or match[2]
        if "@stages." in key or "reference_type=Dict[str, StageConfig]" in str(cause):
            override = re.search(r"use \+(.+)", message)
            return explain_stage(override[1] if override else key)
        return explain_unknown_key(key, schema, sorted(path.name for path in CONF.iterdir() if path.is_dir()))
    if match := re.search(r"Multiple values for (\S+)\. To override a value use 'override \S+: (.*)'", message):
        return f"`+{match[1]}={match[2]}` adds a second one. Try: {match[1]}={match[2]}"
    if match := re.search(r"Error merging override \+*(\S+?)=(.*)", message):
        if "not a subclass of StageConfig" in str(cause):
            return explain_stage(f"{match[1]}={match[2]}")
        return f"`{match[1]}` can't be {match[2] or 'empty'}: {_explain_value(str(cause))}."
    if re.search("Error parsing override|mismatched|no viable|extraneous", message):
        return f"an override can't be read: {text}. Try: key=value without spaces, in quotes if it has brackets."
    return text


def _explain_value(text: str) -> str:
    """Return what a value must be, from OmegaConf's message about it."""
    text = text.splitlines()[0] if text else "the value does not fit"
    if match := re.search(r"could not be converted to (\w+)|is not a valid (bool)", text):
        kind = match[1] or match[2]
        return f"it must be {KINDS.get(kind, kind)}"
    if match := re.search(r"expected one of \[(.*)\]", text):
        return f"it must be one of {match[1]}"
    return "it must be a list, as [a,b]" if "is not a ListConfig" in text else text


def _explain_option(group: str, option: str) -> str:
    """Return one sentence for an option that a group does not have."""
    if option == "submitit_slurm":  # what `slurm` is built on
        hint = "pip install hydra-submitit-launcher==1.2.0"
        return f"`hydra/launcher=slurm` needs submitit, which is not installed. Try: {hint}"
    if group == "hydra/sweeper":
        reason = "Hydra's basic one tries all combinations"
        return f"`{group}` has no option `{option}`; {reason}. Try: wandb sweep launchers/wandb_sweep.yaml"
    while not (CONF / group).is_dir() and "/" in group:  # a repository, as in model=OWNER/NAME
        group, _, first = group.rpartition("/")
        option = f"{first}/{option}"
    if "/" in option and group in ("model", "dataset"):
        return f"`{group}` has no option `{option}`. Try: {group}=hub {group}.path={option}"
    # The user's folder, as `--config-dir DIR`, `--config-dir=DIR` or with `-cd`.
    places = [CONF, *map(Path, re.findall(r"\n(?:--config-dir|-cd)[=\n](.+)", "\n".join(sys.argv)))]
    paths = (path.relative_to(place / group) for place in places for path in (place / group).rglob("*.yaml"))
    options = sorted({str(path.with_suffix("")) for path in paths})
    hint = did_you_mean(option, options)
    if group == "optimization" and not hint:  # `optimization: ${model}`
        hint = f" Every model has numbers of its own. Try: optimization=paper, or a file optimization/{option}.yaml"
    return f"`{group}` has no option `{option}`; it has {', '.join(options)}.{hint}"


class Setting(NamedTuple):
    """One key of a configuration file, as it is written there, with the comment beside it."""

    key: str
    value: str
    comment: str


def read_heading(path: Path) -> str:
    """Return the comment at the top of a configuration file."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), path.read_text("utf-8").splitlines())
    return " ".join(line.lstrip("# ") for line in lines)


def read_settings(path: Path) -> list[Setting]:
    """Return the settings of a configuration file in order, without its defaults list and Hydra's own."""
    found: list[Setting] = []
    parents: list[tuple[int, str]] = []
    for line in path.read_text("utf-8").splitlines():
        match = re.match(r"( *)(\w+):(?: +(?!#)(.*?))?(?: +# (.*))?$", line)
        if match:
            indent, key = len(match[1]), match[2]
            parents = [*(parent for parent in parents if parent[0] < indent), (indent, key)]
            if parents[0][1] not in ("defaults", "hydra"):
                found.append(Setting(".".join(name for _, name in parents), match[3] or "", match[4] or ""))
        elif found and (more := re.match(r" +# (.*)", line)):
            found[-1] = found[-1]._replace(comment=f"{found[-1].comment} {more[1]}".strip())
    return [setting for setting in found if setting.value or setting.comment]


def read_options(group: str) -> list[str]:
    """Return the options of a group, as they are written on the command line."""
    if group == "hydra/launcher":
        return ["basic", *sorted(path.stem for path in (CONF / group).glob("*.yaml"))]
    paths = (path.relative_to(CONF / group).with_suffix("") for path in (CONF / group).rglob("*.yaml"))
    return sorted(str(path) for path in paths if not path.name.startswith("_") and path.parts[0] != "design")


def read_defaults(command: str) -> dict[str, Any]:
    """Return the option that each group has in a command unless another one is given."""
    found: dict[str, Any] = {"hydra/launcher": "basic"}
    for name in (command,) if command in ONLY_TRACKER else ("common", command):
        for entry in yaml.safe_load((CONF / f"{name}.yaml").read_text("utf-8"))["defaults"]:
            found |= entry if isinstance(entry, dict) else {}
    return found


def describe_command(command: str) -> str:
    """Return the text of `sacpo COMMAND --help`, from the files of conf/."""
    is_short, defaults = command in ONLY_TRACKER, read_defaults(command)
    groups = []
    for group in ["tracker"] if is_short else GROUPS:
        options = [f"[{name}]" if name == defaults.get(group) else name for name in read_options(group)]
        indented = textwrap.fill(", ".join(options), 110, initial_indent=" " * 6, subsequent_indent=" " * 6)
        groups += [f"  {group:<28}  {GROUPS[group]}", indented]
    paths = [CONF / f"{name}.yaml" for name in ((command,) if is_short else (command, "common"))]
    settings = [(f"{entry.key}={entry.value}", entry.comment) for path in paths for entry in read_settings(path)]
    settings += [] if is_short else FURTHER
    return TEXT.format(
        heading=read_heading(paths[0]),
        command=command,
        groups="\n".join(groups),
        settings="\n".join(f"  {key:<28}  {text}".rstrip() for key, text in settings),
    )
