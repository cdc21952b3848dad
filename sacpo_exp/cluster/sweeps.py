"""Run a list of experiments, and explain how a sweep on Slurm ended."""

import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from sacpo_exp.cluster.status import FAILED, read_sweep
from sacpo_exp.cluster.supervision import run_jobs, start_process
from sacpo_exp.errors import ConfigError, LaunchError, SacpoError

log = logging.getLogger(__name__)


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
    """Collect the errors of the Slurm jobs that the block submits, which the launcher waits for until one is lost.

    Raises:
        ConfigError: there is no Slurm here, or it refused the jobs.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if not HydraConfig.initialized() or "SlurmLauncher" not in str(HydraConfig.get().launcher.get("_target_")):
            raise
        if shutil.which("srun") is None or shutil.which("sbatch") is None:
            raise ConfigError(
                "`hydra/launcher=slurm` needs the commands sbatch and srun of a Slurm cluster, which are not on this "
                "machine. Try: the same without it, which runs the jobs here."
            ) from error
        from submitit.core.utils import FailedJobError, UncompletedJobError

        text, folder = " ".join(str(error).split()), Path(HydraConfig.get().sweep.dir)
        if not any(folder.rglob("*_submitted.pkl")):
            if not isinstance(error, FailedJobError):
                raise
            sentence = f"Slurm refused the jobs: {text}. `sinfo` lists partitions; hydra.launcher has the settings."
            raise ConfigError(sentence) from error
        if isinstance(error, KeyboardInterrupt):
            log.warning("the submitted jobs go on; `squeue --me` lists them, and scancel ends them")
            raise
        failed = [job for job in read_sweep(folder) if job.state == FAILED]
        messages = [f"job {job.number} ({job.overrides}): {job.message}" for job in failed]
        if isinstance(error, UncompletedJobError | FailedJobError):  # it was cancelled or killed, or its node failed
            messages.append(f"a job was lost, and the others go on: {text[:400]}. What they print is in {folder}/slurm")
        elif not messages:
            raise
        for message in messages:
            failures.append(LaunchError(message))
            failures[-1].exit_code = getattr(error, "exit_code", LaunchError.exit_code)


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

    Ends with the exit code of the first that failed. A stop is passed on, so that a stage writes its checkpoint.

    Raises:
        Interrupted: this process was asked to stop; the present command has ended.
    """
    codes: list[int] = []

    def start(number: int, _: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        given = [f"experiment={names[number]}" if text.startswith("experiment=") else text for text in arguments]
        sys.stderr.write(f"runs     sacpo {command} {' '.join(given)}\n")
        return start_process([sys.executable, "-m", "sacpo_exp", command, *given], os.environ)

    run_jobs(range(len(names)), [{}], float("inf"), start, lambda _, code, __: codes.append(code))
    if failed := [code for code in codes if code]:
        sys.exit(failed[0])
