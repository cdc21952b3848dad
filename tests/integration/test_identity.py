"""An id means one content: whatever is edited or moves on meanwhile, and however things are called."""

import json
from pathlib import Path

import huggingface_hub.constants
import pytest
from tiny import make_config, make_run, train_run, write_lines

from sacpo_exp.data.demo import generate_rows
from sacpo_exp.errors import ConfigError, DataError
from sacpo_exp.eval import evaluate
from sacpo_exp.evaluation.contests import enter_policies
from sacpo_exp.evaluation.judging import judge_contest
from sacpo_exp.evaluation.responding import respond
from sacpo_exp.pipeline import locate, prepare
from sacpo_exp.reporting.collect import collect_groups
from sacpo_exp.store import Store

HUB = ["model=hub", "model.path=owner/name", "optimization=tiny"]


def write_rows(path: Path, count: int) -> None:
    rows = [row for part in ("heldout", "train") for row in generate_rows(part, 0)]
    write_lines(path, rows[:count])


def test_rows_that_are_edited_meanwhile_are_not_stored_under_the_old_id(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, 300)
    overrides = ["dataset=local", f"dataset.path={path}", "base=none"]
    early, before = make_run(tmp_path / "early", *overrides), make_run(tmp_path, *overrides)
    locate(before, before.plan.model)
    write_rows(path, 310)
    with pytest.raises(DataError, match="was changed"):  # a tokenizer is made of them
        locate(early, early.plan.model)
    assert not early.store.has(early.plan.model)
    with pytest.raises(DataError, match=r"`dataset=local` was changed while this command ran"):
        prepare(before, before.plan.stages[0])
    after = make_run(tmp_path, *overrides)
    prepare(after, after.plan.stages[0])
    data = [manifest.recipe["rows"] for _, manifest in after.store.manifests() if manifest.kind == "dataset"]
    assert data == [after.fingerprints.datasets["dataset"]] != [before.fingerprints.datasets["dataset"]]
    assert not any(path.is_file() for partial in after.store.partials() for path in partial.rglob("*"))


def test_prompts_that_are_edited_meanwhile_are_not_answered(tmp_path: Path) -> None:
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps(["How are you?"]))
    run = make_run(tmp_path, "prompts=local", f"prompts.path={path}", "prompts.limit=null")
    path.write_text(json.dumps(["How are they?"]))
    with pytest.raises(DataError, match=r"`prompts=local` was changed"):
        respond(run, run.plan.model)
    assert not any(manifest.kind == "responses" for _, manifest in run.store.manifests())


def test_a_model_folder_that_is_edited_meanwhile_is_not_used(tmp_path: Path, model_folder: Path) -> None:
    run = make_run(tmp_path, "model=local", f"model.path={model_folder}", "optimization=tiny")
    assert locate(run, run.plan.model).path == str(model_folder)
    (model_folder / "model.safetensors").write_bytes(b"others")
    with pytest.raises(DataError, match="model was changed"):
        locate(run, run.plan.model)


def test_renaming_model_and_dataset_makes_nothing_anew(trained: Path) -> None:
    evaluate(make_config(trained))
    made = {folder for folder, _ in Store(trained / "store").manifests()}

    names = ["model.name=renamed", "dataset.name=renamed"]
    run = train_run(trained, *names)
    judge_contest(run, enter_policies(run))
    evaluate(make_config(trained, *names))
    assert run.store.made == set()
    assert {folder for folder, _ in run.store.manifests()} == made

    train_run(trained, *names, "merge_ratio=0.5")
    evaluate(make_config(trained, *names, "merge_ratio=0.5"))
    (group,) = collect_groups(run.store, None, None)
    assert [policy.labels["merge_ratio"] for policy in group.policies] == [None, None, 0.5]
    assert len({policy.labels["baseline_id"] for policy in group.policies}) == 1
    merged = group.policies[-1].id
    assert group.policies[-2].id in group.parents[merged]


def test_a_model_of_the_local_cache_is_read_at_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    for name, commit in {"main": "3" * 40, "v1": "4" * 40}.items():
        (tmp_path / "models--owner--name" / "snapshots" / commit).mkdir(parents=True)
        (tmp_path / "models--owner--name" / "refs").mkdir(exist_ok=True)
        (tmp_path / "models--owner--name" / "refs" / name).write_text(commit)
    run = make_run(tmp_path, *HUB, "model.revision=null", "others=[owner/name@v1]", "policies=all")
    assert locate(run, run.plan.model).revision == "3" * 40
    assert locate(run, run.plan.policies["name"]).revision == "4" * 40
    assert run.plan.model.recipe["revision"] == "3" * 40


def test_a_branch_whose_commit_is_not_known_is_not_loaded(tmp_path: Path) -> None:
    run = make_run(tmp_path, *HUB, "model.path=owner/unknown", "model.revision=main")
    with pytest.raises(ConfigError, match=r"no model can be loaded from owner/unknown: the commit of `main`"):
        locate(run, run.plan.model)
