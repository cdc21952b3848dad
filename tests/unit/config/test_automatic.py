"""`hardware=auto`: what is chosen on made-up machines, and on this one."""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sacpo_exp.config.hardware_checks import find_hardware_problems

from sacpo_exp.config.automatic import (
    Batch,
    choose_hardware,
    choose_processes,
    choose_rows,
    list_hardware,
    read_hardware,
    to_hardware,
)
from sacpo_exp.config.hardware import Accelerator, HardwareConfig, Machine, Offload, look_at_machine
from sacpo_exp.config.loading import CONF
from sacpo_exp.config.memory import fits, worst_stage
from sacpo_exp.config.models import FloatType
from sacpo_exp.config.schema import RunConfig

Configure = Callable[..., Any]

CPU, GPU = (read_hardware(CONF / "hardware" / f"{name}.yaml") for name in ("cpu", "a100x1"))


def choose(config: RunConfig, machine: Machine, given: dict[str, Any] | None = None) -> tuple[HardwareConfig, str]:
    """The group that `hardware=auto` gives a configuration on a machine, and what it says."""
    sizes = [stage.global_batch_size or 0 for stage in config.stages.values()]

    def does_fit(values: dict[str, Any]) -> bool | None:
        hardware = to_hardware(values)
        found = worst_stage(replace(config, hardware=hardware))
        return None if found is None else fits(found[1], hardware, machine)

    is_short = config.optimization.dtype != FloatType.float32
    choice = choose_hardware(machine, [Batch(size) for size in sizes], CPU, GPU, given or {}, does_fit, is_short)
    return to_hardware({"name": "auto"} | choice.values | (given or {})), choice.reason


@pytest.fixture
def paper(configure: Configure) -> RunConfig:
    config: RunConfig = configure("model=alpaca_7b", "optimization=paper")
    return config


def test_eight_large_gpus_are_all_used_as_plainly_as_fits(paper: RunConfig) -> None:
    hardware, reason = choose(paper, Machine(1024, (80.0,) * 8))
    # without ZeRO it would fit too, but bfloat16 weights would be updated without a float32 copy
    assert (hardware.processes, hardware.zero_stage, hardware.per_device_train_batch_size) == (8, 1, 16)
    assert (hardware.accelerator, hardware.device_memory, hardware.tf32) == (Accelerator.cuda, 80, True)
    assert reason == (
        "auto: this machine has 8 GPUs of 80 GiB: 8 processes, 16 rows each, ZeRO 1, which fits by the memory plan"
    )


def test_smaller_gpus_share_what_one_can_t_hold(paper: RunConfig) -> None:
    hardware, _ = choose(paper, Machine(1024, (40.0,) * 8))
    assert (hardware.processes, hardware.zero_stage, hardware.offload_optimizer) == (8, 2, Offload.none)


def test_one_gpu_of_24_gib_keeps_the_optimizer_on_the_host(paper: RunConfig) -> None:
    hardware, reason = choose(paper, Machine(256, (24.0,)))
    assert (hardware.processes, hardware.zero_stage, hardware.offload_optimizer) == (1, 2, Offload.cpu)
    assert hardware.offload_param == Offload.none
    assert reason.endswith("1 process, 16 rows each, ZeRO 2, the optimizer on the host, which fits by the memory plan")


def test_where_nothing_fits_that_is_said(paper: RunConfig) -> None:
    _, reason = choose(paper, Machine(16, (8.0,)))
    assert reason.endswith("; nothing fits by the memory plan")


def test_gpus_that_can_t_share_a_batch_stay_idle(paper: RunConfig) -> None:
    stages = {"helpfulness": replace(paper.stages["helpfulness"], global_batch_size=3)}
    hardware, _ = choose(replace(paper, stages=stages), Machine(1024, (80.0, 80.0)))
    assert hardware.processes == 1
    # with 3 rows in one pass: 16 would be cut down to the batch anyway
    assert hardware.per_device_train_batch_size == 16


def test_without_a_gpu_the_numbers_are_those_of_cpu(configure: Configure) -> None:
    hardware, reason = choose(configure("model=tiny"), Machine(24))
    assert replace(hardware, name="cpu") == to_hardware(CPU)
    assert reason.startswith("auto: this machine has no GPU and 24 GiB: 1 process, 8 rows each, ZeRO 0")


def test_what_is_given_stays(paper: RunConfig) -> None:
    given = {"processes": 2, "zero_stage": 3, "per_device_train_batch_size": 4}
    hardware, _ = choose(paper, Machine(1024, (80.0,) * 8), given)
    assert {name: getattr(hardware, name) for name in given} == given


@pytest.mark.parametrize("given", [{"zero_stage": 0}, {"zero_stage": 1}, {"offload_optimizer": "cpu", "zero_stage": 2}])
def test_nothing_is_chosen_that_contradicts_what_is_given(paper: RunConfig, given: dict[str, Any]) -> None:
    hardware, reason = choose(paper, Machine(64, (8.0,)), given)
    assert reason.endswith("; nothing fits by the memory plan")
    assert hardware.zero_stage == given["zero_stage"]
    assert list(find_hardware_problems(hardware)) == []


@pytest.mark.parametrize(
    ("gpus", "batches", "processes", "rows"),
    [
        (8, [Batch(256), Batch(64)], 8, 16),
        (8, [Batch(12)], 6, 16),
        (2, [Batch(3)], 1, 16),
        (4, [Batch(4, 2)], 2, 16),  # KTO wants two rows on a device
        (1, [Batch(24)], 1, 12),
        (4, [Batch(80), Batch(48)], 4, 4),
        (3, [], 3, 16),
    ],
)
def test_processes_and_rows_divide_every_batch(gpus: int, batches: list[Batch], processes: int, rows: int) -> None:
    assert choose_processes(gpus, batches) == processes
    assert choose_rows(16, processes, batches) == rows


def test_auto_on_this_machine(configure: Configure, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        config = configure("hardware=auto", "model=tiny", "hardware.save_steps=7", "hardware.zero_stage=0")
    assert [record.message for record in caplog.records if record.message.startswith("hardware auto: this machine has")]
    assert (config.hardware.name, config.hardware.save_steps, config.hardware.zero_stage) == ("auto", 7, 0)
    if not look_at_machine().gpus:
        assert config.hardware == replace(configure("model=tiny").hardware, name="auto", save_steps=7)


def test_a_group_without_open_fields_is_left_alone(configure: Configure, caplog: pytest.LogCaptureFixture) -> None:
    configure("model=tiny", "seed=3")
    assert caplog.records == []


def test_groups_are_read_with_what_they_stand_on(configure: Configure) -> None:
    found = {hardware.name: hardware for hardware in list_hardware(CONF)}
    assert "auto" not in found
    assert found["h100x8"] == configure("hardware=h100x8", "optimization=paper").hardware
