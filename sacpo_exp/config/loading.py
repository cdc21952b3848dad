"""From the command line to a checked, typed configuration, with Hydra."""

import functools
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import hydra
import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sacpo_exp.config.automatic import fill_hardware
from sacpo_exp.config.bounds import find_bound_problems
from sacpo_exp.config.choosing import ChooseConfig
from sacpo_exp.config.environment import find_command_line_problems, load_dotenv
from sacpo_exp.config.hardware import Accelerator
from sacpo_exp.config.job_state import recorded
from sacpo_exp.config.judges import JUDGES
from sacpo_exp.config.messages import (
    SCHEMAS,
    explain_stage,
    explain_unknown_key,
    find_unknown_keys,
    translated_errors,
)
from sacpo_exp.config.multiplier import MultiplierConfig
from sacpo_exp.config.oracle import OracleConfig, find_oracle_problems
from sacpo_exp.config.schema import ChatConfig, EvalConfig, ExportConfig, JudgeKind, ReportConfig, RunConfig, StageJob
from sacpo_exp.config.stages import fill_stages
from sacpo_exp.config.sweeps import awaited_jobs, list_experiments, name_group, run_each, sweep_dir
from sacpo_exp.config.usage import describe_command
from sacpo_exp.config.validation import find_run_problems, find_tracker_problems
from sacpo_exp.errors import ConfigError, SacpoError, exit_with, known_error, print_error, run_reporting_errors
from sacpo_exp.method.criteria import Criterion
from sacpo_exp.stopping import hear_ends

Config = TypeVar(
    "Config",
    RunConfig,
    EvalConfig,
    ChooseConfig,
    MultiplierConfig,
    ExportConfig,
    ChatConfig,
    ReportConfig,
    OracleConfig,
)

#: conf/ is beside the package in a checkout and inside it in a wheel.
_BESIDE, _INSIDE = Path(__file__).parents[2] / "conf", Path(__file__).parents[1] / "conf"
CONF = _BESIDE if _BESIDE.is_dir() else _INSIDE
JOB, RESOLVED = "job.yaml", "resolved.yaml"


def run_command(
    config_name: str,
    schema: type[Config],
    task: Callable[[Config], None],
    at_end: Callable[[list[Path]], None] | None = None,
) -> None:
    """Compose `conf/<config_name>.yaml` with the command line, check it, and call `task`: once, or per job with -m.

    `at_end` is called with the folders of the jobs that succeeded. Problems end the process with one message and exit
    code 2, before anything heavy is imported.
    """
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(describe_command(CONF, config_name))
        return
    register_schemas()
    if config_name == "report":
        register_trackers()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises its errors instead of printing them
    quiet_libraries()
    hear_ends()
    jobs: Jobs[Config] = Jobs(schema, task)
    folder = None if config_name == "report" else str(CONF)  # without groups, `model=` can be a filter

    def command() -> None:
        load_dotenv()
        if problems := find_command_line_problems(sys.argv[1:], dict(os.environ), config_name):
            raise ConfigError(problems)
        sys.argv[1:] = [add_trainer_keys(argument) for argument in sys.argv[1:]]
        if listed := list_experiments(CONF, sys.argv[1:]):
            run_each(config_name, listed, sys.argv[1:])
            return
        with translated_errors(CONF, config_name), awaited_jobs(jobs.failures):
            hydra.main(version_base="1.3", config_path=folder, config_name=config_name)(jobs)()
        if at_end is not None:
            at_end(jobs.folders)
        for error in jobs.failures[:-1]:
            print_error(error)
        if jobs.failures:
            raise jobs.failures[-1]

    run_reporting_errors(command)


