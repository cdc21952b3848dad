"""What trackers are told of a policy, and what becomes of a tracker that fails."""

import json
import logging
import os
import subprocess
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from sacpo_exp.cluster.sweeps import name_group
from sacpo_exp.config.loading import read_job, write_config
from sacpo_exp.config.schema import StageJob, TrackedRun, WandbConfig, WandbMode
from sacpo_exp.pipeline import take_fingerprints
from sacpo_exp.plan import describe_run, make_plan
from sacpo_exp.tracking.mlflow_tracker import flatten
from sacpo_exp.tracking.runs import Tracking
from sacpo_exp.tracking.wandb_tracker import choose_mode


def describe(configure: Any, *overrides: str) -> dict[str, TrackedRun]:
    """What is told of each stage and merge of a plan, by its policy's name."""
    config = configure("model=tiny", "tracker=wandb", *overrides)
    plan = make_plan(config, take_fingerprints(config))
    told = [describe_run(config, plan, spec) for spec in plan.made()]
    return {run.name: run for run in told if run}


def test_a_worker_reads_what_it_is_to_tell(configure: Any, tmp_path: Path) -> None:
    config = configure("model=tiny", "tracker=wandb")
    run = describe(configure)["DPO(H) β=0.1"]
    job = StageJob(config, "helpfulness", run.id, "parent", None, "view", "folder", 2, 4, tracked=run)
    assert read_job(write_config(job, tmp_path / "job.yaml")) == job


def test_a_policy_is_told_with_its_columns_its_tags_and_its_lineage(configure: Any) -> None:
    runs = describe(configure, "objective=kto_then_dpo", "merge_ratio=0.5")
    base, first, second, merged = runs.values()
    assert list(runs) == ["SFT", "KTO(H) β=0.1", "KTO(H)→DPO(S) β=0.1", "P-SACPO KTO(H)→DPO(S) q=0.5"]
    wanted = {"order": "helpfulness_then_safety", "objective": "kto_then_dpo", "criterion": "safety", "loss": "dpo"}
    assert second.config.items() >= (wanted | {"beta": 0.1, "beta_first": 0.1, "learning_rate": 2e-4}).items()
    assert {*wanted.values(), "tiny.demo"} <= set(second.tags)
    assert [base.id, first.id] == second.config["lineage"][-2:]
    assert list(second.parents.values()) == ["policy", "dataset"]
    assert merged.parents == {first.id: "policy", second.id: "policy"}
    assert (merged.config["merge_ratio"], merged.config["hydra"]["merge_ratio"]) == (0.5, 0.5)
    assert {run.group for run in runs.values()} == {"tiny.demo"}
    assert [run.is_last for run in runs.values()] == [False, False, False, True]


def test_no_path_is_told(configure: Any, rows_file: Path, model_folder: Path, tmp_path: Path) -> None:
    overrides = ["model=local", f"model.path={model_folder}", "dataset=local", f"dataset.path={rows_file}"]
    for run in describe(configure, *overrides, f"paths.outputs={tmp_path}").values():
        assert str(tmp_path) not in json.dumps(vars(run))


def test_commands_with_the_same_overrides_have_one_group(configure: Any) -> None:
    for command in ("train", "eval"):
        config = configure("model=tiny", command=command)
        assert name_group(config, None) == "tiny.demo"
        assert name_group(config, "mini/p_sacpo") == "mini/p_sacpo"


KEY = "0123456789abcdef" * 3


#: Mode, machine in ~/.netrc and environment; the mode that is chosen.
MODES: list[tuple[str, str, dict[str, str], str]] = [
    ("auto", "", {}, "offline"),
    ("auto", "", {"WANDB_API_KEY": KEY}, "online"),
    ("auto", "", {"WANDB_API_KEY": KEY, "WANDB_MODE": "offline"}, "offline"),
    ("auto", "api.wandb.ai", {}, "online"),
    ("online", "", {}, "online"),
    ("disabled", "", {"WANDB_API_KEY": KEY}, "disabled"),
]


@pytest.mark.parametrize(("mode", "netrc", "environment", "expected"), MODES)
def test_wandb_is_online_with_a_key(
    mode: str, netrc: str, environment: Any, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    if netrc:  # as `wandb login` writes it
        (tmp_path / ".netrc").write_text(f"machine {netrc}\n  login user\n  password {KEY}\n", "utf-8")
    for name in [*(name for name in os.environ if name.startswith("WANDB_")), "NETRC", "XDG_CONFIG_HOME"]:
        monkeypatch.delenv(name, raising=False)
    for name, value in (environment | {"HOME": str(tmp_path), "WANDB_SILENT": "true"}).items():
        monkeypatch.setenv(name, value)
    wandb.teardown()  # or it would remember another test's key
    try:
        assert choose_mode(WandbConfig("project", mode=WandbMode(mode))) == expected
    finally:
        wandb.teardown()


class Broken:
    """A tracker whose every call fails, as those of a server that is gone do."""

    def __init__(self, name: str) -> None:
        self.name, self.calls = name, 0

    def __getattr__(self, method: str) -> Any:
        def fail(*_: Any) -> None:
            self.calls += 1
            raise ConnectionError("nobody there\nand a long story")

        return fail


def test_a_tracker_that_fails_is_given_up_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    broken = Broken("wandb")
    tracking = Tracking([broken])
    with caplog.at_level(logging.WARNING):
        tracking.log_scores({"a": 1.0})
        tracking.log_scores({"a": 2.0})
        tracking.finish()
    assert caplog.messages == ["tracks   no longer in wandb, the run goes on: ConnectionError: nobody there"]
    assert broken.calls == 1


@pytest.mark.parametrize("command", ["train", "report"])
def test_a_tracker_that_is_not_installed_is_an_error_at_once(cli: Any, command: str) -> None:
    if find_spec("mlflow"):
        pytest.skip("it is installed here")
    result = cli(command, "tracker=[wandb,mlflow]", light=True)
    assert result.code == 2
    assert result.stderr.strip() == (
        "error: `tracker=mlflow` needs a package that is not installed. Try: pip install 'sacpo_exp[mlflow]'"
    )


def test_wandb_s_agent_trains_and_judges_with_the_sweep_s_settings(tmp_path: Path, repo: Path) -> None:
    """The command that the agent runs, as it builds it, with a `sacpo` that prints what it is given."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    sweep = yaml.safe_load((repo / "launchers" / "wandb_sweep.yaml").read_text("utf-8"))
    values = {name: {"value": parameter["values"][-1]} for name, parameter in sweep["parameters"].items()}
    filled = {"${env}": ["/usr/bin/env"]}
    filled["${args_no_hyphens}"] = create_sweep_command_args({"args": values})["args_no_hyphens"]
    command = [word for part in create_sweep_command(deepcopy(sweep["command"])) for word in filled.get(part, [part])]
    (tmp_path / "sacpo").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "sacpo").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(command, env={"PATH": path}, capture_output=True, text=True, check=True)
    common = "beta=0.01 order=safety_first"
    objective = f"objective_metric={sweep['metric']['name']}"
    assert done.stdout.splitlines() == [f"train tracker=wandb {common}", f"eval tracker=wandb {objective} {common}"]


def test_settings_are_flat_and_short_for_mlflow() -> None:
    flat = flatten({"a": {"b": {"c": 1}, "d": None}, "e": "x" * 999})
    assert flat == {"a.b.c": "1", "a.d": "None", "e": "x" * 500}
