"""A stage, its evaluation and a report in wandb, offline: all that is told, and nothing about the machine."""

import getpass
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import make_config
from tracked_commands import curves, of_type, read_run, run_folders

from sacpo_exp.eval import evaluate
from sacpo_exp.report import report
from sacpo_exp.store import Manifest, Store
from sacpo_exp.train import train

SECRET = "0123456789abcdef0123456789abcdef01234567"
ONE_STAGE = ("base=none", "order=helpful_only", "policies=all")


@pytest.fixture(scope="module")
def tracked_outputs(tmp_path_factory: pytest.TempPathFactory, configure: Callable[..., Any]) -> Path:
    """Outputs of `train`, `eval` twice and `report` with wandb."""
    outputs = tmp_path_factory.mktemp("tracked")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WANDB_API_KEY", "OPENAI_API_KEY"):
            patch.setenv(name, SECRET)
        tracked = ("tracker=wandb", "tracker.wandb.mode=offline", "tracker.group=my sweep")
        config = make_config(outputs, *ONE_STAGE, *tracked)
        for command in (train, train, evaluate, evaluate):
            command(config)
        report(configure(*tracked, f"paths.outputs={outputs}", "bootstrap_rounds=100", "examples=0", command="report"))
    return outputs


def stored(outputs: Path, kind: str) -> list[Manifest]:
    return [manifest for _, manifest in Store(outputs / "store").manifests() if manifest.kind == kind]


def test_what_is_made_has_one_run_each_and_what_is_reused_none(tracked_outputs: Path) -> None:
    made = {manifest.id for kind in ("stage", "judgments") for manifest in stored(tracked_outputs, kind)}
    runs = [path.name.split("-", 3)[3] for path in (tracked_outputs / "wandb").glob("offline-run-*")]
    assert len(made) == 3
    assert sorted(run for run in runs if not run.startswith("report-")) == sorted(made)
    assert sum(run.startswith("report-") for run in runs) == 1


def test_a_stage_tells_its_recipe_its_curves_and_its_lineage(tracked_outputs: Path) -> None:
    (manifest,) = stored(tracked_outputs, "stage")
    records = read_run(run_folders(tracked_outputs)[manifest.id])
    (run,) = of_type(records, "run")
    assert run["run_group"] == "my sweep"
    assert run["tags"] == ["helpfulness", "dpo", "tiny", "demo"]
    config = run["config"]["update"]
    assert config["recipe"] == manifest.recipe
    assert config["beta"] == 0.1

    logged = curves(records)
    lines = [json.loads(line) for line in (tracked_outputs / "store/stage" / manifest.id / "metrics.jsonl").open()]
    assert logged["train/loss"] == [line["loss"] for line in lines if "loss" in line]
    assert logged["eval/loss"] == [line["eval_loss"] for line in lines if "eval_loss" in line]
    assert len(logged["train/loss"]) == 3

    artifacts = {artifact["name"]: artifact for artifact in of_type(records, "artifact")}
    used = {name for name, artifact in artifacts.items() if artifact.get("use_after_commit")}
    assert used == set(manifest.parents)
    policy = json.loads(artifacts[manifest.id]["metadata"])
    assert policy["metrics"]["heldout/loss"] == manifest.metrics["heldout/loss"]
    assert policy["parents"].keys() == set(manifest.parents)


def test_an_evaluation_tells_its_scores(tracked_outputs: Path) -> None:
    for manifest in stored(tracked_outputs, "judgments"):
        records = read_run(run_folders(tracked_outputs)[manifest.id])
        summary = {key: value for entry in of_type(records, "summary") for key, value in entry["update"].items()}
        assert {
            f"eval/{name}_win_rate_{end}" for name in ("helpfulness", "safety") for end in ("low", "high", "n")
        } <= (summary.keys())
        is_baseline = manifest.labels["policy_id"] == manifest.labels["baseline_id"]
        (run,) = of_type(records, "run")
        assert run["config"]["update"]["order"] == ("none" if is_baseline else "helpfulness")
        assert ("eval/kl_nats" in summary) != is_baseline
        used = {artifact["name"] for artifact in of_type(records, "artifact") if artifact.get("use_after_commit")}
        assert used == {manifest.labels["policy_id"], manifest.labels["opponent_id"]}


def test_a_report_tells_its_table_and_its_figure(tracked_outputs: Path) -> None:
    (folder,) = [path for run, path in run_folders(tracked_outputs).items() if run.startswith("report-")]
    logged = curves(read_run(folder))
    table = json.loads((folder / "files" / logged["policies.path"][0]).read_text())
    wanted = {"policy", "beta", "order", "objective", "helpfulness_win_rate", "helpfulness_win_rate_low"}
    assert wanted | {"safety_win_rate", "safety_win_rate_high", "mean_characters"} <= set(table["columns"])
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    found = [(row["order"], row["objective"], row["beta"]) for row in rows]
    assert found == [("none", None, None), ("helpfulness", "dpo", 0.1)]
    figure = folder / "files" / logged["trade_off.path"][0]
    assert figure.read_bytes() == (tracked_outputs / "report" / "trade_off.png").read_bytes()


def test_no_secret_and_nothing_of_the_machine_is_told(tracked_outputs: Path) -> None:
    """wandb's own debug logs, which are never sent, name paths; no file names a secret."""
    files = [path for path in (tracked_outputs / "wandb").rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in files)
    machine = [str(tracked_outputs.parent), str(Path.home()), str(Path(__file__).parents[2]), socket.gethostname()]
    machine = [text for text in machine if len(text) > 3] + [f'"username":"{getpass.getuser()}"']
    for path in files:
        content = path.read_bytes()
        assert SECRET.encode() not in content, path
        if path.suffix != ".log":
            assert [text for text in machine if text.encode() in content] == [], path
