"""What Hydra and OmegaConf report, said in one sentence with the nearest right name and a command to try."""

import difflib
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from sacpo_exp.config.bounds import walk
from sacpo_exp.config.choosing import RENAMED, ChooseConfig
from sacpo_exp.config.exports import ChatConfig, ExportConfig
from sacpo_exp.config.judges import JUDGES
from sacpo_exp.config.oracle import OracleConfig
from sacpo_exp.config.schema import EvalConfig, JudgeConfig, ReportConfig, RunConfig
from sacpo_exp.errors import ConfigError

SCHEMAS: dict[str, type] = {
    "train": RunConfig,
    "eval": EvalConfig,
    "choose": ChooseConfig,
    "prepare": RunConfig,
    "export": ExportConfig,
    "chat": ChatConfig,
    "report": ReportConfig,
    "oracle": OracleConfig,
}


@contextmanager
def translated_errors(conf: Path, config_name: str) -> Iterator[None]:
    """Turn an error of Hydra or OmegaConf into a `ConfigError`; `conf` is the folder of the groups."""
    try:
        yield
    except HydraException as error:
        raise ConfigError(_explain(str(error), error.__cause__, conf, SCHEMAS[config_name])) from error
    except OmegaConfBaseException as error:
        raise ConfigError(_explain(str(error), error, conf, SCHEMAS[config_name])) from error
    except ValueError as error:
        if not _is_hydras(error):
            raise
        raise ConfigError(_explain_unread(str(error), conf)) from error
    except AssertionError as error:  # OmegaConf's answer to a key below a node that is null
        if "None" not in str(error):  # "Unexpected type: NoneType" or, two levels down, "… None"
            raise
        raise ConfigError(_explain_key_below_null()) from error


def _is_hydras(error: BaseException) -> bool:
    """Whether Hydra itself raised this while it read the command line."""
    frames = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return frames[-1].startswith("hydra.") and f"{__package__}.loading" not in frames[2:]


def _explain_unread(message: str, conf: Path) -> list[str]:
    """Sentences for overrides that choose no option of their group, or one for what Hydra can't read otherwise."""
    typed = [argument.partition("=") for argument in sys.argv[1:]]
    chosen = {name.lstrip("+"): value for name, is_override, value in typed if is_override}
    wrong = {group: value for group, value in chosen.items() if re.fullmatch(r"[\d.]*|null|true|false", value, re.I)}
    groups = _groups(conf)
    found = [_explain_option(conf, group, value) for group, value in wrong.items() if group.split("@")[0] in groups]
    return found or [f"an override can't be read: {message.splitlines()[0]}."]


def known_keys(schema: type) -> list[str]:
    """All dotted keys of a dataclass and of those inside it."""
    keys = []
    for name, hint in get_type_hints(schema).items():
        keys.append(name)
        inner = [kind for kind in (hint, *get_args(hint)) if is_dataclass(kind)]
        if hint is JudgeConfig:
            inner = list(JUDGES.values())
        keys += [f"{name}.{key}" for kind in inner for key in known_keys(kind)]  # type: ignore[arg-type]
    return list(dict.fromkeys(keys))


def find_unknown_keys(composed: Any, schema: type) -> list[str]:
    """Dotted keys of the composed mapping that the dataclass has not (`+key=...` can add them)."""
    return [
        f"{prefix}{key}"
        for prefix, node, kind in walk(composed, schema)
        for key in node
        if key not in {field.name for field in fields(kind)}
    ]


def explain_unknown_key(key: str, schema: type, groups: list[str] | None = None) -> str:
    """One sentence for a key that does not exist, with the nearest that does."""
    if schema is ChooseConfig and key in RENAMED:
        return f"`{key}` has another name now. Try: {RENAMED[key]}=..."
    candidates = known_keys(schema) + (groups or [])
    last = key.rsplit(".", 1)[-1]
    near = difflib.get_close_matches(key, candidates, n=1, cutoff=0.6) or [
        name for name in candidates if name.rsplit(".", 1)[-1] == last
    ]
    hint = f" Did you mean `{near[0]}`?" if near else " `--cfg job` lists all keys."
    return f"`{key}` is not a setting.{hint}"


