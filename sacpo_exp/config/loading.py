"""From the command line to a checked, typed configuration: the only place, besides the entries, that knows Hydra."""

import logging
import os
import re
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import hydra
import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from sacpo_exp.config.automatic import fill_hardware
from sacpo_exp.config.bounds import find_bound_problems
from sacpo_exp.config.choosing import ChooseConfig
from sacpo_exp.config.environment import load_dotenv
from sacpo_exp.config.exports import ChatConfig, ExportConfig
from sacpo_exp.config.hardware import Accelerator
from sacpo_exp.config.job_state import recorded
from sacpo_exp.config.judges import JUDGES
from sacpo_exp.config.messages import explain_stage, explain_unknown_key, find_unknown_keys, translated_errors
from sacpo_exp.config.oracle import OracleConfig, find_oracle_problems
from sacpo_exp.config.schema import EvalConfig, JudgeKind, ReportConfig, RunConfig, StageJob
from sacpo_exp.config.stages import fill_stages
from sacpo_exp.config.submitted import awaited_jobs
from sacpo_exp.config.sweeps import name_group, sweep_dir
from sacpo_exp.config.tracking import find_tracker_problems
from sacpo_exp.config.usage import describe_command
from sacpo_exp.config.validation import find_command_line_problems, find_run_problems
from sacpo_exp.errors import ConfigError, SacpoError, exit_with, known_error, print_error, run_reporting_errors
from sacpo_exp.method.criteria import Criterion
from sacpo_exp.stopping import hear_ends

Config = TypeVar("Config", RunConfig, EvalConfig, ChooseConfig, ExportConfig, ChatConfig, ReportConfig, OracleConfig)

#: conf/ lies beside the package in a checkout and inside it in a wheel.
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

    `at_end` is called with the folders of the jobs that went well. Problems end the process with one message and exit
    code 2, before anything heavy is imported.
    """
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(describe_command(CONF, config_name))
        return
    register_schemas()
    if config_name == "report":
        register_trackers()
    # With this set Hydra hands its exceptions on instead of printing them; `translated_errors` says them better.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    quiet_libraries()
    hear_ends()

    jobs: Jobs[Config] = Jobs(schema, task)

    def command() -> None:
        load_dotenv()
        sys.argv[1:] = [add_trainer_keys(argument) for argument in sys.argv[1:]]
        if problems := find_command_line_problems(sys.argv[1:], dict(os.environ), config_name):
            raise ConfigError(problems)
        with translated_errors(CONF, config_name), awaited_jobs(jobs.failures):
            hydra.main(version_base="1.3", config_path=search_path(config_name), config_name=config_name)(jobs)()
        if at_end is not None:
            at_end(jobs.folders)
        for error in jobs.failures[:-1]:
            print_error(error)
        if jobs.failures:
            raise jobs.failures[-1]

    run_reporting_errors(command)


class Jobs(Generic[Config]):
    """What Hydra calls, once or for every job of a sweep; each leaves its state in its folder.

    A launcher that pickles it calls it in another process, whose memory nobody reads: there it raises what failed.

    Attributes:
        failures: of the jobs so far; kept from Hydra, which would print them its own way and end a sweep at the first.
        folders: of the jobs of this process that went well.
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
        except BrokenPipeError as error:  # here, since Hydra would print it
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
        """The checked configuration of Hydra's present job, written as `resolved.yaml` into its folder."""
        if "stages" in composed and (repeated := find_repeated_criterion()):
            raise ConfigError([repeated])
        config: Config = to_config(composed, self._schema, list(HydraConfig.get().overrides.task))
        if problems := list(find_tracker_problems(config.tracker)):
            raise ConfigError(problems)
        if config.tracker.group is None and config.tracker.chosen():
            config.tracker.group = name_group(present_sweep() or job_folder())
        write_resolved(config, job_folder())
        return config


