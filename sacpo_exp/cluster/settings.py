"""What accelerate and DeepSpeed are told, written from the hardware group; pure."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sacpo_exp.config.hardware import HardwareConfig, Offload

#: Set by another launcher, or by ours for a worker: a group starts without them.
FOREIGN = (
    *("RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE"),
    *("TORCHELASTIC_", "ACCELERATE_", "MASTER_"),
)


@dataclass(frozen=True)
class Place:
    """One node of a group: its number, and where rank 0 listens."""

    node: int
    address: str
    port: int


def accelerate_settings(hardware: HardwareConfig, place: Place) -> dict[str, Any]:
    """The file of `accelerate launch`, so that no file of the user's home plays a part."""
    return {
        "compute_environment": "LOCAL_MACHINE",
        # Several processes of any kind: for CPUs accelerate would want MPI. The workers themselves say use_cpu.
        "distributed_type": "MULTI_GPU" if hardware.processes > 1 else "NO",
        "mixed_precision": "no",  # workers say it, for it is no matter of the machine
        "num_machines": hardware.nodes,
        "num_processes": hardware.processes,
        "machine_rank": place.node,
        "main_process_ip": place.address,
        "main_process_port": place.port,
        "rdzv_backend": "static",
        "same_network": True,
        "gpu_ids": "all",
        "use_cpu": False,
    }


def launch_command(settings: Path, job: Path, threads: int) -> list[str]:
    """`accelerate launch` of our worker."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(settings)]
    return [*command, "--num_cpu_threads_per_process", str(threads), "-m", "sacpo_exp.cluster.worker", str(job)]


def group_environment(hardware: HardwareConfig, place: Place, outside: Mapping[str, str]) -> dict[str, str]:
    """The environment of a group: nothing of another launcher's, and for one process what accelerate leaves out."""
    environment = {name: value for name, value in outside.items() if not name.startswith(FOREIGN)}
    environment |= {"OMP_NUM_THREADS": str(worker_threads(hardware, outside)), "PYTHONUNBUFFERED": "1"}
    environment["PYTHONWARNINGS"] = "ignore::FutureWarning"
    if hardware.processes == 1:
        environment |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
        environment |= {"MASTER_ADDR": place.address, "MASTER_PORT": str(place.port)}
    return environment


def worker_threads(hardware: HardwareConfig, outside: Mapping[str, str]) -> int:
    """Threads per process, so that the group uses the cores, or what OMP_NUM_THREADS leaves of them, once."""
    given = outside.get("OMP_NUM_THREADS", "")
    cores = int(given) if given.isdecimal() else len(os.sched_getaffinity(0))
    return max(1, cores // (hardware.processes // hardware.nodes))


def deepspeed_settings(hardware: HardwareConfig, is_resharded: bool = False) -> dict[str, Any]:
    """DeepSpeed's settings; whatever transformers knows better stays on auto (Rajbhandari et al. 2020, 2021).

    `is_resharded` says that the checkpoint to go on from is in DeepSpeed's universal form.
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
        "bf16": {"enabled": "auto"},
        "fp16": {"enabled": "auto"},
        "gradient_clipping": "auto",
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "checkpoint": {"load_universal": is_resharded},
    }
