"""wandb, offline: one run per policy with all that is told of it, and nothing about the machine."""

import getpass
import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
from tiny import make_config, read_lines, share, stored, write_report
from tracked_commands import curves, of_type, read_run, run_folders

from sacpo_exp.config.schema import EvalConfig
from sacpo_exp.eval import evaluate
from sacpo_exp.method.policy import read_policy
from sacpo_exp.store import Manifest
from sacpo_exp.train import train

SECRET = "0123456789abcdef0123456789abcdef01234567"
#: Two β, which share a first stage; the first is merged and evaluated too.
JOBS = [("beta=0.1", "merge_ratio=0.5"), ("beta=0.2",)]
TRACKER = ["tracker=wandb", "tracker.wandb.mode=offline", "tracker.group=swept"]
COLUMNS = ("order", "objective", "criterion", "loss", "beta", "seed", "learning_rate", "model", "dataset", "judge")


def configure(outputs: Path, *overrides: str) -> EvalConfig:
    return make_config(outputs, "base=none", "policies=all", *TRACKER, *overrides)


@pytest.fixture(scope="module")
def swept(outputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs of a sweep that was trained, judged and reported with wandb."""
    folder = tmp_path_factory.mktemp("tracked")
    share(outputs, folder, "order=none", "base=none")  # model and scorer
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WANDB_API_KEY", "OPENAI_API_KEY"):
            patch.setenv(name, SECRET)
        for job in JOBS:
            train(configure(folder, *job))
        evaluate(configure(folder, *JOBS[0]))
        write_report(folder, *TRACKER)
    return folder


def by_id(outputs: Path, *kinds: str) -> dict[str, Manifest]:
    return {manifest.id: manifest for _, manifest in stored(outputs, *kinds)}


def summary_of(records: list[dict[str, Any]]) -> dict[str, Any]:
    return {key: value for entry in of_type(records, "summary") for key, value in entry["update"].items()}


def test_a_sweep_has_one_run_per_policy_with_flat_columns_and_scores(swept: Path) -> None:
    runs = {name: path for name, path in run_folders(swept).items() if not name.startswith("report-")}
    trained = by_id(swept, "stage", "merge")
    assert len(trained) == 4  # a first stage, two second ones, a merge
    assert runs.keys() == {*trained, *by_id(swept, "model")}
    for policy_id, manifest in trained.items():
        policy = read_policy(manifest.labels["lineage"])
        if 0.2 in policy.betas:  # which is not judged
            continue
        records = read_run(runs[policy_id])
        (run,) = of_type(records, "run")
        config = run["config"]["update"]
        title = f"{policy.family} β={policy.beta:g} q={policy.merge_ratio:g}" if policy.weights else policy.name
        assert (run["run_group"], run["display_name"]) == ("swept", title)
        assert {"swept", policy.order, "tiny", "demo"} <= set(run["tags"])
        assert {name: config[name] for name in COLUMNS[:-1]} == {name: policy.columns[name] for name in COLUMNS[:-1]}
        assert config.get("merge_ratio") == policy.merge_ratio
        assert config["judge"] == "scorer"
        assert config["recipe"] == manifest.recipe
        summary = summary_of(records)
        for criterion in ("helpfulness", "safety"):
            for name in (f"eval/scorer/demo/{criterion}_win_rate", f"eval/heldout/demo/{criterion}_accuracy"):
                assert 0 <= summary[name] <= 1
                assert summary[f"{name}_low"] <= summary[name] <= summary[f"{name}_high"]
        assert summary["eval/scorer/demo/kl_nats"] >= 0


def test_a_stage_tells_its_settings_its_curves_and_its_lineage(swept: Path) -> None:
    manifest = next(iter(by_id(swept, "stage").values()))
    pieces = [read_run(path) for path in sorted((swept / "wandb").glob(f"offline-run-*-{manifest.id}"))]
    assert len(pieces) >= 3  # training, evaluation, report; each whole, since `wandb sync` lets a later one win
    lines = read_lines(swept / "store/stage" / manifest.id / "metrics.jsonl")
    for piece in pieces:
        logged = curves(piece)
        assert logged["train/loss"] == [line["loss"] for line in lines if "loss" in line]
        assert logged["eval/loss"] == [line["eval_loss"] for line in lines if "eval_loss" in line]
        assert summary_of(piece)["heldout/loss"] == manifest.metrics["heldout/loss"]
        artifacts = {artifact["name"]: artifact for artifact in of_type(piece, "artifact")}
        used = {name for name, artifact in artifacts.items() if artifact.get("use_after_commit")}
        assert used == set(manifest.parents)
    told = next(of_type(pieces[0], "run"))["config"]["update"]["hydra"]
    assert told["optimization"]["optim"] == "adamw_torch_fused"
    assert not {"paths", "overrides"} & told.keys()
    artifacts = {artifact["name"]: artifact for artifact in of_type(pieces[0], "artifact")}
    policy = json.loads(artifacts[manifest.id]["metadata"])
    assert policy["metrics"]["heldout/loss"] == manifest.metrics["heldout/loss"]


def test_a_second_evaluation_adds_to_a_run(swept: Path, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    shutil.copytree(swept / "store", outputs / "store")
    evaluate(configure(outputs, *JOBS[0], "prompts.name=again", "prompts.limit=4", "tracker.wandb.name=mine"))
    runs = run_folders(outputs)
    assert len(runs) == 4  # baseline, first, second, merged
    records = read_run(runs[next(iter(by_id(outputs, "merge")))])
    names = summary_of(records).keys()
    assert {f"eval/scorer/{prompts}/safety_win_rate" for prompts in ("demo", "again")} <= names
    assert next(of_type(records, "run"))["display_name"].startswith("mine · ")


def test_a_report_sends_what_was_made_without_a_tracker(swept: Path, tmp_path: Path) -> None:
    shutil.copytree(swept / "store", tmp_path / "store")
    write_report(tmp_path, *TRACKER)
    runs = {name: path for name, path in run_folders(tmp_path).items() if not name.startswith("report-")}
    assert runs.keys() == {*by_id(tmp_path, "stage", "merge", "model")}
    stage = next(iter(by_id(tmp_path, "stage")))
    records = read_run(runs[stage])
    assert "train/loss" in curves(records)
    assert "eval/scorer/demo/safety_win_rate" in summary_of(records)


def test_a_report_tells_its_table_and_its_figure(swept: Path) -> None:
    (folder,) = [path for run, path in run_folders(swept).items() if run.startswith("report-")]
    logged = curves(read_run(folder))
    table = json.loads((folder / "files" / logged["policies.path"][0]).read_text())
    wanted = {"policy", "beta", "order", "objective", "helpfulness_win_rate", "helpfulness_win_rate_low"}
    assert wanted | {"safety_win_rate", "safety_win_rate_high", "mean_characters"} <= set(table["columns"])
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [(row["order"], row["objective"], row["beta"]) for row in rows[:2]] == [
        ("none", None, None),
        ("helpfulness", "dpo", 0.1),
    ]
    figure = folder / "files" / logged["trade_off.path"][0]
    assert figure.read_bytes() == (swept / "report" / "trade_off.png").read_bytes()


def test_no_secret_and_nothing_of_the_machine_is_told(swept: Path) -> None:
    """wandb's own debug logs, which are never sent, name paths; no file names a secret."""
    files = [path for path in (swept / "wandb").rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in files)
    machine = [str(swept.parent), str(Path.home()), str(Path(__file__).parents[2]), socket.gethostname()]
    machine = [text for text in machine if len(text) > 3] + [f'"username":"{getpass.getuser()}"']
    for path in files:
        content = path.read_bytes()
        assert SECRET.encode() not in content, path
        if path.suffix != ".log":
            assert [text for text in machine if text.encode() in content] == [], path
