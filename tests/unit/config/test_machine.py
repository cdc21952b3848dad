"""The look at the machine, with a program of our own in nvidia-smi's place."""

from pathlib import Path

import pytest

from sacpo_exp.config.hardware import Machine, look_at_machine, read_gpus, visible


def put_nvidia_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_gpus_are_those_that_nvidia_smi_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_nvidia_smi(tmp_path, monkeypatch, "printf '81920\\n40960\\n'")
    assert read_gpus() == (80.0, 40.0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert look_at_machine().gpus == (40.0,)


def test_a_broken_driver_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_nvidia_smi(tmp_path, monkeypatch, "echo 'NVIDIA-SMI has failed' ; exit 9")
    assert read_gpus() == tuple(None for _ in Path("/proc/driver/nvidia/gpus").glob("*"))


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [(None, (80, 40, 24)), ("", ()), ("2,0", (24, 80)), ("0,7,1", (80,)), ("-1", ()), ("GPU-5ebe9f43", (None,))],
)
def test_cuda_visible_devices_lets_some_through(chosen: str | None, expected: tuple[float | None, ...]) -> None:
    assert visible((80, 40, 24), chosen) == expected


def test_memory_is_at_most_the_machine_s() -> None:
    lines = Path("/proc/meminfo").read_text().splitlines()
    total = next(int(line.split()[1]) for line in lines if line.startswith("MemTotal:")) / 2**20
    found = look_at_machine().memory
    assert found is not None
    assert 0.1 < found <= total * 1.001


def test_the_smallest_gpu_counts() -> None:
    assert Machine(64, (80, 24)).smallest_gpu == 24
    assert Machine(64, (80, None)).smallest_gpu is None
    assert Machine(64).smallest_gpu is None
