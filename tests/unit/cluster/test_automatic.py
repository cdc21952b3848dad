"""`hardware=auto` on made-up machines and on this one, and the look at a machine."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from composing import compose

from sacpo_exp.cluster import automatic
from sacpo_exp.cluster.automatic import choose_hardware, choose_numbers, choose_processes, list_rows
from sacpo_exp.config.hardware import (
    Accelerator,
    Gpu,
    HardwareConfig,
    Machine,
    Offload,
    look_at_machine,
    read_gpus,
    visible,
)
from sacpo_exp.config.models import FloatType
from sacpo_exp.config.schema import RunConfig
from sacpo_exp.config.validation import find_run_problems


@pytest.fixture
def paper(configure: Any) -> RunConfig:
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
    hardware, reason = choose(paper, Machine(memory, tuple(map(Gpu, gpus))))
    assert (hardware.processes, hardware.zero_stage, hardware.offload_optimizer) == expected
    assert hardware.per_device_train_batch_size == 16
    assert reason.startswith(f"auto: this machine has {len(gpus)} GPU")
    assert reason.endswith("which fits by the memory plan")


def test_what_is_given_is_kept_and_that_nothing_fits_is_logged(paper: RunConfig) -> None:
    for given in ({"zero_stage": 0}, {"processes": 2, "per_device_train_batch_size": 4}):
        hardware, _ = choose(paper, Machine(64, (Gpu(8.0),) * 8), **given)
        assert {name: getattr(hardware, name) for name in given} == given
        assert find_run_problems(replace(paper, hardware=hardware), []) == []
    assert choose(paper, Machine(16, (Gpu(8.0),)))[1].endswith("; nothing fits by the memory plan")


def test_processes_divide_every_batch() -> None:
    for gpus, batches, processes, rows in (
        (8, [(12, 1)], 6, 16),
        (4, [(4, 2)], 2, 16),  # KTO needs two rows on a device
        (4, [(80, 1), (48, 1)], 4, 4),
        (3, [], 3, 16),
    ):
        assert (choose_processes(gpus, batches), list_rows(16, processes, batches)[0]) == (processes, rows)


def test_auto_on_this_machine(configure: Any, caplog: pytest.LogCaptureFixture) -> None:
    automatic._told.clear()
    with caplog.at_level(logging.INFO):
        config = configure("hardware=auto", "model=tiny", "hardware.save_minutes=7", "hardware.zero_stage=0")
    assert [record.message for record in caplog.records if record.message.startswith("hardware auto: this machine has")]
    assert (config.hardware.name, config.hardware.save_minutes, config.hardware.zero_stage) == ("auto", 7, 0)
    if not look_at_machine().gpus:
        assert config.hardware == replace(configure("model=tiny").hardware, name="auto", save_minutes=7)


VISIBLE = {None: (80, 40, 24), "": (), "2,0": (24, 80), "0,7,1": (80,), "-1": (), "GPU-5ebe9f43": (None,)}


def test_gpus_are_listed_by_nvidia_smi_and_selected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nprintf '81920, 9.0\\n40960, 7.5\\n'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert read_gpus() == (Gpu(80.0, 9.0), Gpu(40.0, 7.5))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert look_at_machine().gpus == (Gpu(40.0, 7.5),)
    program.write_text("#!/bin/sh\nexit 9\n")
    assert read_gpus() == tuple(Gpu() for _ in Path("/proc/driver/nvidia/gpus").glob("*"))

    for chosen, expected in VISIBLE.items():
        assert visible((Gpu(80), Gpu(40), Gpu(24)), chosen) == tuple(map(Gpu, expected))


def test_memory_is_at_most_the_machine_s_and_the_smallest_gpu_counts() -> None:
    total = psutil.virtual_memory().total / 2**30
    assert 0.1 < look_at_machine().memory <= total * 1.001
    assert [Machine(64, tuple(map(Gpu, gpus))).smallest_gpu for gpus in ((80, 24), (80, None), ())] == [24, None, None]


#: Flags of the CPU, GPUs, hardware, and the types of numbers that `auto` becomes.
CHOICES = {
    "a CPU that emulates bfloat16": (False, (), "cpu", (None, FloatType.float32)),
    "a CPU with instructions for it": (True, (), "cpu", (FloatType.bfloat16, FloatType.bfloat16)),
    "a plan for GPUs elsewhere": (False, (), "a100x8", (FloatType.bfloat16, FloatType.bfloat16)),
    "a GPU of before Ampere": (True, (Gpu(16, 7.5),), "a100x1", (None, FloatType.float32)),
    "two GPUs, one of them unknown": (False, (Gpu(80, 9.0), Gpu()), "a100x1", (FloatType.bfloat16, FloatType.bfloat16)),
}


@pytest.mark.parametrize("case", CHOICES)
def test_bfloat16_is_chosen_where_it_is_native(case: str) -> None:
    has_bfloat16, gpus, hardware, expected = CHOICES[case]
    composed = compose("train", [f"hardware={hardware}", "generation.dtype=auto"])
    text = choose_numbers(composed, Machine(16, gpus, has_bfloat16))
    assert (composed.optimization.autocast, composed.generation.dtype) == expected
    assert text.startswith(f"optimization.autocast, generation.dtype: {(expected[1] or FloatType.float32).value}")


def test_the_flags_of_the_processor_decide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for text in ("flags\t\t: fpu avx512f avx512_bf16\n", "Features\t: fp asimd bf16\n", "flags\t\t: fpu avx512f\n"):
        (tmp_path / "cpuinfo").write_text(text)
        monkeypatch.setattr("sacpo_exp.config.hardware.CPU_INFO", tmp_path / "cpuinfo")
        found.append(look_at_machine().has_bfloat16)
    assert found == [True, True, False]


def test_a_chosen_type_is_that_of_the_recipe_and_of_the_stored_command(configure: Any, problems_of: Any) -> None:
    chosen = configure("hardware=cpu")
    typed = configure("hardware=cpu", chosen.overrides[-1])
    assert chosen.overrides[-1].startswith("optimization.autocast=")
    assert chosen.optimization == typed.optimization
    assert problems_of("optimization.dtype=auto") == [
        "`optimization.dtype` can't be auto, as optimization.autocast and generation.dtype can. "
        "Try: optimization.dtype=float32"
    ]


#: Capability of the GPU, whether the packages are installed; attention, padding_free, liger, tf32.
KERNELS = [(9.0, True, ("flash_attention_2", True, True, True)), (9.0, False, (None, False, False, True))]
KERNELS += [(7.5, True, (None, False, True, False))]


@pytest.mark.parametrize(("capability", "installed", "expected"), KERNELS)
def test_kernels_are_used_where_they_are_installed_and_the_gpu_has_the_instructions(
    paper: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capability: float, installed: bool, expected: Any
) -> None:
    for name in ("flash_attn", "liger_kernel") if installed else ():
        (tmp_path / f"{name}.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    hardware, reason = choose(paper, machine := Machine(1024, (Gpu(80.0, capability),) * 8))
    assert (hardware.attention, hardware.padding_free, hardware.liger, hardware.tf32) == expected
    assert ("flash_attention_2, padding_free, liger, tf32, 16 rows" in reason) == all(expected)
    assert choose(paper, machine, attention="sdpa", padding_free=False)[0].attention == "sdpa"


def test_gpus_are_used_by_default(configure: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nprintf '81920, 9.0\\n81920, 9.0\\n'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    config = configure()
    assert (config.hardware.accelerator, config.hardware.processes) == (Accelerator.cuda, 2)
    assert config.optimization.autocast == FloatType.bfloat16
    assert configure("hardware=cpu").hardware.accelerator == Accelerator.cpu
