"""Ports and devices that are not there."""

import dataclasses
import socket

import pytest
from test_settings import HARDWARE

from sacpo_exp.cluster.devices import check_devices, choose_port
from sacpo_exp.config.hardware import Accelerator
from sacpo_exp.errors import ConfigError


def test_a_port_that_another_program_listens_on_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError) as caught:
            check_devices(dataclasses.replace(HARDWARE, port=port))
    assert str(caught.value) == (
        f"`hardware.port` {port} can't be used: Address already in use. "
        "Try: hardware.port=null, which takes a free one."
    )
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
