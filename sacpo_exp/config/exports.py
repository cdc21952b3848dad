"""Taking policies out of the store, and talking to them: what these commands have besides a run's configuration."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sacpo_exp.config.schema import Engine, RunConfig

REPOSITORY: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass
class ExportConfig(RunConfig):
    """`export` writes policies of the plan as plain Hugging Face folders, and sends one to the hub if asked."""

    folder: str | None = None  # null: <outputs>/export/<policy>
    hub: str | None = None  # USER/NAME
    private: bool = True  # of the repository on the hub


@dataclass
class ChatConfig(RunConfig):
    """`chat` puts prompts to policies of the plan."""

    prompt: str | None = None  # null: lines of standard input


def find_export_problems(config: RunConfig, there: Sequence[str]) -> Iterator[str]:
    """What is wrong with the settings of `export` or `chat`; `there` are the names of the plan's policies."""
    if isinstance(config, ExportConfig):
        yield from _check_export(config, there)
    if isinstance(config, ChatConfig):
        if config.generation.engine == Engine.vllm:
            yield "`generation.engine=vllm` answers in batches, and chat asks one by one. Try: generation.engine=hf"
        if config.prompt is not None and not config.prompt.strip():
            yield "`prompt` must be a text, but is empty. Try: leave it out, and type prompts line by line"


def _check_export(config: ExportConfig, there: Sequence[str]) -> Iterator[str]:
    if config.folder is not None and Path(config.folder).expanduser().is_file():
        yield f"`folder` must be a folder, but {config.folder} is a file."
    if config.hub is None:
        if not config.private:
            yield "`private=false` has no effect: nothing goes to the hub. Try: hub=USER/NAME"
        return
    if not REPOSITORY.fullmatch(config.hub):
        yield f"`hub` must be a repository as USER/NAME, but is {config.hub!r}."
    chosen = there if config.policies == "all" else config.policies
    if isinstance(chosen, list | tuple) and len(chosen) > 1:
        yield f"`hub` takes one policy, but `policies` names {len(chosen)}. Try: policies=final"