def shared_overrides(overrides: list[str], schema: type[Config]) -> list[str]:
    """The overrides that say what is made, written for OmegaConf to keep.

    Without those of `schema`'s command alone, and those that say where things lie, who is told and who else is judged.
    """
    own = {entry.name for entry in fields(schema)} - {entry.name for entry in fields(RunConfig)}
    own |= {"paths", "store", "ledger", "tracker", "others", "dry_run", "force"}
    kept = [text for text in overrides if re.split(r"[.@=]", text.lstrip("+~"))[0] not in own]
    return [text.replace("${", "\\${") for text in kept]


def shipped_criteria() -> dict[str, Criterion]:
    """The criteria of conf/criterion/ by name, for commands that compose nothing."""
    texts = [path.read_text("utf-8") for path in sorted((CONF / "criterion").glob("*.yaml"))]
    return {found.name: found for found in (Criterion(**yaml.safe_load(text)["criterion"]) for text in texts)}


def quote(text: str) -> str:
    """A text as a value in Hydra's grammar."""
    is_plain = re.fullmatch(r"[A-Za-z_/][\w./@:-]*", text) and text.lower() not in (
        "null",
        "true",
        "false",
        "nan",
        "inf",
    )
    return text if is_plain else QuotedString(text, Quote.single).with_quotes()


def find_repeated_criterion() -> str | None:
    """A sentence if Hydra's present job names a criterion twice, which Hydra would merge; None if it does not."""
    settings = HydraConfig.get()
    loader = GlobalHydra.instance().config_loader()
    chosen = loader.compute_defaults_list(settings.job.config_name, list(settings.overrides.task), RunMode.RUN).defaults
    paths = [entry.config_path or "" for entry in chosen if (entry.package or "").startswith("stages.")]
    names = [path.removeprefix("criterion/") for path in paths if path.startswith("criterion/")]
    twice = next((name for name in names if names.count(name) > 1), None)
    once = ",".join(dict.fromkeys(names))
    return twice and f"`criterion` must name each criterion once, but has {twice} twice. Try: criterion=[{once}]"


def add_trainer_keys(argument: str) -> str:
    """`trainer.KEY=VALUE`, `thresholds=…` with the `++` by which Hydra adds keys to a mapping; others as they are."""
    is_entry = re.match(r"((stages\.\w+\.)?trainer\.[\w.]+|thresholds(\.\w+)?)=", argument)
    return f"++{argument}" if is_entry else argument


def job_folder() -> Path:
    """The run folder of Hydra's present job."""
    return Path(HydraConfig.get().runtime.output_dir)


def present_sweep() -> Path | None:
    """The folder of the sweep that Hydra's present job belongs to; None for a job by itself."""
    settings = HydraConfig.get()
    return Path(settings.sweep.dir) if settings.mode == RunMode.MULTIRUN else None


def quiet_libraries() -> None:
    """Settings that libraries read when they are imported: no look-ups, no guesses, no bars over trifles."""
    logging.raiseExceptions = False  # of a log on a full disk a message is lost, not a traceback printed for each
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # or every wait for another node is a warning
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # said, so that nothing is guessed after a fork


def register_schemas() -> None:
    """Make the dataclasses known to Hydra under the names that conf/*.yaml begin with, and its resolvers."""
    store = ConfigStore.instance()
    store.store("run_schema", RunConfig)
    store.store("eval_schema", EvalConfig)
    store.store("export_schema", ExportConfig)
    store.store("chat_schema", ChatConfig)
    store.store("oracle_schema", OracleConfig)
    store.store("choose_schema", ChooseConfig)
    for kind, judge in JUDGES.items():
        store.store(f"base_{kind.value}", judge, group="judge")
    store.store("report_schema", ReportConfig)
    store.store("report", OmegaConf.load(CONF / "report.yaml"))
    OmegaConf.register_new_resolver("sweep_dir", sweep_dir, replace=True)
    OmegaConf.register_new_resolver("gpus", _gpus_per_node, replace=True)


