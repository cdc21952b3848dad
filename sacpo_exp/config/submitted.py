"""Jobs that a sweep has handed to Slurm: waited for to the last one, with what became of each."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import starmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from sacpo_exp.config.job_state import write_failure
from sacpo_exp.config.sweeps import distinguish
from sacpo_exp.errors import ConfigError, LaunchError, SacpoError

if TYPE_CHECKING:
    from submitit import SlurmJob

log = logging.getLogger(__name__)


class SweepNoter(Callback):
    """Has `HydraConfig` know the sweep as a whole, which Hydra itself tells of single jobs only."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        HydraConfig.instance().set_config(config)


@contextmanager
def awaited_jobs(failures: list[SacpoError]) -> Iterator[None]:
    """Add to `failures` those of all jobs of a Slurm sweep run in the block, which itself ends at the first of them.

    Raises:
        ConfigError: there is no Slurm here, or it refused the jobs.
    """
    try:
        yield
    except KeyboardInterrupt:
        if jobs := find_jobs():
            log.warning("the submitted jobs go on; to end them: scancel %s", jobs[0].job_id.split("_")[0])
        raise
    except Exception as error:
        if not is_on_slurm():
            raise
        jobs = find_jobs()
        if not jobs:
            raise explain_refusal(error) from error
        found = [failure for failure in starmap(find_failure, name_jobs(jobs)) if failure is not None]
        if not found:
            raise
        failures.extend(found)


def is_on_slurm() -> bool:
    """Whether this command's configuration, as far as it came, has the launcher that submits to Slurm."""
    return HydraConfig.initialized() and "SlurmLauncher" in str(HydraConfig.get().launcher.get("_target_"))


def find_jobs() -> "list[SlurmJob[Any]]":
    """The jobs that this command has submitted, in order; Slurm names their folders after their numbers."""
    if not is_on_slurm():
        return []
    from submitit import SlurmJob
    from submitit.core.utils import JobPaths

    folder = HydraConfig.get().launcher.submitit_folder
    found = JobPaths.get_first_id_independent_folder(folder).glob("*/*_submitted.pkl")
    jobs: list[SlurmJob[Any]] = [SlurmJob(folder, path.parent.name) for path in found]
    return sorted(jobs, key=lambda job: [int(part) for part in job.job_id.split("_")])


def name_jobs(jobs: "list[SlurmJob[Any]]") -> "list[tuple[int, str, SlurmJob[Any]]]":
    """(number in the sweep, what to call it, job) of each."""
    arguments = [job.submission().args for job in jobs]
    numbers = [int(number) for _, _, number, *_ in arguments]
    own = distinguish({number: overrides for number, (overrides, *_) in zip(numbers, arguments, strict=True)})
    return [(number, f"job {number} ({own[number]})", job) for number, job in zip(numbers, jobs, strict=True)]


def find_failure(number: int, name: str, job: "SlurmJob[Any]") -> SacpoError | None:
    """Wait for a job's end, and say why it failed, if it did, with its overrides and its log."""
    from submitit.core.utils import UncompletedJobError

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
        return ConfigError([f"{name}: {line}" for line in str(error).splitlines()])
    return type(error)(f"{name}: {error}")


def explain_refusal(error: Exception) -> Exception:
    """A sentence for jobs that could not be submitted; anything else is handed back."""
    from submitit.core.utils import FailedJobError

    if shutil.which("srun") is None or shutil.which("sbatch") is None:
        return ConfigError(
            "`hydra/launcher=slurm` needs the commands sbatch and srun of a Slurm cluster, which are not on this "
            "machine. Try: the same without it, which runs the jobs here."
        )
    if isinstance(error, FailedJobError):  # what sbatch printed
        said = " ".join(str(error).strip().splitlines())
        return ConfigError(
            f"Slurm refused the jobs: {said}. `sinfo` lists partitions; hydra.launcher has the settings."
        )
    return error
