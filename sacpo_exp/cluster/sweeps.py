"""List the jobs of a sweep, and wait for those that it has submitted to Slurm."""

import logging
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobStatus
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from sacpo_exp.cluster.job_state import write_failure
from sacpo_exp.cluster.supervision import INTERVAL, die_with_parent, end_tree
from sacpo_exp.errors import ConfigError, LaunchError, SacpoError
from sacpo_exp.stopping import catching_stops

if TYPE_CHECKING:
    from submitit import SlurmJob

log = logging.getLogger(__name__)


def list_jobs(multirun: Path) -> list[list[str]]:
    """Return the overrides of all jobs, from Hydra's multirun.yaml; empty for sweepers that decide as they go."""
    written: Any = OmegaConf.load(multirun)
    sweeper = written.hydra.sweeper
    if not str(sweeper.get("_target_")).endswith("BasicSweeper"):
        return []
    try:
        return split_sweep(sweeper.params or {}, list(written.hydra.overrides.task))
    except HydraException:  # a glob() over groups, which only the command itself can resolve
        return []


def split_sweep(params: Mapping[str, Any], typed: Sequence[str]) -> list[list[str]]:
    """Return the overrides of all jobs, from `hydra.sweeper.params` and the command line, as Hydra's own sweeper does.

    Raises:
        HydraException: they are not in its grammar.
    """
    asked = [f"{key}={value}" for key, value in params.items()]
    overrides = OverridesParser.create().parse_overrides([*asked, *typed])
    return [job for batch in BasicSweeper.split_arguments(overrides, None) for job in batch]


def distinguish(jobs: Mapping[int, Sequence[str]]) -> dict[int, str]:
    """Return the overrides of each job that not all jobs have, by number."""
    common = set.intersection(*(set(overrides) for overrides in jobs.values())) if len(jobs) > 1 else set()
    return {number: " ".join(text for text in overrides if text not in common) for number, overrides in jobs.items()}


def name_group(folder: Path) -> str:
    """Return what trackers call a sweep or a single run: its folder's name, with the day if Hydra's default has one."""
    day = folder.parent.name
    return f"{day}_{folder.name}" if re.fullmatch(r"\d{4}-\d\d-\d\d", day) else folder.name


class SweepNoter(Callback):
    """Set the configuration of the whole sweep in `HydraConfig`; Hydra itself sets it for single jobs only."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        HydraConfig.instance().set_config(config)


@contextmanager
def awaited_jobs(failures: list[SacpoError]) -> Iterator[None]:
    """Collect the errors of all Slurm jobs that the block submits; the launcher itself raises only the first.

    Raises:
        ConfigError: there is no Slurm here, or it refused the jobs.
    """
    try:
        yield
    except KeyboardInterrupt:
        if jobs := _find_jobs():
            log.warning("the submitted jobs go on; to end them: scancel %s", jobs[0].job_id.split("_")[0])
        raise
    except Exception as error:
        if not _is_on_slurm():
            raise
        jobs = _find_jobs()
        if not jobs:
            raise _explain_refusal(error) from error
        submitted = [job.submission().args for job in jobs]  # (overrides, _, number, …) of each
        names = distinguish({int(number): overrides for overrides, _, number, *_ in submitted})
        ended = [_await_job(int(args[2]), names[int(args[2])], job) for args, job in zip(submitted, jobs, strict=True)]
        if not any(ended):
            raise
        failures.extend(failure for failure in ended if failure is not None)


def _is_on_slurm() -> bool:
    return HydraConfig.initialized() and "SlurmLauncher" in str(HydraConfig.get().launcher.get("_target_"))


def _find_jobs() -> "list[SlurmJob[Any]]":
    """Return the jobs that this command has submitted, in order; Slurm names their folders after their numbers."""
    if not _is_on_slurm():
        return []
    from submitit import SlurmJob
    from submitit.core.utils import JobPaths

    folder = HydraConfig.get().launcher.submitit_folder
    paths = JobPaths.get_first_id_independent_folder(folder).glob("*/*_submitted.pkl")
    jobs: list[SlurmJob[Any]] = [SlurmJob(folder, path.parent.name) for path in paths]
    return sorted(jobs, key=lambda job: [int(part) for part in job.job_id.split("_")])


def _await_job(number: int, overrides: str, job: "SlurmJob[Any]") -> SacpoError | None:
    """Wait for a job's end, and return why it failed, with its overrides and its log; None if it did not fail."""
    from submitit.core.utils import UncompletedJobError

    name = f"job {number} ({overrides})"
    try:
        done = job.result()
    except UncompletedJobError:  # it left no result: cancelled, killed, or its node failed
        state = job.get_info().get("State", "unknown").split()[0]
        message = f"was lost, its state is {state}; what it printed is in {job.paths.stdout}"
        folder = Path(HydraConfig.get().sweep.dir, str(number))
        folder.mkdir(parents=True, exist_ok=True)
        write_failure(folder, f"it {message}")
        return LaunchError(f"{name} {message}")
    if done.status == JobStatus.COMPLETED:
        return None
    error = done._return_value  # the property of this name prints, and raises it
    if not isinstance(error, SacpoError):
        return LaunchError(f"{name} failed with {type(error).__name__}: {error}; see {job.paths.stdout}")
    if isinstance(error, ConfigError):
        return ConfigError([f"{name}: {line}" for line in error.problems])
    return type(error)(f"{name}: {error}")


