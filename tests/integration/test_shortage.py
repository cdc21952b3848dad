"""Allocations that really fail."""

from pathlib import Path

import pytest
import torch
from tiny import make_config

from sacpo_exp.cluster.memory import explaining_shortage
from sacpo_exp.config.schema import StageJob
from sacpo_exp.errors import LaunchError


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
