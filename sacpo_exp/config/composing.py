"""Compose a run's configuration again, inside a command that Hydra has started for something else."""

import functools
import warnings
from collections.abc import Mapping
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sacpo_exp.config.loading import CONF, register_schemas
from sacpo_exp.config.schema import RunConfig
from sacpo_exp.config.stages import fill_stages
from sacpo_exp.errors import ConfigError


@functools.cache
def compose_groups(groups: tuple[str, ...]) -> DictConfig:
    """What `train` composes from overrides that choose groups, as `model=nano`, before values are set.

    Raises:
        ConfigError: a group has no such option.
    """
    register_schemas()
    hydra = GlobalHydra.instance()
    running, hydra.hydra = hydra.hydra, None
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"), warnings.catch_warnings():
            # `report` has put the trackers into Hydra's own store too, of which composing from the folder warns.
            warnings.filterwarnings(
                "ignore", message="(?s).*is validated against ConfigStore schema", category=UserWarning
            )
            return compose("train", list(groups))
    except HydraException as error:
        raise ConfigError(str(error)) from error
    finally:
        GlobalHydra.instance().hydra = running


def set_values(composed: DictConfig, values: Mapping[str, Any]) -> RunConfig:
    """What the same command composes with `key=value` for each of `values` after its groups. Nothing is checked.

    Raises:
        ConfigError: a key is unknown, has no value, or can't have this one.
    """
    own = composed.copy()
    OmegaConf.set_struct(own, None)  # so that `stages` can have others; dataclasses still know their keys
    try:
        for key, value in values.items():
            OmegaConf.update(own, key, value)  # merges mappings, as Hydra does
        return cast(RunConfig, OmegaConf.to_object(fill_stages(own)))
    except OmegaConfBaseException as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ConfigError(f"`{error.full_key}` can't be set: {reason}.") from error
