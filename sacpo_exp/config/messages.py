"""What Hydra and OmegaConf report, said in one sentence with the nearest right name and a command to try."""

import difflib
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from sacpo_exp.config.bounds import walk
from sacpo_exp.config.choosing import ChooseConfig
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
    """All dotted keys of a dataclass and of those inside it; NAME stands for the keys of a mapping."""
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
    """Dotted keys of the composed mapping that the dataclass has not (`+key=...` can add them)."""
    return [
        f"{prefix}{key}"
        for prefix, node, kind in walk(composed, schema)
        for key in node
        if key not in {field.name for field in fields(kind)}
    ]


def explain_unknown_key(key: str, schema: type, groups: list[str] | None = None) -> str:
    """One sentence for a key that does not exist, with what replaces it or the nearest that does."""
    if old := explain_old_key(key):
        return old
    words = key.split(".")
    candidates = known_keys(schema) + (groups or [])
    if len(words) > 2:
        candidates = [name.replace(f"{words[0]}.NAME.", f"{words[0]}.{words[1]}.") for name in candidates]
    last = words[-1]
    near = difflib.get_close_matches(key, candidates, n=1, cutoff=0.6) or [
        name for name in candidates if name.rsplit(".", 1)[-1] == last
    ]
    hint = f" Did you mean `{near[0]}`?" if near else " `--cfg job` lists all keys."
    return f"`{key}` is not a setting.{hint}"


def _explain(message: str, cause: BaseException | None, conf: Path, schema: type) -> str:
    if found := re.search(r"Could not (?:find|load) '(.+)/([^/']*)'", message):
        return _explain_option(conf, found[1], found[2])
    if found := re.search(r"(?s)^In '([^']+)'.*full_key: (\S+)", message):
        reason = _reason(ValueError(message.partition("\n")[2]))
        wrong_value = f"`{found[2]}` has a wrong value: {reason}."
        problem = (
            explain_unknown_key(found[2], schema) if re.search(r"Key '\S+' (is )?not in", message) else wrong_value
        )
        return f"{found[1]}.yaml: {problem}"
    if found := re.search(r"Override (\S+?)=\S* looks like a config group override", message):
        return explain_unknown_key(found[1], schema, _groups(conf))
    if found := re.search(r"Could not override '([^']+)'", message):
        override = re.search(r"use \+(.+)", message)
        if "@stages." in found[1] or "reference_type=Dict[str, StageConfig]" in str(cause):
            return explain_stage(override[1] if override else found[1], conf)
        if re.search(r"(^|\.)dataset\.fields\b", found[1]):
            return f"`{found[1]}` gets names one by one, with +. Try: +dataset.fields.prompt=NAME"
        return explain_unknown_key(found[1], schema, _groups(conf))
    if found := re.search(r"Error merging override (\S+?)=(.*)", message):
        if "not a subclass of StageConfig" in str(cause):
            return explain_stage(f"{found[1].lstrip('+')}={found[2]}", conf)
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
    if "is not a ListConfig" in text:
        return "it must be a list, as [a,b]"
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
    own = r"[+]*((stages|criteria)\.\w+\.dataset)\."
    if without := [found for arg in sys.argv[1:] if (found := re.match(own, arg))]:
        return [
            f"`{found.string}` has no effect: there is no `{found[1]}`. Try: dataset@{found[1]}=NAME"
            for found in without
        ]
    culprits = [arg for arg in sys.argv[1:] if re.match(r"[+]*tracker\.\w+\.", arg)]
    return [explain_no_effect(arg) for arg in culprits] or ["a key below a value that is null can't be set"]


def explain_stage(override: str, conf: Path) -> str:
    """One sentence for an override of a stage that this composition does not have."""
    key = override.split("=")[0]
    if old := explain_old_key(key):
        return old
    name = re.sub(r".*\bstages\.", "", key).split(".")[0]
    if name == "sft":
        return f"`{override}` has no effect: there is no such stage with base=none. Try: base=sft"
    criteria = sorted(path.stem for path in (conf / "criterion").glob("*.yaml"))
    hint = f" Try: order=helpful_first, or {name} in criterion=[...]"
    if name not in criteria and (near := difflib.get_close_matches(name, criteria, n=1)):
        hint = f" Did you mean `stages.{near[0]}`?"
    return f"`{override}` has no effect: the chosen order has no stage for {name}.{hint}"


#: Keys of earlier versions, as patterns, with what replaces them.
OLD_KEYS = {
    r"loss(\.name)?|loss@stages\.(first|second)\.loss|stages\.(first|second)\.loss\.(name|loss_type)": (
        "losses=[NAME,NAME], one for each stage in order"
    ),
    r"loss@stages\.base\.loss": "base=sft, which has no other loss",
    r"loss@stages\.(\w+)\.loss|stages\.(\w+)\.loss\.loss_type": r"stages.\1\2.loss.name=NAME",
    r"loss\.(\w+)": r"stages.CRITERION.loss.\1",
    r"stages\.first\.beta": "stages.CRITERION.beta=VALUE, or earlier_betas=[VALUE] for whichever stage comes first",
    r"stages\.second\.beta": "stages.CRITERION.beta=VALUE, or beta=VALUE for whichever stage comes last",
    r"stages\.(first|second)\.criterion": "order=NAME, or criterion=[NAME,NAME]",
    r"stages\.(first|second)\.(global_batch_size|learning_rate|num_train_epochs)": (
        r"stages.CRITERION.\2=VALUE, or stage_defaults.\1.\2=VALUE for whichever stage comes \1"
    ),
    r"(\w+@)?stages\.(first|second)\b(.*)": r"\1stages.CRITERION\3",
    r"(\w+@)?stages\.base\b(.*)": r"\1stages.sft\2",
    r"(.*\.)only_mixed_safety_pairs": r"\1only_mixed_pairs",
    r"(\w+@)?judge\.(reward|cost)\b(.*)": r"\1judge.heads.CRITERION\3",
    r"safety": "measure=win_rate or acceptable_rate",
    r"safe_score": "acceptable_score=VALUE",
}


def explain_old_key(key: str) -> str | None:
    """One sentence for a key of an earlier version, with what replaces it; None if it is none."""
    for pattern, instead in OLD_KEYS.items():
        if found := re.fullmatch(pattern, key):
            return f"`{key}` has another name now. Try: {found.expand(instead)}"
    return None


def explain_no_effect(override: str) -> str:
    """One sentence for an override of something that this composition does not have."""
    if re.match(r"[+]*beta=", override):
        return f"`{override}` has no effect: the chosen order has no stage. Try: order=helpful_first"
    if re.match(r"[+]*earlier_betas=", override):
        return f"`{override}` has no effect: the chosen order has no stage before the last. Try: beta=VALUE"
    return f"`{override}` has no effect: that part is not chosen."
