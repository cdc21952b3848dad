"""Generate the pages that are made from other files: a hook of mkdocs, or a script that prints the reference.

`reference.md` lists every setting, from the dataclasses of `sacpo_exp.config` and the comments of conf/, so that it
can't be out of date. README, CONTRIBUTING and CHANGELOG become pages too.
"""

import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from sacpo_exp.config.bounds import CAP
from sacpo_exp.config.judges import JUDGES
from sacpo_exp.config.loading import CONF
from sacpo_exp.config.messages import GROUPS, ONLY_TRACKER, SCHEMAS, read_defaults, read_settings
from sacpo_exp.config.schema import JudgeConfig, RunConfig

REPO = Path(__file__).parents[1]
COPIES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
HEAD = """# Reference

Every setting of every command, with its type, bounds and default. `sacpo COMMAND --cfg job` prints the values that a
command would use. `NAME` stands for the name of a stage or criterion, and – for a value that depends on the option of a
group.
"""
INTERNAL = ("overrides",)  # filled in by the program
FURTHER_DEFAULTS = {
    "judge": [kind.value for kind in JUDGES],
    "tracker": ["wandb", "mlflow"],
}  # with settings of their own


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages to those of docs/; called by mkdocs."""
    from mkdocs.structure.files import File

    pages = {"reference.md": make_reference()}
    pages |= {page: copy_page(name) for name, page in COPIES.items()}
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def copy_page(name: str) -> str:
    """Return a file of the repository's root with its links as seen from docs/."""
    text = (REPO / name).read_text("utf-8").replace("](docs/", "](")
    for source, page in COPIES.items():
        text = text.replace(f"]({source}", f"]({page}")
    return text


def make_reference() -> str:
    """Return the page with every setting and the files of every group."""
    written = read_conf()
    return "\n".join([HEAD, *_describe_classes(written), *_describe_options()]) + "\n"


@dataclass
class Written:
    """What conf/ says of a setting.

    Attributes:
        default: in the options that are chosen by default; None if they leave it open, or if it is a name's own.
        comment: beside it there.
        elsewhere: comment in another option.
    """

    default: str | None = None
    comment: str = ""
    elsewhere: str = ""


def read_conf() -> dict[str, Written]:
    """Return what the files of conf/ say, by key; those of `report` and `oracle` as `report:KEY`."""
    chosen = read_defaults("train")
    found: dict[str, Written] = {}
    for group in GROUPS:
        defaults = [*_names(chosen.get(group), chosen), *FURTHER_DEFAULTS.get(group, [])]
        paths = [] if "/" in group else sorted((CONF / group).glob("*.yaml"))
        for path in sorted(paths, key=lambda path: [*defaults, path.stem].index(path.stem)):
            package = re.search(r"# @package (\S+)", path.read_text("utf-8"))
            prefix = "" if package and package[1] == "_global_" else f"{package[1] if package else group}."
            _add(found, path, prefix, path.stem in defaults)
    _add(found, CONF / "paths" / "default.yaml", "paths.", True)
    for name in ("common", *SCHEMAS):
        _add(found, CONF / f"{name}.yaml", f"{name}:" if name in ONLY_TRACKER else "", True)
    return found


def _add(found: dict[str, Written], path: Path, prefix: str, is_default: bool) -> None:
    for entry in read_settings(path):
        key = re.sub(r"^(stages|criteria|judge\.heads)\.\w+", r"\1.NAME", prefix + entry.key)
        key = re.sub(r"^stage_defaults\.\w+", "stage_defaults.PLACE", key)
        there = found.setdefault(key, Written())
        if not is_default:
            there.elsewhere = there.elsewhere or entry.comment
            continue
        if there.default is None and not re.search(r"NAME|PLACE", key):
            there.default = entry.value
        there.comment = there.comment or entry.comment


def _names(option: Any, chosen: dict[str, Any]) -> list[str]:
    """The default options of a group; one of them may be an interpolation, as `${model}`."""
    names = option if isinstance(option, list) else [option]
    return [str(chosen.get(name[2:-1], name)) if str(name).startswith("${") else str(name) for name in names]


