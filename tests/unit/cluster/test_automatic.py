"""`hardware=auto` on made-up machines and on this one, and the look at a machine."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sacpo_exp.cluster.automatic import choose_hardware, choose_processes, list_rows
from sacpo_exp.config.hardware import HardwareConfig, Machine, Offload, look_at_machine, read_gpus, visible
from sacpo_exp.config.schema import RunConfig
from sacpo_exp.config.validation import find_run_problems

Configure = Callable[..., Any]


@pytest.fixture
def paper(configure: Configure) -> RunConfig:
    """The paper's run with the numbers that `auto` takes for a GPU."""
    config: RunConfig = configure("model=alpaca_7b", "optimization=paper", "hardware=a100x1")
    config.hardware = replace(config.hardware, name="auto", device_memory=None)
    return config


def choose(config: RunConfig, machine: Machine, **given: Any) -> tuple[HardwareConfig, str]:
    return choose_hardware(replace(config, hardware=replace(config.hardware, **given)), machine, given)


#: GiB of GPUs and of the host; (processes, ZeRO stage, place of the optimizer).
CHOSEN = {
    # without ZeRO it would fit too, but bfloat16 weights would be updated without a float32 copy
    "eight large ones, as plain as possible": ((80.0,) * 8, 1024, (8, 1, Offload.none)),
    "smaller ones share": ((40.0,) * 8, 1024, (8, 2, Offload.none)),
    "one small one uses the host": ((24.0,), 256, (1, 2, Offload.cpu)),
}


@pytest.mark.parametrize("case", CHOSEN)
def test_all_gpus_are_used_in_the_cheapest_way_that_fits(paper: RunConfig, case: str) -> None:
    gpus, memory, expected = CHOSEN[case]
    hardware, reason = choose(paper, Machine(memory, gpus))
    assert (hardware.processes, hardware.zero_stage, hardware.offload_optimizer) == expected
    assert hardware.per_device_train_batch_size == 16
    assert reason.startswith(f"auto: this machine has {len(gpus)} GPU")
    assert reason.endswith("which fits by the memory plan")


def test_where_nothing_fits_that_is_logged(paper: RunConfig) -> None:
    assert choose(paper, Machine(16, (8.0,)))[1].endswith("; nothing fits by the memory plan")


@pytest.mark.parametrize("given", [{"zero_stage": 0}, {"processes": 2, "per_device_train_batch_size": 4}])
def test_what_is_given_is_kept(paper: RunConfig, given: dict[str, Any]) -> None:
    hardware, _ = choose(paper, Machine(64, (8.0,) * 8), **given)
    assert {name: getattr(hardware, name) for name in given} == given
    assert find_run_problems(replace(paper, hardware=hardware), []) == []


@pytest.mark.parametrize(
    ("gpus", "batches", "processes", "rows"),
    [
        (8, [(12, 1)], 6, 16),
        (4, [(4, 2)], 2, 16),  # KTO needs two rows on a device
        (4, [(80, 1), (48, 1)], 4, 4),
        (3, [], 3, 16),
    ],
)
def test_processes_divide_every_batch(gpus: int, batches: list[tuple[int, int]], processes: int, rows: int) -> None:
    assert choose_processes(gpus, batches) == processes
    assert list_rows(16, processes, batches)[0] == rows


def test_auto_on_this_machine(configure: Configure, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        config = configure("hardware=auto", "model=tiny", "hardware.save_minutes=7", "hardware.zero_stage=0")
    assert [record.message for record in caplog.records if record.message.startswith("hardware auto: this machine has")]
    assert (config.hardware.name, config.hardware.save_minutes, config.hardware.zero_stage) == ("auto", 7, 0)
    if not look_at_machine().gpus:
        assert config.hardware == replace(configure("model=tiny").hardware, name="auto", save_minutes=7)


def test_gpus_are_those_that_nvidia_smi_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nprintf '81920\\n40960\\n'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert read_gpus() == (80.0, 40.0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert look_at_machine().gpus == (40.0,)
    program.write_text("#!/bin/sh\nexit 9\n")
    assert read_gpus() == tuple(None for _ in Path("/proc/driver/nvidia/gpus").glob("*"))


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [(None, (80, 40, 24)), ("", ()), ("2,0", (24, 80)), ("0,7,1", (80,)), ("-1", ()), ("GPU-5ebe9f43", (None,))],
)
def test_cuda_visible_devices_selects_gpus(chosen: str | None, expected: tuple[float | None, ...]) -> None:
    assert visible((80, 40, 24), chosen) == expected


def test_memory_is_at_most_the_machine_s_and_the_smallest_gpu_counts() -> None:
    lines = Path("/proc/meminfo").read_text().splitlines()
    total = next(int(line.split()[1]) for line in lines if line.startswith("MemTotal:")) / 2**20
    memory = look_at_machine().memory
    assert memory is not None
    assert 0.1 < memory <= total * 1.001
    assert [Machine(64, gpus).smallest_gpu for gpus in ((80, 24), (80, None), ())] == [24, None, None]
