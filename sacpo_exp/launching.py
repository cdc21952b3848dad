"""Start the worker of a stage: in this process where one process is enough, else a group under `accelerate launch`."""

import logging
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from sacpo_exp.config.hardware import Accelerator, HardwareConfig
from sacpo_exp.config.loading import JOB, write_job
from sacpo_exp.config.schema import StageJob
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
    hardware = job.config.hardware
    command = [*launch_command(hardware), "-m", "sacpo_exp.worker", str(write_job(job, folder))]
    environment = os.environ | {"OMP_NUM_THREADS": worker_threads(hardware), "PYTHONWARNINGS": "ignore::FutureWarning"}
    environment |= group_of_one(hardware)
    log.info("starts   %d process(es) for the %s stage", hardware.processes, job.name)
    code = subprocess.run(command, check=False, env=environment).returncode
    result: dict[str, Any] = {}
    if (folder / RESULT).is_file():
        result = yaml.safe_load((folder / RESULT).read_text("utf-8"))
    for name in (RESULT, JOB):  # they hold paths of this machine, and must not be taken for those of a later run
        (folder / name).unlink(missing_ok=True)
    if result.get("exit_code") == DivergedError.exit_code:
        raise DivergedError(f"training of the {job.name} stage diverged; its worker's message stands above.")
    if code != 0 or "metrics" not in result:
        raise LaunchError(
            f"the workers of the {job.name} stage ended with exit code {code}; their message stands above."
        )
    metrics: dict[str, Any] = result["metrics"]
    return metrics


def launch_command(hardware: HardwareConfig) -> list[str]:
    """`accelerate launch` with everything on the command line, so that no user's accelerate file plays a part."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_machines", "1", "--mixed_precision", "no"]
    command += ["--num_processes", str(hardware.processes), "--main_process_port", str(free_port())]
    command += ["--dynamo_backend", "no"]
    if hardware.processes > 1:
        # Several processes of any kind: with --cpu accelerate wants MPI. The workers themselves say use_cpu.
        command.append("--multi_gpu")
    return command


def group_of_one(hardware: HardwareConfig) -> dict[str, str]:
    """What DeepSpeed reads from the environment, for the one process that accelerate starts without it."""
    if hardware.processes > 1:
        return {}
    return {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }


def free_port() -> int:
    """A TCP port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def worker_threads(hardware: HardwareConfig) -> str:
    """Threads per process, so that the group as a whole uses the machine's cores once."""
    return str(max(1, (os.cpu_count() or 1) // hardware.processes))
