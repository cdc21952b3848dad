"""From the command line to a checked, typed configuration, with Hydra."""

import functools
import logging
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, cast

import hydra
import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sacpo_exp.config import CONF
from sacpo_exp.config.hardware import Accelerator
from sacpo_exp.config.judges import JUDGES
from sacpo_exp.config.messages import SCHEMAS
from sacpo_exp.config.schema import JudgeKind, ReportConfig, RunConfig, StageJob
from sacpo_exp.config.stages import fill_stages
from sacpo_exp.config.studies import OracleConfig
from sacpo_exp.errors import ConfigError
from sacpo_exp.method.criteria import Criterion

Config = TypeVar("Config", bound=RunConfig | ReportConfig | OracleConfig)


def add_trainer_keys(argument: str) -> str:
    """Prefix `trainer.KEY=…`, `dataset.fields.KEY=…` and `thresholds=…` with Hydra's `++`, which adds keys."""
    is_entry = re.match(r"((stages\.\w+\.)?(trainer\.[\w.]+|dataset\.fields\.\w+)|thresholds(\.\w+)?)=", argument)
    return f"++{argument}" if is_entry else argument


def quiet_libraries() -> None:
    """Set what libraries read when they are imported: no telemetry, no guesses, no bars for small data."""
    logging.raiseExceptions = False  # on a full disk a log message is lost, without a traceback for each
    for name in ("httpx", "httpx2", "openai"):  # they log every call
        logging.getLogger(name).setLevel(logging.WARNING)
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # or every wait for another node is a warning
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # unset, the library warns after a fork


def register_schemas() -> None:
    """Register the dataclasses under the names that conf/*.yaml begin with, and our resolvers."""
    store = ConfigStore.instance()
    for command, schema in SCHEMAS.items():
        store.store("run_schema" if schema is RunConfig else f"{command}_schema", schema)
    for kind, judge in JUDGES.items():
        store.store(f"base_{kind.value}", judge, group="judge")
    store.store("report", OmegaConf.load(CONF / "report.yaml"))
    OmegaConf.register_new_resolver("sweep_dir", sweep_dir, replace=True)
    OmegaConf.register_new_resolver("last_part", lambda path: str(path).rsplit("/", 1)[-1], replace=True)
    OmegaConf.register_new_resolver("gpus", _gpus_per_node, replace=True)


def sweep_dir(outputs: str) -> str:
    """Return Hydra's usual ./multirun, or a folder beside the runs if the user has moved the outputs."""
    return "multirun" if outputs == "outputs" else f"{outputs}/multirun"


def _gpus_per_node(hardware: DictConfig) -> int | None:
    """Return the GPUs that a Slurm job needs per node; of a sweep over hardware, those of the default one.

    `hardware=auto` takes what a job has got: `hydra.launcher.gpus_per_node`.
    """
    if OmegaConf.is_missing(hardware, "accelerator") or hardware.accelerator == Accelerator.cpu:
        return None
    return int(hardware.processes // hardware.nodes)


def register_trackers() -> None:
    """Register conf/tracker and conf/_hydra.yaml for `report`, which has no folder of groups."""
    ConfigStore.instance().store("_hydra", OmegaConf.load(CONF / "_hydra.yaml"))
    for path in (CONF / "tracker").glob("*.yaml"):
        package = "tracker" if path.stem == "none" else f"tracker.{path.stem}"
        ConfigStore.instance().store(path.stem, OmegaConf.load(path), group="tracker", package=package)


def shared_overrides(overrides: list[str], schema: type[Config]) -> list[str]:
    """Return the overrides that determine what is made, escaped for OmegaConf.

    Those of `schema`'s command alone are left out, and those about paths, trackers and other people's models.
    """
    own = {entry.name for entry in fields(schema)} - {entry.name for entry in fields(RunConfig)}
    own |= {"paths", "store", "tracker", "others", "dry_run", "force"}
    kept = [text for text in overrides if re.split(r"[.@=]", text.lstrip("+~"))[0] not in own]
    return [text.replace("${", "\\${") for text in kept]


@functools.cache
def compose_groups(groups: tuple[str, ...]) -> DictConfig:
    """Compose `train` from overrides that choose groups, as `model=nano`, inside another command.

    Raises:
        ConfigError: a group has no such option.
    """
    register_schemas()
    hydra_state = GlobalHydra.instance()
    running, hydra_state.hydra = hydra_state.hydra, None
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"), warnings.catch_warnings():
            # `report` has put the trackers into Hydra's own store too; composing from the folder warns about it
            warnings.filterwarnings("ignore", message="(?s).*is validated against ConfigStore schema")
            return hydra.compose("train", list(groups))
    except HydraException as error:
        raise ConfigError(str(error)) from error
    finally:
        GlobalHydra.instance().hydra = running


def find_preset_problems(config: RunConfig) -> Iterator[str]:
    """Report a preset of a model or data set with the path of another one, whose settings would not fit."""
    for group, part in (("model", config.model), ("dataset", config.dataset)):
        file = CONF / group / f"{part.name}.yaml"
        if part.source.value == "hub" and file.is_file():
            shipped = yaml.safe_load(file.read_text("utf-8")).get("path")
            if shipped != part.path:
                hint = f"{group}=hub {group}.path={part.path}"
                yield f"`{group}={part.name}` is a preset for {shipped or 'other data'}, not {part.path}. Try: {hint}"


def set_values(composed: DictConfig, values: Mapping[str, Any]) -> RunConfig:
    """Return a composed configuration with further values, without any checks.

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


def shipped_criteria() -> dict[str, Criterion]:
    """Return the criteria of conf/criterion that judges score, by name, for commands that compose nothing."""
    texts = [path.read_text("utf-8") for path in sorted((CONF / "criterion").glob("*.yaml"))]
    read = [yaml.safe_load(text)["criterion"] for text in texts]
    return {entry["name"]: Criterion(**entry) for entry in read if "pairing" not in entry}  # those mix two others


def quote(text: str) -> str:
    """Return a text as a value in Hydra's grammar."""
    words = ("null", "true", "false", "nan", "inf")
    is_plain = re.fullmatch(r"[A-Za-z_/][\w./@:-]*", text) and text.lower() not in words
    return text if is_plain else QuotedString(text, Quote.single).with_quotes()


def write_config(config: RunConfig | ReportConfig | OracleConfig | StageJob, path: Path) -> Path:
    """Write a whole configuration, or the job of a worker, without interpolations as YAML; return `path`."""
    path.write_text(OmegaConf.to_yaml(OmegaConf.structured(config)), "utf-8")
    return path


def read_job(path: Path) -> StageJob:
    """Return the job that `write_config` wrote. Workers read it; they never compose."""
    written, schema = OmegaConf.load(path), OmegaConf.structured(StageJob)
    schema.config = OmegaConf.structured(RunConfig)
    schema.config.judge = JUDGES[JudgeKind(written.config.judge.kind)]
    return cast(StageJob, OmegaConf.to_object(OmegaConf.merge(schema, written)))
