"""Every benchmark, and every launcher that can start here, runs in its smallest form."""

import json
import os
import re
import sys
from pathlib import Path

import pytest
from processes import run_program

#: By the script; benchmarks also get `--json` where they have it.
BENCHMARKS = {
    "generation.py": ["--model", "tiny", "--prompts", "5", "--max-new-tokens", "4", "--batches", "2"],
    "judging.py": ["--judgments", "8", "--loop", "2", "--concurrency", "4", "--latency", "0.01"],
    "memory.py": ["--model", "tiny", "--stages", "dpo"],
    "scoring.py": ["--judgments", "400", "--policies", "3", "--rounds", "20"],
    "sweep.py": ["--model", "tiny", "--epochs", "1", "--betas", "1", "--skip-basic"],
    "tracking.py": ["--model", "tiny", "--updates", "4", "--rounds", "1"],
    "training.py": ["--model", "tiny", "--pairs", "8", "--repeats", "1"],
}
LAUNCHERS = {
    "local.sh": ["cpu", "model=tiny", "dry_run=true"],
    "reproduce_paper.sh": ["mini", "dry_run=true"],
    "slurm_train.sbatch": ["hardware=cpu", "model=tiny", "dry_run=true"],
}
#: Stands for Slurm's, on a job of one node.
SRUN = '#!/bin/bash\nexec "$@"\n'


def run(folder: Path, *command: object) -> str:
    """What a command prints; it fails the test if it fails."""
    (folder / "srun").write_text(SRUN)
    (folder / "srun").chmod(0o755)
    variables = {"PATH": f"{folder}:{os.environ['PATH']}", "PYTHON": sys.executable, "WANDB_MODE": "offline"}
    variables |= {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1", "MASTER_ADDR": "127.0.0.1"}
    return run_program(folder, *command, **variables)


def test_every_script_has_a_smallest_form(repo: Path) -> None:
    benchmarks = {path.name for path in (repo / "benchmarks").glob("*.py") if "argparse" in path.read_text("utf-8")}
    assert benchmarks == set(BENCHMARKS)
    launchers = {path.name for path in (repo / "launchers").iterdir() if path.suffix in (".sh", ".sbatch")}
    assert launchers == {*LAUNCHERS, "gpu_check.sh"}
    documented = (repo / "docs" / "benchmarks.md").read_text("utf-8")
    assert {f"## {name}" for name in BENCHMARKS} <= set(documented.splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_measures(repo: Path, tmp_path: Path, name: str) -> None:
    script, found = repo / "benchmarks" / name, tmp_path / "found.json"
    has_file = '"--json"' in script.read_text("utf-8")
    printed = run(tmp_path, sys.executable, script, *BENCHMARKS[name], *(["--json", found] if has_file else []))
    assert re.search(r"\d\.\d", printed)
    assert not has_file or json.loads(found.read_text("utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_launcher_plans(repo: Path, tmp_path: Path, name: str) -> None:
    outputs = f"paths.outputs={tmp_path / 'outputs'}"
    printed = run(tmp_path, "bash", repo / "launchers" / name, *LAUNCHERS[name], outputs)
    assert "stages" in printed or "plan" in printed


@pytest.mark.slow
def test_every_check_of_a_gpu_passes_in_its_form_for_cpus_or_says_why_it_is_skipped(repo: Path, tmp_path: Path) -> None:
    table = run(tmp_path, "bash", repo / "launchers" / "gpu_check.sh", "--cpu")
    rows = json.loads((tmp_path / "gpu_check.json").read_text("utf-8"))["rows"]
    assert {row["state"] for row in rows} <= {"passed", "skipped"}, table
    skipped = {row["check"]: row["found"] for row in rows if row["state"] == "skipped"}
    assert set(skipped) <= {"flash attention against SDPA", "vLLM's responses against ours"}
    assert all(skipped.values())
    assert table.strip() == (tmp_path / "gpu_check.md").read_text("utf-8").strip()
