"""Run a command: compose its configuration, check it, and call its function, once or per job of a sweep."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, cast

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from sacpo_exp.cluster.automatic import fill_settings
from sacpo_exp.cluster.status import recorded
from sacpo_exp.cluster.sweeps import awaited_jobs, list_experiments, name_group, run_each
from sacpo_exp.config.bounds import find_bound_problems
from sacpo_exp.config.environment import find_command_line_problems, load_dotenv
from sacpo_exp.config.loading import (
    CONF,
    Config,
    add_trainer_keys,
    find_preset_problems,
    quiet_libraries,
    register_schemas,
    register_trackers,
    shared_overrides,
    write_config,
)
from sacpo_exp.config.messages import (
    describe_command,
    explain_stage,
    explain_unknown_key,
    find_unknown_keys,
    translated_errors,
)
from sacpo_exp.config.models import FloatType
from sacpo_exp.config.schema import RunConfig
from sacpo_exp.config.stages import fill_stages
from sacpo_exp.config.studies import OracleConfig, find_oracle_problems
from sacpo_exp.config.validation import find_run_problems, find_tracker_problems
from sacpo_exp.errors import ConfigError, SacpoError, exit_with, known_error, print_error, run_reporting_errors
from sacpo_exp.stopping import hear_ends
from sacpo_exp.tracking.runs import log_once


def run_command(
    config_name: str,
    schema: type[Config],
    task: Callable[[Config], float | None],
    at_end: Callable[[list[Path]], None] | None = None,
) -> None:
    """Compose `conf/<config_name>.yaml` with the command line, check it, and call `task`: once, or per job with -m.

    `at_end` is called with the folders of the jobs that succeeded. Problems end the process with one message and exit
    code 2, before anything heavy is imported.
    """
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(describe_command(config_name))
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
        if listed := list_experiments(sys.argv[1:]):
            run_each(config_name, listed, sys.argv[1:])
            return
        if "dry_run=true" in sys.argv:  # a plan needs no launcher, and so no cluster
            sys.argv[1:] = [
                text for text in sys.argv[1:] if not text.startswith(("hydra/launcher=", "hydra.launcher."))
            ]
        with translated_errors(config_name), awaited_jobs(jobs.failures):
            hydra.main(version_base="1.3", config_path=folder, config_name=config_name)(jobs)()
        if at_end is not None:
            at_end(jobs.folders)
        different = list({str(error): error for error in jobs.failures}.values())  # a mistake is every job's
        for error in different[:-1]:
            print_error(error)
        if different:
            raise different[-1]

    run_reporting_errors(command)


@dataclass(eq=False)
class Jobs(Generic[Config]):
    """The function that Hydra calls, once or for every job of a sweep. It records the state of a job in its folder.

    It returns the number that `task` returns, which sweepers optimise.

    Launchers pickle it for other processes, in which it raises errors instead of collecting them.

    Attributes:
        failures: errors of the jobs so far; if raised, Hydra would end the sweep at the first.
        folders: of the jobs in this process that succeeded.
    """

    schema: type[Config]
    task: Callable[[Config], float | None]
    is_elsewhere: bool = False
    failures: list[SacpoError] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)

    def __reduce__(self) -> tuple[Any, ...]:
        return Jobs, (self.schema, self.task, True)

    def __call__(self, composed: DictConfig) -> float | None:
        try:
            with recorded(job_folder()):
                objective = self.task(self._configure(composed))
            self.folders.append(job_folder())
            return objective
        except BrokenPipeError as error:  # Hydra would print it
            exit_with(error)
        except Exception as error:
            known = known_error(error)
            if known is None:
                raise
            if self.is_elsewhere:
                print_error(known)
                raise known from error
            self.failures.append(known)
        return None

    def _configure(self, composed: DictConfig) -> Config:
        """Return the checked configuration of Hydra's present job, and write it as `resolved.yaml` into its folder."""
        settings, folder = HydraConfig.get(), job_folder()
        overrides = list(settings.overrides.task)
        loader = GlobalHydra.instance().config_loader()  # Hydra itself would merge a criterion that is chosen twice
        defaults = loader.compute_defaults_list(settings.job.config_name, overrides, RunMode.RUN).defaults
        chosen = [entry.config_path or "" for entry in defaults if (entry.package or "").startswith("stages.")]
        if twice := [path for path in chosen if path.startswith("criterion/") and chosen.count(path) > 1]:
            name = twice[0].removeprefix("criterion/")
            raise ConfigError(f"`criterion` must name each criterion once, but has {name} twice.")
        config: Config = to_config(composed, self.schema, overrides)
        if problems := list(find_tracker_problems(config.tracker)):
            raise ConfigError(problems)
        if config.tracker.group is None and config.tracker.chosen():
            config.tracker.group = name_group(config, settings.runtime.choices.get("experiment"))
        config.paths.run = str(folder)
        write_config(config, folder / "resolved.yaml")
        return config


def job_folder() -> Path:
    """Return the run folder of Hydra's present job."""
    return Path(HydraConfig.get().runtime.output_dir)


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
        raise ConfigError([explain_stage(cause) for cause in causes])
    problems = find_bound_problems(composed, schema)
    composed = fill_stages(composed)
    is_auto = OmegaConf.select(composed, "optimization.autocast") == FloatType.auto
    composed, line = fill_settings(composed, overrides, is_sound=not problems)
    if missing := sorted(OmegaConf.missing_keys(composed)):
        raise ConfigError(problems or [f"`{key}` has no value. Try: {key}=..." for key in missing])
    config = cast(Config, OmegaConf.to_object(composed))
    if isinstance(config, RunConfig):
        config.overrides = shared_overrides(overrides, schema)
        if is_auto:  # so that the stored command makes the same ids elsewhere
            chosen = config.optimization.autocast
            config.overrides.append(f"optimization.autocast={chosen.value if chosen else 'null'}")
        problems += [*find_preset_problems(config), *find_run_problems(config, overrides)]
    if isinstance(config, OracleConfig):
        problems += find_oracle_problems(config)
    if problems:
        raise ConfigError(problems)
    if line:
        log_once(line)  # the jobs of a sweep mostly have the same
    return config