class Jobs(Generic[Config]):
    """The function that Hydra calls, once or for every job of a sweep. It records the state of a job in its folder.

    Launchers pickle it for other processes, in which it raises errors instead of collecting them.

    Attributes:
        failures: errors of the jobs so far; if raised, Hydra would end the sweep at the first.
        folders: of the jobs in this process that succeeded.
    """

    def __init__(self, schema: type[Config], task: Callable[[Config], None], is_elsewhere: bool = False) -> None:
        self.failures: list[SacpoError] = []
        self.folders: list[Path] = []
        self._schema: type[Config] = schema
        self._task: Callable[[Config], None] = task
        self._is_elsewhere = is_elsewhere

    def __reduce__(self) -> tuple[Any, ...]:
        return Jobs, (self._schema, self._task, True)

    def __call__(self, composed: DictConfig) -> None:
        try:
            with recorded(job_folder()):
                self._task(self.configure(composed))
            self.folders.append(job_folder())
        except BrokenPipeError as error:  # Hydra would print it
            exit_with(error)
        except Exception as error:
            known = known_error(error)
            if known is None:
                raise
            if self._is_elsewhere:
                print_error(known)
                raise known from error
            self.failures.append(known)

    def configure(self, composed: DictConfig) -> Config:
        """Return the checked configuration of Hydra's present job, and write it as `resolved.yaml` into its folder."""
        settings, folder = HydraConfig.get(), job_folder()
        loader = GlobalHydra.instance().config_loader()  # Hydra itself would merge a criterion that is chosen twice
        defaults = loader.compute_defaults_list(settings.job.config_name, list(settings.overrides.task), RunMode.RUN)
        chosen = [entry.config_path for entry in defaults.defaults if (entry.package or "").startswith("stages.")]
        if twice := [path for path in chosen if path and path.startswith("criterion/") and chosen.count(path) > 1]:
            name = twice[0].removeprefix("criterion/")
            raise ConfigError(f"`criterion` must name each criterion once, but has {name} twice.")
        config: Config = to_config(composed, self._schema, list(settings.overrides.task))
        if problems := list(find_tracker_problems(config.tracker)):
            raise ConfigError(problems)
        if config.tracker.group is None and config.tracker.chosen():
            is_sweep = settings.mode == RunMode.MULTIRUN
            config.tracker.group = name_group(Path(settings.sweep.dir) if is_sweep else folder)
        config.paths.run = str(folder)
        write_resolved(config, folder)
        return config


def job_folder() -> Path:
    """Return the run folder of Hydra's present job."""
    return Path(HydraConfig.get().runtime.output_dir)


def add_trainer_keys(argument: str) -> str:
    """Prefix `trainer.KEY=…`, `dataset.fields.KEY=…` and `thresholds=…` with Hydra's `++`, which adds keys."""
    is_entry = re.match(r"((stages\.\w+\.)?(trainer\.[\w.]+|dataset\.fields\.\w+)|thresholds(\.\w+)?)=", argument)
    return f"++{argument}" if is_entry else argument


def quiet_libraries() -> None:
    """Set what libraries read when they are imported: no telemetry, no guesses, no bars for small data."""
    logging.raiseExceptions = False  # on a full disk a log message is lost, without a traceback for each
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
    OmegaConf.register_new_resolver("gpus", _gpus_per_node, replace=True)


def _gpus_per_node(hardware: DictConfig) -> int | None:
    """Return the GPUs that a Slurm job needs per node; of a sweep over hardware, those of the default one."""
    return hardware.processes // hardware.nodes if hardware.accelerator == Accelerator.cuda else None


def register_trackers() -> None:
    """Register conf/tracker for `report`, which has no folder of groups."""
    for path in (CONF / "tracker").glob("*.yaml"):
        package = "tracker" if path.stem == "none" else f"tracker.{path.stem}"
        ConfigStore.instance().store(path.stem, OmegaConf.load(path), group="tracker", package=package)


