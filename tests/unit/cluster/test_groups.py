"""Settings of torchrun and DeepSpeed, how a machine is divided among jobs, and where nodes meet."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from sacpo_exp.cluster.devices import check_devices, divide_machine
from sacpo_exp.cluster.groups import deepspeed_settings, group_environment, meeting_arguments, worker_threads
from sacpo_exp.cluster.nodes import Place, find_place
from sacpo_exp.config.hardware import PACKAGES, Accelerator, HardwareConfig, Offload
from sacpo_exp.errors import ConfigError

ROWS = {"per_device_train_batch_size": 2, "per_device_eval_batch_size": 2, "generation_batch_size": 2}
HARDWARE = HardwareConfig(name="test", accelerator=Accelerator.cpu, processes=4, **ROWS)


def test_a_group_is_told_where_to_meet_and_feels_nothing_of_another_launcher() -> None:
    arguments = meeting_arguments(replace(HARDWARE, nodes=2), Place(1, "first", 2345))
    expected = ["--nnodes=2", "--nproc-per-node=2", "--node-rank=1", "--master-addr=first", "--master-port=2345"]
    assert arguments == expected
    outside = {"PATH": "/bin", "RANK": "7", "TORCHELASTIC_RUN_ID": "x", "MASTER_ADDR": "other", "NODE_RANK": "1"}
    environment = group_environment(HARDWARE, outside)
    assert not {"RANK", "TORCHELASTIC_RUN_ID", "MASTER_ADDR"} & set(environment)
    assert environment["PATH"] == "/bin"


def test_threads_are_shared_by_the_processes_of_a_node() -> None:
    for given, nodes, expected in (("8", 1, 2), ("8", 2, 4), ("2", 1, 1)):
        assert worker_threads(replace(HARDWARE, nodes=nodes), {"OMP_NUM_THREADS": given}) == expected


def test_zero_3_gathers_weights_and_offloads_what_it_is_told() -> None:
    zero = deepspeed_settings(replace(HARDWARE, zero_stage=3, offload_optimizer=Offload.cpu))["zero_optimization"]
    assert zero["stage"] == 3
    assert zero["stage3_gather_16bit_weights_on_model_save"] is True
    assert zero["offload_optimizer"] == {"device": "cpu", "pin_memory": False}
    assert "offload_param" not in zero


def test_threads_that_wait_do_not_spin_unless_the_user_says_so() -> None:
    outside = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    code = "import os, sys, sacpo_exp; print('torch' in sys.modules, os.environ.get('GOMP_SPINCOUNT'))"
    for given, expected in (({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")):
        printed = subprocess.check_output([sys.executable, "-c", code], env=outside | given, text=True)
        assert printed.split() == ["False", expected]


CPU = OmegaConf.structured(HARDWARE)


def on_gpus(processes: int) -> DictConfig:
    return OmegaConf.structured(replace(HARDWARE, accelerator=Accelerator.cuda, processes=processes))


def test_gpus_are_divided_without_overlap_and_threads_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 5,6,7,8")
    slots = divide_machine(None, on_gpus(2))
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in slots] == ["4,5", "6,7"]
    assert len(divide_machine(None, CPU)) == 1  # without GPUs one job at a time
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cores = len(os.sched_getaffinity(0))
    assert [slot["OMP_NUM_THREADS"] for slot in divide_machine(2, CPU)] == [str(max(1, cores // 2))] * 2
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert divide_machine(2, CPU)[0]["OMP_NUM_THREADS"] == "3"


def test_too_few_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for slots, visible, message in (
        ("two", "0,1", "`hydra.launcher.slots` must be a whole number of at least 1 or null, but is two."),
        (3, "0,1,2,3", "needs 6 GPUs, but 4 can be used here. Try: hydra.launcher.slots=2"),
        (None, "", "needs 2 GPUs, but 0 can be used here. Try: hardware=cpu"),
    ):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        with pytest.raises(ConfigError, match=re.escape(message)):
            divide_machine(slots, on_gpus(2))


def test_a_kernel_without_its_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nprintf '81920, 9.0\\n'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setitem(PACKAGES, "liger", ("no_such_package",))
    hardware = replace(HARDWARE, accelerator=Accelerator.cuda, processes=1)
    check_devices(hardware)
    with pytest.raises(ConfigError, match=r"`hardware\.liger` needs no-such-package, which is not installed\."):
        check_devices(replace(hardware, liger=True))


TWO = replace(HARDWARE, nodes=2)

USER = {"NODE_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "7"}
SLURM = {"SLURM_NODEID": "0", "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.1", "SLURM_JOB_ID": "123456", "SLURM_NNODES": "2"}


def test_the_environment_says_where_to_meet() -> None:
    assert find_place(TWO, USER) == Place(1, "a", 7)
    assert find_place(TWO, SLURM) == Place(0, "10.0.0.1", 23456)
    wrong = "NODE_RANK=1 and MASTER_PORT=ssh in the environment must be whole numbers, the first below 2."
    for environment, sentence in (
        ({}, "`hardware.nodes` is 2, but the environment has no NODE_RANK and no MASTER_ADDR"),
        (USER | {"SLURM_NNODES": "4"}, "but 4 nodes were started. Try: hardware.nodes=4"),
        (USER | {"MASTER_PORT": "ssh"}, wrong),
    ):
        with pytest.raises(ConfigError, match=sentence):
            find_place(TWO, environment)
