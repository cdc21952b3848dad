"""`hydra/launcher=slots` from the command line, as far as it goes without training."""

from collections.abc import Callable
from typing import Any

SWEEP = ["-m", "hydra/launcher=slots", "model=tiny", "dataset.max_rows=24"]


def test_too_few_gpus_are_told_before_anything_starts(cli: Callable[..., Any]) -> None:
    slots = ["hardware=a100x2", "hydra.launcher.slots=2", "beta=0.1,0.2"]
    result = cli("train", *SWEEP, *slots, light=True, variables={"CUDA_VISIBLE_DEVICES": "0,1,2"})
    assert result.code == 2
    assert result.stderr == (
        "error: `hydra.launcher.slots` = 2 with 2 GPUs each needs 4 GPUs, but 3 can be used here. "
        "Try: hydra.launcher.slots=1\n"
    )


def test_a_mistake_in_one_job_is_told_with_its_number(cli: Callable[..., Any]) -> None:
    result = cli("train", *SWEEP, "beta=-1,-2", light=True)
    assert result.code == 2
    assert "error: job 0 (beta=-1): `beta` must be greater than 0, but is -1." in result.stderr
    assert "error: job 1 (beta=-2): `beta` must be greater than 0, but is -2." in result.stderr
    status = cli("store", "sweep", light=True)
    assert status.stdout.count("failed") == 3  # two jobs, and the count


def test_a_job_that_can_t_fit_is_told_before_anything_starts(cli: Callable[..., Any]) -> None:
    small = ["model=alpaca_7b", "hardware=a100x1", "hardware.device_memory=10", "beta=0.1,0.2"]
    result = cli("train", "-m", "hydra/launcher=slots", *small, light=True, variables={"CUDA_VISIBLE_DEVICES": "0"})
    assert result.code == 2
    assert "error: job 1 (beta=0.2): the " in result.stderr
    assert "GiB per device (" in result.stderr
