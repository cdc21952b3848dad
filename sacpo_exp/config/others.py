"""Models of other people that an evaluation is about, besides the policies of its plan."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from sacpo_exp.config.models import ModelConfig, ModelSource
from sacpo_exp.config.schema import RunConfig

#: OWNER/NAME, with a commit or branch behind it or none.
REPOSITORY = re.compile(r"(?P<path>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


def others_of(config: RunConfig) -> dict[str, ModelConfig]:
    """Models by policy name, the last part of their path; they speak through the template of `model`."""
    return dict(_read(config.model, written) for written in config.others)


def find_other_problems(config: RunConfig, taken: tuple[str, ...]) -> Iterator[str]:
    """What is wrong with `others`; `taken` are names of policies that a plan may have."""
    for written in config.others:
        if not _is_folder(written) and not REPOSITORY.fullmatch(written):
            yield (
                f"`others` must name repositories on the hub or folders of saved models, but has {written}. "
                "Try: others=[OWNER/NAME@COMMIT]"
            )
    names = [_read(config.model, written)[0] for written in config.others]
    for name in sorted({name for name in names if names.count(name) > 1 or name in taken}):
        policies = ", ".join(taken)
        yield f"`others` must differ in the last part of their paths, and from {policies}, but {name} comes twice."


def _read(model: ModelConfig, written: str) -> tuple[str, ModelConfig]:
    source, path, revision = ModelSource.path, written, None
    if not _is_folder(written) and (found := REPOSITORY.fullmatch(written)):
        source, path, revision = ModelSource.hub, found["path"], found["revision"] or "main"
    name = Path(path).expanduser().name
    return name, replace(model, name=name, source=source, path=path, revision=revision, file=None)


def _is_folder(written: str) -> bool:
    return (Path(written).expanduser() / "config.json").is_file()
