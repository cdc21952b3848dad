"""A limit of the size of files (`ulimit -f`): one sentence, and the next command goes on with what is there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ARGUMENTS = "model=tiny base=none order=helpful_only dataset.max_rows=32 hardware.save_steps=1"


@pytest.mark.slow
def test_a_stage_that_may_not_write_its_checkpoint_is_one_sentence_and_goes_on(repo: Path, tmp_path: Path) -> None:
    def train(limit: str) -> "subprocess.CompletedProcess[str]":
        command = f'ulimit -f {limit}; exec "{sys.executable}" -m sacpo_exp.train {ARGUMENTS}'
        environment = os.environ | {"PYTHONPATH": str(repo), "HF_HUB_OFFLINE": "1"}
        return subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    limited = train("220")  # KiB: more than the weights have, less than the optimizer
    assert (limited.returncode, "Traceback" in limited.stderr) == (1, False), limited.stderr
    assert ["ulimit -f" in line for line in limited.stderr.splitlines() if line.startswith("error:")] == [True], (
        limited.stderr
    )
    made = {path.parent.name for path in tmp_path.glob("outputs/store/*/*/manifest.json")}
    assert len(made) == 3, made  # model, dataset and reference log-probabilities
    again = train("unlimited")
    assert again.returncode == 0, again.stderr
    assert {path.parent.name for path in tmp_path.glob("outputs/store/*/*/manifest.json")} > made