def to_config(composed: DictConfig, schema: type[Config], overrides: list[str]) -> Config:
    """Return the composed configuration as dataclasses, filled in and checked.

    Raises:
        ConfigError: with all problems found, not only the first.
    """
    if unknown := find_unknown_keys(composed, schema):
        raise ConfigError([explain_unknown_key(key, schema) for key in unknown])
    stages = composed.get("stages", {}).items()
    if unmade := [f"stages.{name}" for name, stage in stages if not (stage.criterion or stage.loss.name)]:
        typed = [text.lstrip("+") for text in overrides]
        causes = [next((text for text in typed if text.startswith(f"{key}.")), key) for key in unmade]
        raise ConfigError([explain_stage(cause, CONF) for cause in causes])
    problems = find_bound_problems(composed, schema)
    composed = fill_stages(composed)
    if not problems:
        composed = fill_hardware(composed, overrides, CONF)
    if missing := sorted(OmegaConf.missing_keys(composed)):
        raise ConfigError(problems or [f"`{key}` has no value. Try: {key}=..." for key in missing])
    config = cast(Config, OmegaConf.to_object(composed))
    if isinstance(config, RunConfig):
        config.overrides = shared_overrides(overrides, schema)
        problems += find_run_problems(config, overrides)
    if isinstance(config, OracleConfig):
        problems += find_oracle_problems(config)
    if problems:
        raise ConfigError(problems)
    return config


def shared_overrides(overrides: list[str], schema: type[Config]) -> list[str]:
    """Return the overrides that determine what is made, escaped for OmegaConf.

    Those of `schema`'s command alone are left out, and those about paths, trackers and other people's models.
    """
    own = {entry.name for entry in fields(schema)} - {entry.name for entry in fields(RunConfig)}
    own |= {"paths", "store", "ledger", "tracker", "others", "dry_run", "force"}
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
    """Return the criteria of conf/criterion by name, for commands that compose nothing."""
    texts = [path.read_text("utf-8") for path in sorted((CONF / "criterion").glob("*.yaml"))]
    criteria = [Criterion(**yaml.safe_load(text)["criterion"]) for text in texts]
    return {criterion.name: criterion for criterion in criteria}


def quote(text: str) -> str:
    """Return a text as a value in Hydra's grammar."""
    words = ("null", "true", "false", "nan", "inf")
    is_plain = re.fullmatch(r"[A-Za-z_/][\w./@:-]*", text) and text.lower() not in words
    return text if is_plain else QuotedString(text, Quote.single).with_quotes()


def write_resolved(config: RunConfig | ReportConfig | OracleConfig, folder: Path) -> Path:
    """Write the whole configuration, without interpolations, as `folder/resolved.yaml`; return its path."""
    path = folder / RESOLVED
    path.write_text(OmegaConf.to_yaml(OmegaConf.structured(config)), "utf-8")
    return path


def read_resolved(folder: Path, schema: type[Config]) -> Config:
    """Return what `write_resolved` wrote into `folder`."""
    written = cast(DictConfig, OmegaConf.load(folder / RESOLVED))
    return cast(Config, OmegaConf.to_object(OmegaConf.merge(schema_of(written, schema), written)))


def write_job(job: StageJob, folder: Path) -> Path:
    """Write the job of a worker as `folder/job.yaml`; return its path."""
    path = folder / JOB
    path.write_text(OmegaConf.to_yaml(OmegaConf.structured(job)), "utf-8")
    return path


def read_job(path: Path) -> StageJob:
    """Return what `write_job` wrote. Workers read it; they never compose."""
    written, schema = OmegaConf.load(path), OmegaConf.structured(StageJob)
    schema.config = schema_of(written.config)
    return cast(StageJob, OmegaConf.to_object(OmegaConf.merge(schema, written)))


def schema_of(written: DictConfig, kind: type = RunConfig) -> DictConfig:
    """Return the structured configuration that a written one fits; its judge is one of several classes."""
    schema: DictConfig = OmegaConf.structured(kind)
    if "judge" in written:
        schema.judge = JUDGES[JudgeKind(written.judge.kind)]
    return schema
