"""How a machine is divided among the jobs of a sweep."""

import dataclasses
import os

import pytest
from omegaconf import DictConfig, OmegaConf
from test_groups import HARDWARE

from sacpo_exp.cluster.devices import divide_machine
from sacpo_exp.config.hardware import Accelerator
from sacpo_exp.errors import ConfigError

CPU = OmegaConf.structured(HARDWARE)


def on_gpus(processes: int) -> DictConfig:
    return OmegaConf.structured(dataclasses.replace(HARDWARE, accelerator=Accelerator.cuda, processes=processes))


def test_gpus_are_divided_without_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 5,6,7,8")
    slots = divide_machine(None, on_gpus(2))
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in slots] == ["4,5", "6,7"]
    assert len(divide_machine(None, CPU)) == 1  # without GPUs one job at a time


def test_threads_are_divided_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cores = len(os.sched_getaffinity(0))
    assert [slot["OMP_NUM_THREADS"] for slot in divide_machine(2, CPU)] == [str(max(1, cores // 2))] * 2
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert divide_machine(2, CPU)[0]["OMP_NUM_THREADS"] == "3"


@pytest.mark.parametrize(
    ("slots", "visible", "message"),
    [
        ("two", "0,1", "`hydra.launcher.slots` must be a whole number of at least 1 or null, but is two."),
        (3, "0,1,2,3", "needs 6 GPUs, but 4 can be used here. Try: hydra.launcher.slots=2"),
        (None, "", "needs 2 GPUs, but 0 can be used here. Try: hardware=cpu"),
    ],
)
def test_a_machine_that_can_not_be_divided_is_an_error(
    monkeypatch: pytest.MonkeyPatch, slots: int | None, visible: str, message: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(ConfigError) as caught:
        divide_machine(slots, on_gpus(2))
    assert message in str(caught.value)
