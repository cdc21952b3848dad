"""Start the worker of a stage: in this process if one process is enough, else a group under torchrun."""

import gc
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sacpo_exp.cluster.disk import find_grace
from sacpo_exp.cluster.memory import explaining_shortage
from sacpo_exp.cluster.nodes import LOOPBACK, Nodes, Place
from sacpo_exp.cluster.supervision import Member, supervise
from sacpo_exp.cluster.worker import explain, log_of, read_endings, start_logs
from sacpo_exp.config.hardware import HardwareConfig, Offload
from sacpo_exp.config.loading import read_job, write_config
from sacpo_exp.config.models import FloatType
from sacpo_exp.config.schema import StageJob
from sacpo_exp.errors import Interrupted
from sacpo_exp.stopping import StopFile, catching_stops
from sacpo_exp.training.checkpoints import CHECKPOINTS, LAYOUT, describe_layout, discard_checkpoints, find_checkpoint

log = logging.getLogger(__name__)

#: Variables of another launcher, or of ours for a worker: a group starts without them.
FOREIGN = (
    *("RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE"),
    *("TORCHELASTIC_", "ACCELERATE_", "MASTER_"),
)


def run_stage(job: StageJob, nodes: Nodes) -> dict[str, Any]:
    """Train one stage and return its metrics; the caller holds the lock and publishes `job.folder`.

    Raises:
        DivergedError, LaunchError: training, or a worker, failed.
        Interrupted: this process was asked to stop; a checkpoint lies in `job.folder`.
    """
    job = replace(job, checkpoint=choose_checkpoint(job))
    if job.config.hardware.processes == 1 and job.config.hardware.zero_stage == 0:
        from sacpo_exp.training.stage import train_stage

        gc.freeze()  # what is imported stays; the two collections of a stage need not look through it
        with catching_stops() as request, explaining_shortage(job):
            metrics = train_stage(job, request)
        gc.collect()  # a trainer and its model refer to each other, and the next stage needs the memory
        assert metrics is not None  # a stop has ended the block
        return metrics
    return run_group(job, nodes)


def choose_checkpoint(job: StageJob) -> str | None:
    """Return the checkpoint to resume from; one that this layout of processes can't read is removed, with a warning."""
    folder, layout = Path(job.folder), describe_layout(job.config.hardware)
    checkpoint = find_checkpoint(folder)
    discard_checkpoints(folder / CHECKPOINTS, kept=checkpoint)  # what a kill left, for the room that it takes
    if checkpoint is None:
        return None
    file = checkpoint / LAYOUT
    if (earlier := file.read_text("utf-8") if file.is_file() else "another version") == layout:
        log.info("resumes  %s", checkpoint)
        return str(checkpoint)
    log.warning("restarts the %s stage: its checkpoint is of %s, which %s can't read", job.name, earlier, layout)
    discard_checkpoints(folder / CHECKPOINTS)
    return None


def run_group(job: StageJob, nodes: Nodes) -> dict[str, Any]:
    """Train one stage in a group of processes, on all nodes, that read the job from a file; return its metrics."""
    hardware = job.config.hardware
    logs = Path(job.config.paths.outputs).resolve() / "logs" / job.artifact_id
    start_logs(logs)
    if hardware.zero_stage:
        settings = logs / "deepspeed.json"
        optimization = job.config.optimization
        content = deepspeed_settings(hardware, not optimization.float32_copy)
        if job.config.adapter is None and optimization.dtype == FloatType.bfloat16 and optimization.float32_copy:
            content["communication_data_type"] = "bf16"  # of gradients, which have no more digits; else float32
        settings.write_text(json.dumps(content, indent=1), "utf-8")
        job = replace(job, deepspeed=str(settings))
    path = write_config(job, logs / "job.yaml")
    with socket.socket() as probe:  # a free port
        probe.bind(("", 0))
        place = Place(0, nodes.address or LOOPBACK, int(probe.getsockname()[1]))
    log.info("starts   %d processes for the %s stage, logs in %s", hardware.processes, job.name, os.path.relpath(logs))
    nodes.call({"job": str(path), "port": place.port})
    return join_group(path, place)


def join_group(path: Path, place: Place) -> dict[str, Any]:
    """Run this node's part of the group of a job file, and return the first rank's metrics.

    Raises:
        DivergedError, LaunchError: training, or a worker, failed.
        Interrupted: the group was stopped, here or on another node.
    """
    job, logs = read_job(path), path.parent
    hardware = job.config.hardware
    command = [sys.executable, "-m", "torch.distributed.run", *meeting_arguments(hardware, place)]
    command += ["-m", "sacpo_exp.cluster.worker", str(path)]
    output = logs / f"launcher-{place.node}.log"
    member = Member(command, group_environment(hardware, os.environ), output)
    progress = log_of(logs, 0) if place.node == 0 else Path(os.devnull)
    (code,) = supervise([member], StopFile(logs), progress, find_grace(job.config))
    endings = read_endings(logs)
    if any(ending.is_stopped for ending in endings):
        raise Interrupted(signal.SIGTERM)
    if code:
        raise explain(logs, output, f"the {job.name} stage")
    return next((ending.metrics for ending in endings if ending.metrics is not None), {})


def meeting_arguments(hardware: HardwareConfig, place: Place) -> list[str]:
    """Return the arguments of torchrun that say how many processes there are, and where they meet."""
    settings: dict[str, Any] = {"nnodes": hardware.nodes, "nproc-per-node": hardware.processes // hardware.nodes}
    settings |= {"node-rank": place.node, "master-addr": place.address, "master-port": place.port}
    return [f"--{name}={value}" for name, value in settings.items()]


def group_environment(hardware: HardwareConfig, outside: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a group, without other launchers' variables.

    All processes of a node together have as many threads as it has cores, or as OMP_NUM_THREADS says.
    """
    kept = {name: value for name, value in outside.items() if not name.startswith(FOREIGN)}
    given = outside.get("OMP_NUM_THREADS", "")
    cores = int(given) if given.isdecimal() else len(os.sched_getaffinity(0))
    threads = str(max(1, cores // (hardware.processes // hardware.nodes)))
    return kept | {"OMP_NUM_THREADS": threads, "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "ignore::FutureWarning"}


def deepspeed_settings(hardware: HardwareConfig, is_short: bool = False) -> dict[str, Any]:
    """Return DeepSpeed's settings; transformers fills in what is "auto" (Rajbhandari et al. 2020, 2021).

    `is_short`: all is kept in bfloat16.
    """
    zero: dict[str, Any] = {"stage": hardware.zero_stage}
    if hardware.zero_stage == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True  # or no whole weights are saved
    for part, where in (("optimizer", hardware.offload_optimizer), ("param", hardware.offload_param)):
        if where != Offload.none:
            zero[f"offload_{part}"] = {"device": "cpu", "pin_memory": hardware.accelerator.value == "cuda"}
    return {
        "zero_optimization": zero,
        # Offloading must not change the optimizer: torch's AdamW runs on CPUs too.
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": "auto", "bf16_master_weights_and_grads": is_short, "bf16_optimizer_states": is_short},
        "fp16": {"enabled": "auto"},
        "gradient_clipping": "auto",
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
    }
