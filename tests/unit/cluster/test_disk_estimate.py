"""Bytes of checkpoints by hand, the time to stop that follows from them, and a disk that is too small."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sacpo_exp.cluster import disk
from sacpo_exp.config.models import FloatType
from sacpo_exp.config.schema import RunConfig
from sacpo_exp.errors import ConfigError
from sacpo_exp.pipeline import open_run
from sacpo_exp.reporting.planning import check_run, print_plan

P = 6_738_423_808
#: Overrides, and bytes per parameter.
CASES: dict[str, tuple[list[str], float]] = {
    "ZeRO 3": (["hardware=a100x8"], 12),
    "ZeRO 2": (["hardware=a100x2"], 14),
    "without ZeRO": (["hardware=a100x1", "optimization.dtype=float32"], 12),
    "all in bfloat16": (["hardware=a100x8", "optimization.float32_copy=false"], 6),
    "an adapter": (["hardware=a100x1", "adapter=lora"], 12 * 32 * 16 * (4 * 8192 + 3 * (4096 + 11008)) / P),
}


@pytest.mark.parametrize("case", CASES)
def test_a_checkpoint_is_bytes_per_trained_parameter(configure: Any, case: str) -> None:
    overrides, expected = CASES[case]
    config: RunConfig = configure("model=alpaca_7b", *overrides)
    assert disk.checkpoint_bytes(config) == pytest.approx(expected * P)
    sizes = {FloatType.bfloat16: 2, FloatType.float32: 4}
    assert disk.policy_bytes(config) == P * sizes[config.optimization.dtype]


def test_the_time_to_stop_follows_from_size_and_write_speed(configure: Any, tmp_path: Path) -> None:
    config: RunConfig = configure("model=alpaca_7b", "hardware=a100x8", f"paths.outputs={tmp_path / 'new'}")
    assert disk.find_grace(configure("model=tiny")) == disk.LEAST
    seconds = disk.find_grace(config)
    speed = disk.measure_write_speed(tmp_path / "new")  # measured once
    assert seconds == round(disk.LEAST + 2 * 12 * P * (1 / speed + 1 / disk.HASHING / 8))
    assert disk.find_grace(replace(config, hardware=replace(config.hardware, grace_seconds=7))) == 7
    assert not list((tmp_path / "new").iterdir())


def test_what_the_disk_is_too_small_for_is_refused(
    configure: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("model=tiny", f"paths.outputs={tmp_path}", "model.shape.hidden_size=1048576", "hardware.device_memory=1e9")
    run = open_run(configure(*given))
    assert shutil.disk_usage(tmp_path).free < 1e13  # bytes: its weights take more
    with pytest.raises(ConfigError, match=r"policies to be made take \d+\.\d GB, .* force=true"):
        check_run(run)
    check_run(open_run(configure(*given, "force=true")))
    print_plan(run)
    assert "disk     3 policies to be made take " in capsys.readouterr().out
