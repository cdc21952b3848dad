"""Settings of accelerate and DeepSpeed."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from sacpo_exp.cluster.groups import accelerate_settings, deepspeed_settings, group_environment, worker_threads
from sacpo_exp.cluster.nodes import Place
from sacpo_exp.config.hardware import Accelerator, HardwareConfig, Offload

HARDWARE = HardwareConfig(
    name="test",
    accelerator=Accelerator.cpu,
    processes=4,
    per_device_train_batch_size=2,
    per_device_eval_batch_size=2,
    generation_batch_size=2,
    save_steps=10,
)
HERE = Place(0, "127.0.0.1", 2345)


def test_accelerate_is_told_where_to_meet() -> None:
    settings = accelerate_settings(replace(HARDWARE, nodes=2), Place(1, "first", 2345))
    assert settings["num_machines"] == 2
    assert settings["num_processes"] == 4
    assert settings["machine_rank"] == 1
    assert (settings["main_process_ip"], settings["main_process_port"]) == ("first", 2345)
    assert settings["distributed_type"] == "MULTI_GPU"
    assert accelerate_settings(replace(HARDWARE, processes=1), HERE)["distributed_type"] == "NO"


def test_a_group_feels_nothing_of_another_launcher() -> None:
    outside = {"PATH": "/bin", "RANK": "7", "TORCHELASTIC_RUN_ID": "x", "MASTER_ADDR": "other", "NODE_RANK": "1"}
    environment = group_environment(HARDWARE, HERE, outside)
    assert not {"RANK", "TORCHELASTIC_RUN_ID", "MASTER_ADDR"} & set(environment)
    assert environment["PATH"] == "/bin"
    alone = group_environment(replace(HARDWARE, processes=1), HERE, outside)
    assert (alone["RANK"], alone["WORLD_SIZE"], alone["MASTER_PORT"]) == ("0", "1", "2345")


@pytest.mark.parametrize(("given", "nodes", "expected"), [("8", 1, 2), ("8", 2, 4), ("2", 1, 1)])
def test_threads_are_shared_by_the_processes_of_a_node(given: str, nodes: int, expected: int) -> None:
    assert worker_threads(replace(HARDWARE, nodes=nodes), {"OMP_NUM_THREADS": given}) == expected


def test_zero_3_gathers_weights_and_offloads_what_it_is_told() -> None:
    zero = deepspeed_settings(replace(HARDWARE, zero_stage=3, offload_optimizer=Offload.cpu))["zero_optimization"]
    assert zero["stage"] == 3
    assert zero["stage3_gather_16bit_weights_on_model_save"] is True
    assert zero["offload_optimizer"] == {"device": "cpu", "pin_memory": False}
    assert "offload_param" not in zero


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)],
    ids=["nothing", "a count", "a policy"],
)
def test_threads_that_wait_do_not_spin_unless_the_user_says_so(given: dict[str, str], expected: str | None) -> None:
    outside = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    code = "import os, sys, sacpo_exp; print('torch' in sys.modules, os.environ.get('GOMP_SPINCOUNT'))"
    done = subprocess.run([sys.executable, "-c", code], env=outside | given, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", str(expected)]
