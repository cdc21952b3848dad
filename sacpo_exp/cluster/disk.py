"""Estimate the disk space of policies and checkpoints, and the time that a checkpoint takes.

Bytes per parameter are those of transformers 5.23's and DeepSpeed 0.19's files (tests/integration/test_checkpoints.py).
"""

import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

from sacpo_exp.cluster.memory import BYTES, count_adapter, find_shape, model_parameters
from sacpo_exp.config.schema import RunConfig

GB = 1e9
#: Bytes per second: SHA-256 on a core with instructions for it, and a slow disk, where the speed can't be measured.
HASHING, SLOW = 1.2e9, 1e8
#: Seconds to stop besides the checkpoint's, and by which Slurm tells a job earlier, so that it also ends in time.
LEAST, MARGIN = 25, 60
#: Bytes that are written to measure the speed of the disk.
PROBE = 2**27


def policy_bytes(config: RunConfig) -> int | None:
    """Return the bytes of a stored policy; None if the model's shape is not known."""
    shape = find_shape(config.model)
    parameters = model_parameters(config.model, shape) if shape else config.model.parameters
    return parameters and parameters * BYTES[config.optimization.dtype]


def checkpoint_bytes(config: RunConfig) -> int:
    """Return the bytes of one checkpoint of a stage; 0 if the model's shape is not known.

    It has the weights and AdamW's two moments, in float32 with ZeRO unless there is no such copy; stages 1 and 2 keep
    the weights in their own type besides.
    """
    optimization, zero, shape = config.optimization, config.hardware.zero_stage, find_shape(config.model)
    trained = (policy_bytes(config) or 0) // BYTES[optimization.dtype]
    if config.adapter is not None:
        trained = count_adapter(shape, config.adapter) if shape else 0
    weight = BYTES.get(optimization.autocast or optimization.dtype, 4) if zero else BYTES[optimization.dtype]
    state = 4 if (zero and optimization.float32_copy) or (config.adapter and not zero) else weight
    return trained * (3 * state + (weight if zero in (1, 2) else 0))


def find_grace(config: RunConfig) -> int:
    """Return `hardware.grace_seconds`; if it is null, `LEAST` and twice the seconds that a checkpoint takes.

    Twice, since the request to stop may come while another is being written. The write speed is that of one process
    where the outputs lie, on to the disk. It is measured unless the checkpoint is small.
    """
    if config.hardware.grace_seconds is not None:
        return config.hardware.grace_seconds
    size, speed = checkpoint_bytes(config), SLOW
    if size / SLOW > LEAST / 2:
        with suppress(OSError):  # a full disk, which is reported where something is written
            speed = measure_write_speed(outputs_of(config))
    return LEAST + round(2 * size * (1 / speed + 1 / HASHING / config.hardware.processes))


@cache
def measure_write_speed(folder: Path) -> float:
    """Return bytes per second."""
    data = os.urandom(PROBE)
    with tempfile.TemporaryFile(dir=folder) as file:
        start = time.monotonic()
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        return PROBE / (time.monotonic() - start)


def outputs_of(config: RunConfig) -> Path:
    """Return the folder of all outputs, made if it is not there."""
    folder = Path(config.paths.outputs)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def describe_disk(config: RunConfig, weights: Mapping[str, int], is_training: bool, held: int = 0) -> tuple[str, bool]:
    """Return what is still to be written, in words, and whether the disk has room for it.

    Args:
        weights: bytes of each policy that is to be made, by id.
        is_training: whether a stage is among them. It has two checkpoints while one replaces the other.
        held: bytes of checkpoints that lie there and will be replaced.
    """
    policies, checkpoint = sum(weights.values()), checkpoint_bytes(config)
    checkpoints, free = 2 * checkpoint * is_training, shutil.disk_usage(outputs_of(config)).free
    text = (
        f"{len(weights)} policies to be made take {policies / GB:.1f} GB, and up to two checkpoints of a stage "
        f"{checkpoints / GB:.1f} GB; {config.paths.outputs} has {free / GB:.1f} GB left"
    )
    return text, policies + checkpoints - held <= free
