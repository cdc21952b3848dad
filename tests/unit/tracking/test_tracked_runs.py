"""What trackers are told of a stage, how a run is remembered, and what becomes of a tracker that fails."""

import json
import logging
import os
from collections.abc import Callable
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from sacpo_exp.cluster.sweeps import name_group
from sacpo_exp.config.loading import read_job, write_job
from sacpo_exp.config.schema import StageJob, TrackedRun, WandbConfig, WandbMode
from sacpo_exp.pipeline import take_fingerprints
from sacpo_exp.plan import make_plan, track_stage
from sacpo_exp.tracking.mlflow_tracker import flatten
from sacpo_exp.tracking.runs import Memory, Tracking
from sacpo_exp.tracking.wandb_tracker import choose_mode

Configure = Callable[..., Any]


def describe(configure: Configure, *overrides: str, made: frozenset[str] = frozenset()) -> dict[str, TrackedRun]:
    """What is told of each stage of a plan, by the stage's name."""
    config = configure("model=tiny", *overrides)
    plan = make_plan(config, take_fingerprints(config))
    return {stage.name: track_stage(config, plan, stage, made) for stage in plan.stages}


def test_a_worker_reads_what_it_is_to_tell(configure: Configure, tmp_path: Path) -> None:
    config = configure("model=tiny", "tracker=wandb")
    run = describe(configure)["safety"]
    job = StageJob(config, "safety", run.id, "parent", None, "view", "folder", 2, 4, tracked=run)
    assert read_job(write_job(job, tmp_path)) == job


def test_a_stage_is_tagged_with_the_criteria_and_losses_that_it_was_aligned_for(configure: Configure) -> None:
    runs = describe(configure, "objective=kto_then_dpo")
    orders = ["none", "helpfulness", "helpfulness_then_safety"]
    assert [run.tags[0] for run in runs.values()] == [run.config["order"] for run in runs.values()] == orders
    assert runs["safety"].config["objective"] == "kto_then_dpo"
    assert {"kto_then_dpo", runs["safety"].config["loss"]} <= set(runs["safety"].tags)
    assert [run.is_last for run in runs.values()] == [False, False, True]


def test_a_stage_names_its_ancestors_and_which_of_them_were_there_before(configure: Configure) -> None:
    runs = describe(configure)
    base, first, second = (run.id for run in runs.values())
    assert runs["safety"].config["lineage"].items() >= {"sft": base, "helpfulness": first}.items()
    assert runs["safety"].parents[first] == "policy"
    assert list(runs["safety"].parents.values()) == ["policy", "dataset"]
    again = describe(configure, made=frozenset({first, second}))
    assert [run.config["reused"] for run in again.values()] == [[], [base], [base]]


def test_no_path_is_told(configure: Configure, rows_file: Path, model_folder: Path, tmp_path: Path) -> None:
    overrides = ["model=local", f"model.path={model_folder}", "dataset=local", f"dataset.path={rows_file}"]
    for run in describe(configure, *overrides, f"paths.outputs={tmp_path}").values():
        assert str(tmp_path) not in json.dumps(vars(run))


def test_a_group_is_called_as_the_folder_of_its_sweep() -> None:
    assert name_group(Path("multirun/2026-11-24/17-46-11-1")) == "2026-11-24_17-46-11-1"
    assert name_group(Path("sweeps/mine")) == "mine"


KEY = "0123456789abcdef" * 3


@pytest.mark.parametrize(
    ("mode", "netrc", "environment", "expected"),
    [
        ("auto", "", {}, "offline"),
        ("auto", "", {"WANDB_API_KEY": KEY}, "online"),
        ("auto", "", {"WANDB_API_KEY": KEY, "WANDB_MODE": "offline"}, "offline"),
        ("auto", "api.wandb.ai", {}, "online"),
        ("disabled", "", {"WANDB_API_KEY": KEY}, "disabled"),
    ],
)
def test_wandb_is_online_with_a_key(
    mode: str, netrc: str, environment: dict[str, str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


def test_a_run_that_goes_on_remembers_and_one_that_starts_anew_does_not(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    assert Memory(folder, is_continued=False).recall("group", "first sweep") == "first sweep"
    assert Memory(folder, is_continued=True).recall("group", "second sweep") == "first sweep"
    assert Memory(folder, is_continued=False).recall("group", "second sweep") == "second sweep"
    assert Memory(folder, is_continued=True).find("group") == "second sweep"


@pytest.mark.parametrize("text", ["", '{"group": "fir'])
def test_what_a_power_cut_left_of_a_memory_is_forgotten(tmp_path: Path, text: str) -> None:
    (tmp_path / "tracking.json").write_text(text)
    assert Memory(tmp_path, is_continued=True).recall("group", "second sweep") == "second sweep"
    assert Memory(tmp_path, is_continued=True).find("group") == "second sweep"
    assert [path.name for path in tmp_path.iterdir()] == ["tracking.json"]


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
    assert (broken.calls, tracking.names) == (1, [])


@pytest.mark.skipif(find_spec("mlflow") is not None, reason="it is installed here")
@pytest.mark.parametrize("command", ["train", "report"])
def test_a_tracker_that_is_not_installed_is_an_error_at_once(cli: Callable[..., Any], command: str) -> None:
    result = cli(command, "tracker=[wandb,mlflow]", light=True)
    assert (result.code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: `tracker=mlflow` needs a package that is not installed. Try: pip install")


def test_wandb_s_agent_gives_the_sweep_s_settings_as_overrides(configure: Configure, repo: Path) -> None:
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    sweep = yaml.safe_load((repo / "launchers" / "wandb_sweep.yaml").read_text("utf-8"))
    values = {name: {"value": parameter["values"][-1]} for name, parameter in sweep["parameters"].items()}
    arguments = create_sweep_command_args({"args": values})["args_no_hyphens"]
    command = create_sweep_command(deepcopy(sweep["command"]))
    assert command[:4] == ["${env}", "${interpreter}", "-m", "${program}"]
    assert (sweep["program"], command[-1]) == ("sacpo_exp.train", "${args_no_hyphens}")
    config = configure(*command[4:-1], *arguments)
    assert (config.beta, config.tracker.wandb.project) == (0.01, "sacpo_exp")


def test_settings_are_flat_and_short_for_mlflow() -> None:
    flat = flatten({"a": {"b": {"c": 1}, "d": None}, "e": "x" * 999})
    assert flat == {"a.b.c": "1", "a.d": "None", "e": "x" * 500}