def _explain_refusal(error: Exception) -> Exception:
    """Return a ConfigError for jobs that could not be submitted; any other error as it is."""
    from submitit.core.utils import FailedJobError

    if shutil.which("srun") is None or shutil.which("sbatch") is None:
        return ConfigError(
            "`hydra/launcher=slurm` needs the commands sbatch and srun of a Slurm cluster, which are not on this "
            "machine. Try: the same without it, which runs the jobs here."
        )
    if isinstance(error, FailedJobError):  # what sbatch printed
        text = " ".join(str(error).strip().splitlines())
        return ConfigError(
            f"Slurm refused the jobs: {text}. `sinfo` lists partitions; hydra.launcher has the settings."
        )
    return error


def list_experiments(conf: Path, arguments: Sequence[str]) -> list[str]:
    """Return the names in `experiments` of the chosen file of conf/experiment; empty if it is no list of others.

    Each has a sweep of its own, which no single multirun of Hydra can have.
    """
    chosen = [text.partition("=")[2] for text in arguments if text.startswith("experiment=")]
    path = conf / "experiment" / f"{chosen[-1]}.yaml" if chosen else conf
    if not path.is_file() or "\nexperiments:" not in (text := path.read_text("utf-8")):
        return []
    return list(yaml.safe_load(text)["experiments"])


def run_each(command: str, names: Sequence[str], arguments: Sequence[str]) -> None:
    """Run a command once for each of these experiments, in processes of their own, and go on where one fails.

    Ends with the exit code of the first that failed. A stop is passed on, so that a stage writes its checkpoint, and
    ends them all.

    Raises:
        Interrupted: this process was asked to stop; the present command has ended.
    """
    codes: list[int] = []
    with catching_stops() as request:
        request.set_training(True)  # from here on a signal is answered below
        for name in names:
            given = [f"experiment={name}" if text.startswith("experiment=") else text for text in arguments]
            sys.stderr.write(f"runs     sacpo {command} {' '.join(given)}\n")
            process = subprocess.Popen(
                [sys.executable, "-m", "sacpo_exp", command, *given],
                start_new_session=True,  # or Ctrl-C would reach it directly
                preexec_fn=partial(die_with_parent, os.getpid()),
            )
            try:
                while process.poll() is None:
                    time.sleep(INTERVAL)
                    if request.is_asked():
                        process.terminate()
                        process.wait()
            finally:
                end_tree(process)
            codes.append(process.returncode)
            if request.is_asked() or process.returncode < 0:
                break
    if failed := [code for code in codes if code]:
        sys.exit(failed[0])