def _explain(message: str, cause: BaseException | None, conf: Path, schema: type) -> str:
    if found := re.search(r"Could not (?:find|load) '(.+)/([^/']*)'", message):
        return _explain_option(conf, found[1], found[2])
    if found := re.search(r"Could not override '([^']+)'", message):
        if override := re.search(r"use \+(\S*stages\.\S+)", message):
            return explain_stage(override[1])
        if re.search(r"(^|\.)dataset\.fields\b", found[1]):
            return f"`{found[1]}` gets names one by one, with +. Try: +dataset.fields.prompt=NAME"
        return explain_unknown_key(found[1], schema, _groups(conf))
    if found := re.search(r"Error merging override (\S+?)=(.*)", message):
        return f"`{found[1].lstrip('+')}` can't be {found[2] or 'empty'}: {_reason(cause)}."
    if found := re.search(r"Error parsing override '(.*)'\n?(.*)", message):
        return (
            f"`{found[1]}` can't be read as an override ({found[2] or 'bad syntax'}). Try: key=value, without spaces."
        )
    if "mismatched" in message or "no viable" in message or "extraneous" in message:
        return f"an override can't be read: {message.splitlines()[0]}. Quote brackets and commas: 'key=[a,b]'."
    return " ".join(message.split("\nSee https")[0].split())


def _reason(cause: BaseException | None) -> str:
    text = str(cause).splitlines()[0] if cause else "the value does not fit"
    if found := re.search(r"could not be converted to (\w+)|is not a valid (bool)", text):
        kind = found[1] or found[2]
        names = {"Float": "a number", "Integer": "a whole number", "bool": "true or false"}
        return f"it must be {names.get(kind, kind)}"
    if found := re.search(r"expected one of \[(.*)\]", text):
        return f"it must be one of {found[1]}"
    return text


def _explain_option(conf: Path, group: str, option: str) -> str:
    if option in ("submitit_slurm", "submitit_local"):  # what `slurm` is built on
        return (
            "`hydra/launcher=slurm` needs submitit, which is not installed. "
            "Try: pip install hydra-submitit-launcher==1.2.0"
        )
    options = sorted(str(path.relative_to(conf / group).with_suffix("")) for path in (conf / group).rglob("*.yaml"))
    if not options:
        return f"`{group}` has no option `{option}`; it has none yet."
    return f"`{group}` has no option `{option}`; it has {', '.join(options)}.{did_you_mean(option, options)}"


def did_you_mean(word: str, options: Sequence[str]) -> str:
    """A question with the option that looks most like `word`, after a space; empty if none does."""
    near = difflib.get_close_matches(word, options, n=1, cutoff=0.6)
    return f" Did you mean `{near[0]}`?" if near else ""


def _groups(conf: Path) -> list[str]:
    return sorted(path.name for path in conf.iterdir() if path.is_dir())


def _explain_key_below_null() -> list[str]:
    """Sentences for overrides of a part that is not chosen."""
    culprits = [arg for arg in sys.argv[1:] if re.match(r"[+]*tracker\.\w+\.", arg)]
    return [explain_no_effect(arg) for arg in culprits] or ["a key below a value that is null can't be set"]


def explain_stage(override: str) -> str:
    """One sentence for an override of a stage that this composition does not have."""
    name = re.sub(r".*\bstages\.", "", override).split("=")[0].split(".")[0]
    if name in OLD_STAGES:
        return f"`stages.{name}` has another name now. Try: {OLD_STAGES[name]}"
    if name == "sft":
        return f"`{override}` has no effect: there is no such stage with base=none. Try: base=sft"
    return (
        f"`{override}` has no effect: the chosen order has no stage for {name}. Try: order=helpful_first, or {name} in "
        "criterion=[...]"
    )


#: What replaces keys of earlier versions.
OLD_STAGES = {
    "base": "stages.sft.KEY",
    "first": "stages.CRITERION.KEY, or earlier_betas=[VALUE] and stage_defaults.first.KEY for whichever stage comes first",
    "second": "stages.CRITERION.KEY, or beta=VALUE and stage_defaults.second.KEY for whichever stage comes second",
}


def explain_no_effect(override: str) -> str:
    """One sentence for an override of something that this composition does not have."""
    if re.match(r"[+]*beta=", override):
        return f"`{override}` has no effect: the chosen order has no stage. Try: order=helpful_first"
    return f"`{override}` has no effect: that part is not chosen."
