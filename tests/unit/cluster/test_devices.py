"""Ports and devices that are missing, and how a machine is divided among the jobs of a sweep."""

import dataclasses
import os
import socket

import pytest
from test_groups import HARDWARE

from sacpo_exp.cluster.devices import check_devices, choose_port, divide_machine, find_gpus
from sacpo_exp.config.hardware import Accelerator
from sacpo_exp.errors import ConfigError


def test_a_port_that_another_program_listens_on_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"`hardware.port` {port} can't be used: Address already in use"):
            check_devices(dataclasses.replace(HARDWARE, port=port))
    check_devices(dataclasses.replace(HARDWARE, port=port))


def test_a_port_is_the_given_one_or_a_free_one() -> None:
    assert choose_port(dataclasses.replace(HARDWARE, port=1234)) == 1234
    with socket.socket() as probe:
        probe.bind(("", choose_port(HARDWARE)))


def test_devices_are_chosen_among_the_visible_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    hardware = dataclasses.replace(HARDWARE, accelerator=Accelerator.cuda, processes=1, devices=[2])
    with pytest.raises(ConfigError, match="must be below 2, the number of GPUs that CUDA_VISIBLE_DEVICES lets through"):
        check_devices(hardware)


def test_gpus_are_divided_without_overlap() -> None:
    shares = divide_machine(None, None, 2, ["4", "5", "6", "7", "8"], {})
    assert [share.devices for share in shares] == [("4", "5"), ("6", "7")]
    assert shares[1].environment()["CUDA_VISIBLE_DEVICES"] == "6,7"
    assert len(divide_machine(None, None, 0, [], {})) == 1  # without GPUs one job at a time


def test_threads_are_divided_unless_given() -> None:
    cores = len(os.sched_getaffinity(0))
    assert [share.threads for share in divide_machine(2, None, 0, [], {})] == [max(1, cores // 2)] * 2
    assert divide_machine(2, None, 0, [], {"OMP_NUM_THREADS": "1"})[0].threads == 1
    assert divide_machine(2, 3, 0, [], {"OMP_NUM_THREADS": "1"})[0].threads == 3


@pytest.mark.parametrize(
    ("slots", "threads", "gpus", "names", "message"),
    [
        ("two", None, 0, [], "`hydra.launcher.slots` must be a whole number of at least 1 or null, but is two."),
        (1, -1, 0, [], "`hydra.launcher.threads` must be a whole number of at least 1 or null, but is -1."),
        (3, None, 2, ["0", "1", "2", "3"], "needs 6 GPUs, but 4 can be used here. Try: hydra.launcher.slots=2"),
        (None, None, 2, [], "needs 2 GPUs, but 0 can be used here. Try: hardware=cpu"),
    ],
)
def test_a_machine_that_can_not_be_divided_is_an_error(
    slots: int | None, threads: int | None, gpus: int, names: list[str], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        divide_machine(slots, threads, gpus, names, {})
    assert message in str(caught.value)


def test_the_outer_choice_of_gpus_is_kept() -> None:
    assert find_gpus({"CUDA_VISIBLE_DEVICES": "3, 5"}) == ["3", "5"]
    assert find_gpus({"CUDA_VISIBLE_DEVICES": ""}) == []
