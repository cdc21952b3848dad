"""Start the worker of a stage: in this process where one process is enough, else a group under `accelerate launch`."""

import json
import logging
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from sacpo_exp.cluster.devices import LOOPBACK, choose_port
from sacpo_exp.cluster.nodes import ALONE, Nodes, Rendezvous
from sacpo_exp.cluster.reports import explain, log_of, read_endings, start_logs
from sacpo_exp.cluster.settings import (
    Place,
    accelerate_settings,
    deepspeed_settings,
    group_environment,
    launch_command,
    worker_threads,
)
from sacpo_exp.cluster.supervision import Member, supervise
from sacpo_exp.config.hardware import HardwareConfig
from sacpo_exp.config.loading import read_job, write_job
from sacpo_exp.config.schema import StageJob
from sacpo_exp.errors import Interrupted
from sacpo_exp.stopping import StopFile, catching_stops
from sacpo_exp.training.checkpoints import CHECKPOINTS, Layout, discard_checkpoints, find_checkpoint

log = logging.getLogger(__name__)


def run_stage(job: StageJob, nodes: Nodes = ALONE) -> dict[str, Any]:
    """Train one stage and return its metrics; the parent holds the lock and publishes what lies in `job.folder`.

    Raises:
        DivergedError, LaunchError: training, or a worker, failed.
        Interrupted: this process was asked to stop; a checkpoint lies in `job.folder`.
    """
    job = replace(job, checkpoint=choose_checkpoint(job))
    if is_one_process(job.config.hardware):
        from sacpo_exp.training.stage import train_stage

        with catching_stops() as request:
            metrics = train_stage(job, request)
    else:
        metrics = run_group(job, nodes)
    if metrics is None:
        raise Interrupted(signal.SIGTERM)  # of another node
    return metrics


def is_one_process(hardware: HardwareConfig) -> bool:
    """Whether a stage needs no group."""
    return hardware.processes == 1 and hardware.zero_stage == 0


def choose_checkpoint(job: StageJob) -> str | None:
    """The checkpoint to go on from; one that this layout of processes can't read is given up, and that is said."""
    folder, layout = Path(job.folder), Layout.of(job.config.hardware)
    checkpoint = find_checkpoint(folder)
    if checkpoint is None:
        return None
    earlier = Layout.read(checkpoint)
    if layout.can_read(earlier):
        log.info("resumes  %s", checkpoint)
        return str(checkpoint)
    if layout.can_reshard(earlier):
        from sacpo_exp.training.resharding import reshard

        log.info("resumes  %s, resharded from %s", checkpoint, earlier)
        reshard(checkpoint)
        return str(checkpoint)
    log.warning("restarts the %s stage: its checkpoint is of %s, which %s can't read", job.name, earlier, layout)
    discard_checkpoints(folder / CHECKPOINTS)
    return None


def run_group(job: StageJob, nodes: Nodes = ALONE) -> dict[str, Any] | None:
    """Train one stage in a group of processes that read the job from a file; None if it stopped before its end."""
    hardware = job.config.hardware
    logs = Path(job.config.paths.outputs).resolve() / "logs" / job.artifact_id
    start_logs(logs)
    if hardware.zero_stage:
        settings = logs / "deepspeed.json"
        is_resharded = job.checkpoint is not None and Layout.read(Path(job.checkpoint)) != Layout.of(hardware)
        settings.write_text(json.dumps(deepspeed_settings(hardware, is_resharded), indent=1), "utf-8")
        job = replace(job, deepspeed=str(settings))
    path = write_job(job, logs)
    place = Place(0, nodes.address or LOOPBACK, choose_port(hardware))
    log.info("starts   %d processes for the %s stage, logs in %s", hardware.processes, job.name, os.path.relpath(logs))
    nodes.call({"job": str(path), "port": place.port})
    return join_group(job, path, place)


def join_group(job: StageJob, path: Path, place: Place) -> dict[str, Any] | None:
    """Run this node's part of the group of `path` to its end, and return the first rank's metrics."""
    hardware, logs = job.config.hardware, path.parent
    settings = logs / f"accelerate-{place.node}.yaml"
    settings.write_text(yaml.safe_dump(accelerate_settings(hardware, place)), "utf-8")
    member = Member(
        launch_command(settings, path, worker_threads(hardware, os.environ)),
        group_environment(hardware, place, os.environ),
        logs / f"launcher-{place.node}.log",
    )
    first = place.node * hardware.processes // hardware.nodes
    (code,) = supervise(
        [member], StopFile(logs), log_of(logs, first) if place.node == 0 else Path(os.devnull), hardware.grace_seconds
    )
    endings = read_endings(logs)
    if any(ending.is_stopped for ending in endings):
        return None
    if code:
        raise explain(logs, member.output, f"the {job.name} stage")
    return next((ending.metrics for ending in endings if ending.metrics is not None), {})


def join_as_node(meeting: Rendezvous, path: Path, port: int) -> None:
    """Take part, as another node than the first, in the group of a job.

    Raises:
        LaunchError: the group failed.
        Interrupted: it was stopped.
    """
    job = read_job(path)
    if join_group(job, path, Place(meeting.node, meeting.address, port)) is None:
        raise Interrupted(signal.SIGTERM)
