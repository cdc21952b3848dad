"""What a user can set, read from conf/: for `sacpo COMMAND --help` and the reference in the documentation."""

import itertools
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

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
EXAMPLES = {
    "train": "sacpo train model=tiny dry_run=true",
    "eval": "sacpo eval model=tiny policies=all dry_run=true",
    "prepare": "sacpo prepare dataset=local dataset.path=rows.jsonl",
    "choose": "sacpo choose threshold=0.6 dry_run=true",
    "multiplier": "sacpo multiplier threshold=0.5 dry_run=true",
    "chat": "sacpo chat policies=all 'prompt=How do I bake bread?'",
    "export": "sacpo export merge_ratio=0.5",
    "report": "sacpo report figures=paper",
    "oracle": "sacpo oracle pairs=[375] losses=[dpo]",
}
TEXT = """{heading}

usage: sacpo {command} [-m] [GROUP=OPTION ...] [KEY=VALUE ...]
example: {example}

groups, with the default in brackets:
{groups}

settings, with their defaults:
{settings}

options:
  -m, --multirun                run once for every combination of values separated by commas
  --cfg job                     print the whole composed configuration
  --hydra-help                  further options of Hydra

Every setting with its type, bounds and default: page Reference of the documentation (`make docs`)."""


@dataclass(frozen=True)
class Setting:
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
            last = found.pop()
            found.append(Setting(last.key, last.value, f"{last.comment} {more[1]}".strip()))
    return [setting for setting in found if setting.value or setting.comment]


def read_options(conf: Path, group: str) -> list[str]:
    """Return the options of a group, as they are written on the command line."""
    if group == "hydra/launcher":
        return ["basic", *sorted(path.stem for path in (conf / group).glob("*.yaml"))]
    paths = (path.relative_to(conf / group).with_suffix("") for path in (conf / group).rglob("*.yaml"))
    return sorted(str(path) for path in paths if not path.name.startswith("_") and path.parts[0] != "design")


def read_defaults(conf: Path, command: str) -> dict[str, Any]:
    """Return the option that each group has in a command unless another one is given."""
    found: dict[str, Any] = {"hydra/launcher": "basic"}
    for name in (command,) if command in ONLY_TRACKER else ("common", command):
        for entry in yaml.safe_load((conf / f"{name}.yaml").read_text("utf-8"))["defaults"]:
            found |= entry if isinstance(entry, dict) else {}
    return found


def describe_command(conf: Path, command: str) -> str:
    """Return the text of `sacpo COMMAND --help`, from the files of the folder `conf`."""
    is_short, defaults = command in ONLY_TRACKER, read_defaults(conf, command)
    groups = []
    for group in ["tracker"] if is_short else GROUPS:
        options = [f"[{name}]" if name == defaults.get(group) else name for name in read_options(conf, group)]
        indented = textwrap.fill(", ".join(options), 110, initial_indent=" " * 6, subsequent_indent=" " * 6)
        groups += [f"  {group:<28}  {GROUPS[group]}", indented]
    paths = [conf / f"{command}.yaml"] if is_short else [conf / f"{command}.yaml", conf / "common.yaml"]
    settings = [(f"{entry.key}={entry.value}", entry.comment) for path in paths for entry in read_settings(path)]
    settings += [] if is_short else FURTHER
    return TEXT.format(
        heading=read_heading(paths[0]),
        command=command,
        example=EXAMPLES[command],
        groups="\n".join(groups),
        settings="\n".join(f"  {key:<28}  {text}".rstrip() for key, text in settings),
    )