def _describe_classes(written: dict[str, Written]) -> Iterator[str]:
    """Lines of all tables: the settings of all runs, what single commands add, and what is nested in them."""
    seen: dict[type, str] = {}
    queue: list[tuple[str, type, str, str]] = [("Runs: train, eval, prepare, choose, chat, export", RunConfig, "", "")]
    for command, schema in SCHEMAS.items():
        if schema is not RunConfig:
            queue.append((f"sacpo {command}", schema, "", f"{command}:" if command in ("report", "oracle") else ""))
    queue.append(("judge", JudgeConfig, "judge.", ""))
    queue += [(f"judge: {kind.value}", schema, "judge.", "") for kind, schema in JUDGES.items()]
    while queue:
        title, schema, prefix, space = queue.pop(0)
        if schema in seen:
            continue
        seen[schema] = title
        inherited = {
            part.name for base in seen if issubclass(schema, base) and schema is not base for part in fields(base)
        }
        yield f"\n## {title} {{ #{schema.__name__.lower()} }}\n"
        if schema.__doc__ and not schema.__doc__.startswith(f"{schema.__name__}("):
            yield f"{_escape(inspect.cleandoc(schema.__doc__).split('Attributes:')[0].strip())}\n"
        yield "| setting | type | default | meaning |\n|---|---|---|---|"
        hints, comments = get_type_hints(schema), _read_comments(schema)
        for part in fields(schema):
            if part.name in inherited or part.name in INTERNAL:
                continue
            key = f"{prefix}{part.name}"
            there = written.get(f"{space}{key}") or written.get(key) or Written()
            for kind, inner in _nested(hints[part.name], key):
                queue.append((f"{inner.rstrip('.')}", kind, inner, space))
            meaning = there.comment or comments.get(part.name) or there.elsewhere
            yield _row(key, _name(hints[part.name]), _default(part, there.default), part, meaning)


def _nested(hint: Any, key: str) -> Iterator[tuple[type, str]]:
    """Dataclasses inside a type, with the prefix of their keys."""
    if is_dataclass(hint) and isinstance(hint, type):
        yield hint, f"{key}."
    for inner in get_args(hint):
        name = (
            {"stage_defaults": ".PLACE"}.get(key, ".NAME")
            if get_origin(hint) is dict
            else "[i]"
            if get_origin(hint) is list
            else ""
        )
        yield from _nested(inner, f"{key}{name}")


def _name(hint: Any) -> str:
    """A type as it is read: its values, or those of a list or mapping."""
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_name(inner) for inner in get_args(hint))
    if hint is NoneType:
        return "null"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return ", ".join(f"`{member.name}`" for member in hint)
    if get_origin(hint) is list:
        return f"list of {_name(get_args(hint)[0])}"
    if get_origin(hint) is dict:
        return f"names with {_name(get_args(hint)[1])}"
    if is_dataclass(hint) and isinstance(hint, type):
        return f"[settings](#{hint.__name__.lower()})"
    return {"str": "text", "int": "integer", "float": "number", "bool": "true, false"}.get(
        getattr(hint, "__name__", ""), "any value"
    )


def _default(part: "Field[Any]", written: str | None) -> str:
    """The default as a user writes it; – where it depends on the option of a group."""
    value = written
    if value is None and part.default_factory is not MISSING:
        value = part.default_factory()
        value = str(value) if isinstance(value, list | dict) else ""
    elif value is None and part.default not in (MISSING, "???"):
        value = part.default.name if isinstance(part.default, Enum) else str(part.default)
    value = {"None": "null", "True": "true", "False": "false", "???": "required"}.get(str(value or ""), value)
    return f"`{value if len(value) < 60 else value[:57] + '…'}`" if value else "–"


def _row(key: str, kind: str, default: str, part: "Field[Any]", comment: str) -> str:
    signs = {"above": ">", "least": "≥", "below": "<", "most": "≤"}
    bounds = part.metadata.get("bounds", {})
    if ends := [f"{signs[key]} {end:g}" for key, end in bounds.items() if abs(end) <= CAP]:
        kind += f" ({', '.join(ends)})"
    return f"| `{key}` | {kind} | {_escape(default)} | {_escape(comment)} |"


def _escape(text: str) -> str:
    """Keep Markdown from reading a comment as a table's border, as HTML, or as emphasis."""
    return re.sub(r"(?<!`)[<*](?!`)", lambda match: {"<": "&lt;", "*": "\\*"}[match[0]], text.replace("|", "\\|"))


def _read_comments(schema: type) -> dict[str, str]:
    """Comments behind the fields of a dataclass, above them, or in its docstring."""
    listed = inspect.cleandoc(schema.__doc__ or "").partition("Attributes:")[2]
    entries = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", listed, re.MULTILINE)
    found = {name: " ".join(text.split()) for name, text in entries}
    above = ""
    for line in inspect.getsource(schema).splitlines():
        match = re.match(r"    (\w+): [^#]*(?:# (?!noqa|type:)(.*))?", line)
        if match:
            found[match[1]] = match[2] or above or found.get(match[1], "")
        comment = re.match(r"    # (.*)", line)
        above = comment[1] if comment else ""
    return found


def _describe_options() -> Iterator[str]:
    yield "\n## Options of the groups\n\nThe files of `conf/`, with where each value comes from."
    for group, text in GROUPS.items():
        yield f"\n### {group}\n\n{text[0].upper()}{text[1:]}."
        for path in sorted((CONF / group).rglob("*.yaml")):
            name = path.relative_to(CONF / group).with_suffix("")
            yield f"\n#### {group}={name}\n\n```yaml\n{path.read_text('utf-8').strip()}\n```"


if __name__ == "__main__":
    sys.stdout.write(make_reference())
