"""A wheel that is installed outside the checkout runs train, eval and report."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import SCORER, TINY


def run(folder: Path, *command: str | Path, **variables: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"HF_HUB_OFFLINE": "1"} | variables
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_wheel_trains_evaluates_and_reports(repo: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    run(tmp_path, *pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, repo)
    (wheel,) = tmp_path.glob("*.whl")
    run(tmp_path, *pip, "install", "--no-deps", "--target", site, wheel)

    def sacpo(*arguments: str) -> str:
        return run(tmp_path, sys.executable, site / "bin" / "sacpo", *arguments, PYTHONPATH=str(site))

    place = run(tmp_path, sys.executable, "-c", "import sacpo_exp; print(sacpo_exp.__file__)", PYTHONPATH=str(site))
    assert Path(place.strip()).is_relative_to(site)
    sacpo("train", *TINY)
    sacpo("eval", *TINY, *SCORER, "policies=all", "merge_ratio=0.5")
    printed = sacpo("report", "model=tiny", "bootstrap_rounds=100")
    assert "P-SACPO" in printed
    assert (tmp_path / "outputs" / "report" / "report.html").is_file()
    assert "[basic], slots, slurm" in sacpo("train", "--help")