def register_trackers() -> None:
    """Give `report`, which has no folder of groups, this one. Other commands would find it twice, and Hydra says so."""
    for path in (CONF / "tracker").glob("*.yaml"):
        package = "tracker" if path.stem == "none" else f"tracker.{path.stem}"
        ConfigStore.instance().store(path.stem, OmegaConf.load(path), group="tracker", package=package)


def search_path(config_name: str) -> str | None:
    """The folder of groups; None for `report`, which is all in one file so that `model=` can be a filter there."""
    return None if config_name == "report" else str(CONF)


def to_config(composed: DictConfig, schema: type[Config], overrides: list[str]) -> Config:
    """The composed configuration as plain dataclasses, with everything checked that types can't say.

    Raises:
        ConfigError: with all problems found, not only the first.
    """
    if unknown := find_unknown_keys(composed, schema):
        raise ConfigError([explain_unknown_key(key, schema) for key in unknown])
    if unmade := [
        name for name, stage in composed.get("stages", {}).items() if not (stage.criterion or stage.loss.name)
    ]:
        raise ConfigError([explain_stage(_override_of(f"stages.{name}", overrides), CONF) for name in unmade])
    outside = find_bound_problems(composed, schema)
    composed = fill_stages(composed)
    if not outside:
        composed = fill_hardware(composed, overrides, CONF)
    missing = sorted(OmegaConf.missing_keys(composed))
    if missing:
        raise ConfigError(outside or [f"`{key}` has no value. Try: {key}=..." for key in missing])
    config = cast(Config, OmegaConf.to_object(composed))
    if isinstance(config, RunConfig):
        config.overrides = shared_overrides(overrides, schema)
    if problems := outside + find_problems(config, overrides):
        raise ConfigError(problems)
    return config


def _override_of(key: str, overrides: list[str]) -> str:
    """The override of something below a key; the key itself if a file has it."""
    return next((text.lstrip("+") for text in overrides if text.lstrip("+").startswith(f"{key}.")), key)


def find_problems(config: RunConfig | ReportConfig | OracleConfig, overrides: list[str]) -> list[str]:
    """Everything wrong with a command's configuration."""
    if isinstance(config, RunConfig):
        return find_run_problems(config, overrides)
    return find_oracle_problems(config) if isinstance(config, OracleConfig) else []


def write_resolved(config: RunConfig | ReportConfig | OracleConfig, folder: Path) -> Path:
    """Write the whole configuration, without interpolations, as `folder/resolved.yaml`, and return its path."""
    path = folder / RESOLVED
    path.write_text(OmegaConf.to_yaml(OmegaConf.structured(config)), "utf-8")
    return path


def read_resolved(folder: Path, schema: type[Config]) -> Config:
    """What `write_resolved` wrote into `folder`."""
    written = cast(DictConfig, OmegaConf.load(folder / RESOLVED))
    return cast(Config, OmegaConf.to_object(OmegaConf.merge(schema_of(written, schema), written)))


def write_job(job: StageJob, folder: Path) -> Path:
    """Write a worker's job as `folder/job.yaml` and return its path."""
    path = folder / JOB
    path.write_text(OmegaConf.to_yaml(OmegaConf.structured(job)), "utf-8")
    return path


def read_job(path: Path) -> StageJob:
    """What `write_job` wrote. Workers read it; they never compose."""
    written, schema = OmegaConf.load(path), OmegaConf.structured(StageJob)
    schema.config = schema_of(written.config)
    return cast(StageJob, OmegaConf.to_object(OmegaConf.merge(schema, written)))


def schema_of(written: DictConfig, kind: type = RunConfig) -> DictConfig:
    """The structured configuration that a written one fits: its judge, if it has one, is one of several classes."""
    schema: DictConfig = OmegaConf.structured(kind)
    if "judge" in written:
        schema.judge = JUDGES[JudgeKind(written.judge.kind)]
    return schema


def _gpus_per_node(hardware: DictConfig) -> int | None:
    """GPUs that a job needs of a node; where the sweep is over hardware itself, those of the default one."""
    return hardware.processes // hardware.nodes if hardware.accelerator == Accelerator.cuda else None
