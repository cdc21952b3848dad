"""`hydra/launcher=slurm`, `slots` and the scripts of launchers/, as far as they go without a cluster and training."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest
from processes import finish, run_program, start_command

from sacpo_exp.cluster.sweeps import SweepNoter
from sacpo_exp.config.loading import CONF, register_schemas

Command = Callable[..., Any]

SWEEP = ["-m", "hydra/launcher=slurm", "model=tiny", "beta=0.1,0.2"]
LAUNCHERS = Path(__file__).parents[2] / "launchers"
SCRIPTS = sorted([*LAUNCHERS.glob("*.sh"), *LAUNCHERS.glob("*.sbatch")])


def compose_slurm(*overrides: str) -> Any:
    register_schemas()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("train", ["hydra/launcher=slurm", *overrides], return_hydra_config=True)


@pytest.mark.parametrize(("hardware", "gpus"), [("cpu", None), ("multinode", 8)])
def test_gpus_come_from_the_hardware(hardware: str, gpus: int | None) -> None:
    assert compose_slurm(f"hardware={hardware}").hydra.launcher.gpus_per_node == gpus


LARGE = ("hardware=multinode", "model=alpaca_7b")
DELAYS = {
    "on its node": ((), (600, 600)),
    "small": (("model=tiny", "hardware=cpu"), (85, 85)),
    "7B": (LARGE, (100, 1e5)),
    "given": ((*LARGE, "hardware.grace_seconds=300"), (360, 360)),
    "itself": (("hydra.launcher.signal_delay_s=7",), (7, 7)),
}


@pytest.mark.parametrize(("overrides", "expected"), DELAYS.values(), ids=list(DELAYS))
def test_a_job_is_told_before_its_end_as_early_as_its_checkpoint_takes(
    tmp_path: Path, overrides: tuple[str, ...], expected: tuple[float, float]
) -> None:
    composed = compose_slurm(f"paths.outputs={tmp_path}", *overrides)
    SweepNoter().on_multirun_start(composed)
    assert expected[0] <= composed.hydra.launcher.signal_delay_s <= expected[1]


def test_without_submitit_it_says_what_to_install(tmp_path: Path, repo: Path) -> None:
    (tmp_path / "hydra_plugins").mkdir()
    (tmp_path / "hydra_plugins" / "__init__.py").touch()  # hides the packages of this name that are installed
    output = finish(start_command(tmp_path, "train", *SWEEP, PYTHONPATH=f"{tmp_path}:{repo}"), 2)
    assert output.endswith("not installed. Try: pip install hydra-submitit-launcher==1.2.0\n")


def test_without_slurm_it_says_so(cli: Command) -> None:
    result = cli("train", *SWEEP, light=True, variables={"PATH": ""})
    assert result.code == 2
    assert result.stderr.startswith("error: `hydra/launcher=slurm` needs the commands sbatch and srun of a Slurm")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_script_parses(script: Path) -> None:
    checks = [["bash", "-n"], *([["shellcheck"]] if shutil.which("shellcheck") else [])]
    for check in checks:
        done = subprocess.run([*check, str(script)], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "")


#: Stands for Python, and for srun before it: prints what it would run.
ECHO = '#!/bin/bash\nprintf "%s\\n" "$@"\n'


def overrides_of(script: Path, folder: Path, *arguments: str, **variables: str) -> list[str]:
    """What a script gives to `sacpo_exp.train`."""
    for name in ("echo-python", "srun"):
        (folder / name).write_text(ECHO)
        (folder / name).chmod(0o755)
    variables = {"PATH": f"{folder}:/usr/bin:/bin", "PYTHON": str(folder / "echo-python"), **variables}
    return run_program(folder, "bash", script, *arguments, **variables).split("sacpo_exp.train\n")[1].split()


TWO_NODES = {"SLURM_JOB_NODELIST": "a[1-2]", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_ID": "7", "MASTER_ADDR": "a1"}


@pytest.mark.parametrize(
    ("arguments", "variables", "expected"),
    [(["beta=0.05"], {"SLURM_GPUS_ON_NODE": "4"}, ("multinode", 2, 8)), (["hardware=cpu_x2"], {}, ("cpu_x2", 2, 2))],
)
def test_the_sbatch_script_takes_its_size_from_the_job(
    configure: Callable[..., Any], tmp_path: Path, arguments: list[str], variables: dict[str, str], expected: Any
) -> None:
    overrides = overrides_of(LAUNCHERS / "slurm_train.sbatch", tmp_path, *arguments, **TWO_NODES, **variables)
    config = configure("optimization=paper", *overrides)
    assert (config.hardware.name, config.hardware.nodes, config.hardware.processes) == expected


def test_a_mistake_in_one_job_is_told_with_its_number(cli: Callable[..., Any]) -> None:
    result = cli("train", "-m", "hydra/launcher=slots", "model=tiny", "beta=-1,-2", light=True)
    assert result.code == 2
    assert "error: job 0 (beta=-1): `beta` must be greater than 0, but is -1." in result.stderr
    assert "error: job 1 (beta=-2): `beta` must be greater than 0, but is -2." in result.stderr
    status = cli("store", "sweep", light=True)
    assert status.stdout.count("failed") == 3  # two jobs, and the count


#: Prints what SkyPilot's parser makes of a task: its name, GPUs, whether they are spot ones, and its command.
PARSE = """import sys, sky
given = [("BUCKET", "b"), ("JOB", "j"), ("OVERRIDES", "beta=0.05")]
task = sky.Task.from_yaml_config(sky.utils.yaml_utils.read_yaml(sys.argv[1]), env_overrides=given)
(resources,) = task.resources
print(task.name, resources.accelerators, resources.use_spot, task.envs, task.run)"""


def test_skypilot_parses_its_task(tmp_path: Path) -> None:
    python = os.environ.get("SKY_PYTHON", sys.executable)
    if subprocess.run([python, "-c", "import sky"], check=False, capture_output=True).returncode:
        pytest.skip("skypilot is not here: set SKY_PYTHON to a Python that has it")
    own = {"HOME": str(tmp_path), "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}
    printed = run_program(tmp_path, python, "-c", PARSE, LAUNCHERS / "sky.yaml", **own)
    assert printed.startswith("sacpo {'A100-80GB': 8} True {'BUCKET': 'b', 'JOB': 'j', 'OVERRIDES': 'beta=0.05'")
    assert "sacpo train" in printed
