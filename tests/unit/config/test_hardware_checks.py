"""What can be wrong with a hardware group, said in one sentence each."""

from collections.abc import Callable
from pathlib import Path

import pytest

PROBLEMS = {
    "zero stage": (["hardware.zero_stage=4"], "`hardware.zero_stage` must be 0, 1, 2 or 3, but is 4."),
    "port": (["hardware.port=70000"], "`hardware.port` must lie between 1 and 65535, but is 70000."),
    "nodes": (
        ["hardware.nodes=3", "hardware=cpu_x2"],
        "`hardware.processes` must be a multiple of `hardware.nodes` = 3, but is 2; it counts those of all nodes "
        "together.",
    ),
    "no nodes": (["hardware.nodes=0"], "`hardware.nodes` must be at least 1, but is 0."),
    "devices of CPUs": (
        ["hardware.devices=[0]"],
        "`hardware.devices` has no effect with `hardware.accelerator` = cpu.",
    ),
    "one device twice": (
        ["optimization=paper", "hardware=a100x2", "hardware.devices=[1,1]"],
        "`hardware.devices` must name different GPUs by index, but is [1, 1].",
    ),
    "too few devices": (
        ["optimization=paper", "hardware=a100x2", "hardware.devices=[1]"],
        "`hardware.devices` must name as many GPUs as there are processes per node, 2, but names 1. "
        "Try: hardware.processes=1",
    ),
    "optimizer without ZeRO": (
        ["hardware.offload_optimizer=cpu"],
        "`hardware.offload_optimizer=cpu` needs ZeRO stage 1 or more, but `hardware.zero_stage` is 0. "
        "Try: hardware.zero_stage=2",
    ),
    "parameters with ZeRO 2": (
        ["hardware.zero_stage=2", "hardware.offload_param=cpu"],
        "`hardware.offload_param=cpu` needs ZeRO stage 3, but `hardware.zero_stage` is 2. Try: hardware.zero_stage=3",
    ),
    "no disk": (
        ["hardware.zero_stage=3", "hardware.offload_optimizer=nvme"],
        "`hardware.nvme_path` must be a folder on an NVMe disk, but None is not there. "
        "Try: hardware.nvme_path=/local_nvme",
    ),
    "missing disk": (
        ["hardware.zero_stage=3", "hardware.offload_param=nvme", "hardware.nvme_path=/nowhere"],
        "`hardware.nvme_path` must be a folder on an NVMe disk, but /nowhere is not there. "
        "Try: hardware.nvme_path=/local_nvme",
    ),
    "disk for nothing": (
        ["hardware.nvme_path=/tmp"],
        "`hardware.nvme_path` has no effect: nothing is offloaded to it. Try: hardware.offload_optimizer=nvme",
    ),
}


@pytest.mark.parametrize(("overrides", "sentence"), PROBLEMS.values(), ids=list(PROBLEMS))
def test_a_problem_is_said_in_one_sentence(
    problems_of: Callable[..., list[str]], overrides: list[str], sentence: str
) -> None:
    assert problems_of(*overrides) == [sentence]


def test_offloading_to_a_disk_that_is_there_is_fine(configure: Callable[..., object], tmp_path: Path) -> None:
    configure("hardware.zero_stage=3", "hardware.offload_param=nvme", f"hardware.nvme_path={tmp_path}")
