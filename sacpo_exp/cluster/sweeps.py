"""Run the jobs of a sweep side by side, or a list of experiments, and explain how a sweep on Slurm ended."""

import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, read_write
from omegaconf.errors import MissingMandatoryValue

from sacpo_exp.cluster.devices import divide_machine
from sacpo_exp.cluster.disk import MARGIN, find_grace
from sacpo_exp.cluster.status import FAILED, distinguish, read_sweep
from sacpo_exp.cluster.supervision import run_jobs, start_process
from sacpo_exp.config import CONF
from sacpo_exp.config.loading import quote
from sacpo_exp.config.schema import RunConfig
from sacpo_exp.errors import ConfigError, LaunchError, SacpoError

log = logging.getLogger(__name__)

#: Seconds before its end at which a Slurm job is told of it, where `hardware=auto` is filled in on its node only.
UNSURE = 600


def name_group(config: Any, experiment: str | None) -> str | None:
    """Return what `train` and `eval` of the same overrides have as group in trackers; None for other commands."""
    if experiment or not isinstance(config, RunConfig):
        return experiment
    return f"{config.model.name}.{config.dataset.name}"


class SweepNoter(Callback):
    """Set the configuration of the whole sweep in `HydraConfig`; Hydra itself sets it for single jobs only.

    Slurm's jobs are told of their end so early that a checkpoint of the default model can be written.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        launcher = config.hydra.launcher
        if launcher.signal_delay_s == 0:
            with read_write(launcher):
                try:
                    launcher.signal_delay_s = find_grace(cast(RunConfig, config)) + MARGIN
                except MissingMandatoryValue:
                    launcher.signal_delay_s = UNSURE
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
        is_submitted, is_lost = any(folder.rglob("*_submitted.pkl")), isinstance(error, FailedJobError)
        if not is_submitted and is_lost:
            sentence = f"Slurm refused the jobs: {text}. `sinfo` lists partitions; hydra.launcher has the settings."
            raise ConfigError(sentence) from error
        if isinstance(error, KeyboardInterrupt) and is_submitted:
            log.warning("the submitted jobs go on; `squeue --me` lists them, and scancel ends them")
        failed = [job for job in read_sweep(folder) if job.state == FAILED] if is_submitted else []
        messages = [f"job {job.number} ({job.overrides}): {job.message}" for job in failed]
        if is_lost or isinstance(error, UncompletedJobError):  # it was cancelled or killed, or its node failed
            messages.append(f"a job was lost, and the others go on: {text[:400]}. What they print is in {folder}/slurm")
        if not messages or isinstance(error, KeyboardInterrupt):
            raise
        for message in messages:
            failures.append(LaunchError(message))
            failures[-1].exit_code = getattr(error, "exit_code", LaunchError.exit_code)


def run_slots(config: Any, jobs: Mapping[int, Sequence[str]], slots: int | None) -> list[SacpoError]:
    """Run the jobs of a sweep, each as a command of its own with its own devices and threads; return the errors.

    Args:
        config: of the whole sweep, with Hydra's settings; GPUs are divided by its `hardware`.
        jobs: overrides by number.
        slots: number of jobs at a time; None: as many as fit.

    Raises:
        ConfigError: the machine has too little for these slots.
        Interrupted: asked to stop.
    """
    command, root, hardware = config.hydra.job.config_name, Path(config.hydra.sweep.dir).resolve(), config.hardware
    if hardware.nodes > 1:
        raise ConfigError("`hydra/launcher=slots` is for one machine. Try: hydra/launcher=slurm, or leave it out.")
    shares, texts = divide_machine(slots, hardware), distinguish(jobs)
    log.info("sweep    %d jobs, %d at a time", len(jobs), len(shares))
    sources = [each for each in config.hydra.runtime.config_sources if each.provider != "main"]
    places = ",".join(quote(f"file://{each.path}") for each in sources if each.schema == "file")  # the user's groups
    common = ["hydra.mode=RUN", "hydra.job_logging.root.handlers=[console]", f"hydra.searchpath=[{places}]"]
    failures: dict[int, SacpoError] = {}

    def start(number: int, share: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        folder = root / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        own = [*jobs[number], *common, f"hydra.run.dir={quote(str(folder))}"]
        program = [sys.executable, "-m", "sacpo_exp", command, *own]
        return start_process(program, os.environ | share, folder / f"{command}.log")

    def ended(number: int, code: int, seconds: float) -> None:
        name, path = f"job {number} ({texts[number]})", root / str(number) / f"{command}.log"
        if code == 0:
            log.info("finished %s in %.0f s", name, seconds)
            return
        reasons = re.findall(r"^error: (.*)", path.read_text("utf-8", "replace"), re.MULTILINE)
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        message = f"{name}: {' '.join(reasons) or f'its process {how}.'} See {os.path.relpath(path)}"
        log.info("failed   after %.0f s: %s", seconds, message)
        failures[number] = LaunchError(message)
        failures[number].exit_code = code if code > 0 else LaunchError.exit_code

    run_jobs(jobs, shares, start, ended)
    return [error for _, error in sorted(failures.items())]


def list_experiments(arguments: Sequence[str]) -> list[str]:
    """Return the names in `experiments` of the chosen file of conf/experiment; empty if it is no list of others.

    Each has a sweep of its own, which no single multirun of Hydra can have.
    """
    chosen = [text.partition("=")[2] for text in arguments if text.startswith("experiment=")]
    path = CONF / "experiment" / f"{chosen[-1]}.yaml" if chosen else CONF
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
    listed = next(text for text in arguments if text.startswith("experiment="))

    def start(number: int, _: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        given = [f"experiment={names[number]}" if text == listed else text for text in arguments]
        if any(text.startswith("tracker=") for text in given):  # one group for all, unless another is given after it
            given.insert(given.index(f"experiment={names[number]}"), f"tracker.group={listed.partition('=')[2]}")
        sys.stderr.write(f"runs     sacpo {command} {' '.join(given)}\n")
        return start_process([sys.executable, "-m", "sacpo_exp", command, *given], os.environ)

    run_jobs(range(len(names)), [{}], start, lambda _, code, __: codes.append(code))
    if failed := [code for code in codes if code]:
        sys.exit(failed[0])
