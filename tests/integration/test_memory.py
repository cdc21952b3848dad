"""The memory plan against measured memory, and `hardware=auto` on this machine."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import make_config, make_run, train_run

from sacpo_exp.cluster.memory import explaining_shortage
from sacpo_exp.config.schema import StageJob
from sacpo_exp.errors import ConfigError, LaunchError
from sacpo_exp.reporting.planning import check_run

REPO = Path(__file__).parents[2]
ONE_STAGE = ("base=none", "order=helpful_only")


def test_only_what_is_still_to_be_trained_has_to_fit(outputs: Path) -> None:
    train_run(outputs, *ONE_STAGE)
    check_run(make_run(outputs, *ONE_STAGE, "hardware.device_memory=0.1"))
    longer = (*ONE_STAGE, "hardware.device_memory=0.1", "seed=1")
    with pytest.raises(
        ConfigError, match=r"the helpfulness stage needs 0\.\d GiB per process .*; this machine has 0\.1"
    ):
        check_run(make_run(outputs, *longer))
    check_run(make_run(outputs, *longer, "force=true"))


@pytest.mark.slow
def test_the_plan_of_the_embedded_model_is_within_a_fifth_of_what_is_measured(tmp_path: Path) -> None:
    command = [sys.executable, str(REPO / "benchmarks/memory.py"), "--stages", "dpo", "--json", str(tmp_path / "found")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "found").is_file()
    ratio = float(done.stdout.splitlines()[-1].split()[-1])
    assert 0.8 <= ratio <= 1.2, done.stdout


def test_memory_that_can_not_be_had_is_said_with_the_plan_and_what_would_need_less(tmp_path: Path) -> None:
    job = StageJob(make_config(tmp_path, "hardware.per_device_train_batch_size=4"), "helpfulness")
    with pytest.raises(LaunchError) as caught, explaining_shortage(job):
        torch.empty(2**50, dtype=torch.uint8)
    sentence = str(caught.value)
    assert sentence.startswith(
        "the helpfulness stage needs more memory than this machine has left. By the memory plan "
    )
    assert "GiB per process (" in sentence
    assert sentence.endswith("Try: hardware.per_device_train_batch_size=2 hardware.activation_checkpointing=true")


def test_other_errors_pass_unchanged(tmp_path: Path) -> None:
    job = StageJob(make_config(tmp_path), "helpfulness")
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"), explaining_shortage(job):
        torch.ones(2, 3) @ torch.ones(2, 3)
