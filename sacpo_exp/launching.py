"""Start the worker of a stage: in this process where one process is enough, else a group under `accelerate launch`."""

import logging
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from sacpo_exp.config.loading import write_job
from sacpo_exp.config.schema import Accelerator, HardwareConfig, StageJob
from sacpo_exp.errors import ConfigError, DivergedError, LaunchError

log = logging.getLogger(__name__)

RESULT = "result.yaml"


def check_devices(hardware: HardwareConfig) -> None:
    """Raises ConfigError where the machine has fewer devices than the hardware group asks for."""
    if hardware.accelerator != Accelerator.cuda:
        return
    import torch

    found = torch.cuda.device_count()
    if found < hardware.processes:
        raise ConfigError(
            f"`hardware={hardware.name}` needs {hardware.processes} GPUs, but this machine has {found}. "
            "Try: hardware=cpu, or dry_run=true to see the plan only."
        )


def run_stage(job: StageJob) -> dict[str, Any]:
    """Train one stage and return its metrics; the parent holds the lock and publishes what lies in `job.folder`."""
    if job.config.hardware.processes == 1 and job.config.hardware.zero_stage == 0:
        from sacpo_exp.training.stage import train_stage

        return train_stage(job)
    return run_group(job)


def run_group(job: StageJob) -> dict[str, Any]:
    """Train one stage in a group of processes that read the job from a file.

    Raises:
        DivergedError, LaunchError: the group ended with an error, whose message it has printed.
    """
    folder = Path(job.folder)
    command = [*launch_command(job.config.hardware), "-m", "sacpo_exp.worker", str(write_job(job, folder))]
    log.info("starts   %d processes for the %s stage", job.config.hardware.processes, job.name)
    code = subprocess.run(command, check=False, env=os.environ | {"OMP_NUM_THREADS": worker_threads(job)}).returncode
    if code == DivergedError.exit_code:
        raise DivergedError(f"training of the {job.name} stage diverged; its worker's message stands above.")
    if code != 0 or not (folder / RESULT).is_file():
        raise LaunchError(
            f"the workers of the {job.name} stage ended with exit code {code}; their message stands above."
        )
    metrics: dict[str, Any] = yaml.safe_load((folder / RESULT).read_text("utf-8"))
    for name in (RESULT, "job.yaml"):  # they hold paths of this machine
        (folder / name).unlink()
    return metrics


def launch_command(hardware: HardwareConfig) -> list[str]:
    """`accelerate launch` with everything on the command line, so that no user's accelerate file plays a part."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_machines", "1", "--mixed_precision", "no"]
    command += ["--num_processes", str(hardware.processes), "--main_process_port", str(free_port())]
    command += ["--dynamo_backend", "no"]
    if hardware.accelerator == Accelerator.cpu:
        command.append("--cpu")
    if hardware.processes > 1:
        command.append("--multi_gpu" if hardware.accelerator == Accelerator.cuda else "--use_cpu")
    return command


def free_port() -> int:
    """A TCP port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def worker_threads(job: StageJob) -> str:
    """Threads per process, so that the group as a whole uses the machine's cores once."""
    return str(max(1, (os.cpu_count() or 1) // job.config.hardware.processes))
