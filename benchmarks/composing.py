"""What both benchmarks need: a configuration as the commands would see it, and on what machine and versions it ran."""

import os
import platform
from importlib import metadata
from typing import Any

import hydra

from sacpo_exp.cluster.commands import to_config
from sacpo_exp.config.loading import CONF, quiet_libraries, register_schemas
from sacpo_exp.config.messages import translated_errors
from sacpo_exp.config.schema import RunConfig

PACKAGES = ("torch", "transformers", "trl", "accelerate", "datasets")


def compose(overrides: list[str]) -> RunConfig:
    """The checked configuration that `sacpo train` would run with these overrides.

    Raises:
        ConfigError: an override is wrong.
    """
    register_schemas()
    quiet_libraries()
    with translated_errors("train"):
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            composed = hydra.compose("train", overrides)
        return to_config(composed, RunConfig, overrides)


def describe_machine() -> dict[str, Any]:
    """Cores, platform and versions, to be stored beside the numbers."""
    versions = {package: metadata.version(package) for package in PACKAGES}
    return {"cores": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()} | versions
