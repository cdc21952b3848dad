"""The jobs that a multirun command asks for, read back from what Hydra wrote of it."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf


def list_jobs(multirun: Path) -> list[list[str]]:
    """Overrides of all jobs in order; empty for sweepers that decide as they go."""
    written: Any = OmegaConf.load(multirun)
    sweeper = written.hydra.sweeper
    if not str(sweeper.get("_target_")).endswith("BasicSweeper"):
        return []
    try:
        return split_sweep(sweeper.params or {}, list(written.hydra.overrides.task))
    except HydraException:  # a glob() over groups, say, which only the command itself can resolve
        return []


def split_sweep(params: Mapping[str, Any], typed: Sequence[str]) -> list[list[str]]:
    """Overrides of all jobs, from `hydra.sweeper.params` and the command line, as Hydra's own sweeper has them.

    Raises:
        HydraException: they are not in its grammar.
    """
    asked = [f"{key}={value}" for key, value in params.items()]
    overrides = OverridesParser.create().parse_overrides([*asked, *typed])
    return [job for batch in BasicSweeper.split_arguments(overrides, None) for job in batch]


def distinguish(jobs: Mapping[int, Sequence[str]]) -> dict[int, str]:
    """What tells each job from the others, by number: its overrides without those that all jobs have."""
    common = set.intersection(*(set(overrides) for overrides in jobs.values())) if len(jobs) > 1 else set()
    return {number: " ".join(text for text in overrides if text not in common) for number, overrides in jobs.items()}


def sweep_dir(outputs: str) -> str:
    """Hydra's usual ./multirun, unless the user has moved the outputs: then it moves with them."""
    return "multirun" if outputs == "outputs" else f"{outputs}/multirun"


def name_group(folder: Path) -> str:
    """What trackers call a sweep, or a run by itself: its folder's name, with the day where Hydra's default has one."""
    day = folder.parent.name
    return f"{day}_{folder.name}" if re.fullmatch(r"\d{4}-\d\d-\d\d", day) else folder.name
