"""A wheel that is installed outside the checkout runs train, eval and report."""

import sys
from pathlib import Path

import pytest
from processes import run_program
from tiny import SCORER, TINY


@pytest.mark.slow
def test_a_wheel_trains_evaluates_and_reports(repo: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    run_program(tmp_path, *pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, repo)
    (wheel,) = tmp_path.glob("*.whl")
    run_program(tmp_path, *pip, "install", "--no-deps", "--target", site, wheel)

    def sacpo(*arguments: str) -> str:
        return run_program(tmp_path, sys.executable, site / "bin" / "sacpo", *arguments, PYTHONPATH=str(site))

    where = "import sacpo_exp; print(sacpo_exp.__file__)"
    place = run_program(tmp_path, sys.executable, "-c", where, PYTHONPATH=str(site))
    assert Path(place.strip()).is_relative_to(site)
    sacpo("train", *TINY)
    sacpo("eval", *TINY, *SCORER, "policies=all", "merge_ratio=0.5")
    printed = sacpo("report", "model=tiny", "bootstrap_rounds=100")
    assert "P-SACPO" in printed
    assert (tmp_path / "outputs" / "report" / "report.html").is_file()
    assert "[basic], slots, slurm" in sacpo("train", "--help")
