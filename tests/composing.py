"""Configurations as Hydra composes them, but from files that are read once for each choice of groups.

Composing and checking takes 0.15 s, so a configuration is also composed once for each list of overrides.
"""

import os
import re
from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from typing import Any

import hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from sacpo_exp.cluster.commands import to_config
from sacpo_exp.config.loading import CONF, add_trainer_keys, register_schemas, register_trackers
from sacpo_exp.config.messages import SCHEMAS

GROUPS = "|".join(path.name for path in CONF.iterdir() if path.is_dir())


register = cache(register_schemas)


@cache
def compose_groups(command: str, *groups: str) -> DictConfig:
    register()
    if command == "report":
        register_trackers()
        start: Any = hydra.initialize(None, version_base="1.3")
    else:
        start = hydra.initialize_config_dir(str(CONF), version_base="1.3")
    with start:
        return hydra.compose(command, list(groups))


def compose(command: str, overrides: Sequence[str]) -> DictConfig:
    """What Hydra would compose; values are set by its own function, which it calls after it has merged the groups."""
    groups = [text for text in overrides if re.match(rf"[+~]*(hydra\b|({GROUPS})(/\w+)?(@[\w.]+)?=)", text)]
    composed = deepcopy(compose_groups(command, *groups))
    values = OverridesParser.create().parse_overrides([text for text in overrides if text not in groups])
    ConfigLoaderImpl._apply_overrides_to_config(values, composed)
    return composed


@cache
def _configure_once(command: str, overrides: tuple[str, ...], *_machine: str | None) -> Any:
    composed = compose(command, [add_trainer_keys(override) for override in overrides])
    return to_config(composed, SCHEMAS[command], list(overrides))


def configure(command: str, *overrides: str) -> Any:
    """The checked configuration, as the command itself would see it."""
    machine = (os.environ.get(name) for name in ("PATH", "CUDA_VISIBLE_DEVICES"))  # which tests change
    return deepcopy(_configure_once(command, overrides, *machine))
