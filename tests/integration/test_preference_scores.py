"""Preference accuracy: against the trainer's own accuracy, and log-probabilities against a forward pass by hand."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import make_config, stored, write_report

from sacpo_exp.data.sources import read_view
from sacpo_exp.errors import DataError
from sacpo_exp.eval import evaluate
from sacpo_exp.evaluation.preferences import PAIRS, score_preferences
from sacpo_exp.evaluation.records import read_records
from sacpo_exp.pipeline import Run, locate, open_run, prepare, train_policies
from sacpo_exp.plan import plan_pairs
from sacpo_exp.reporting.preferences import collect_preferences, preference_section
from sacpo_exp.statistics.intervals import Estimate, Resampling
from sacpo_exp.store import Manifest
from sacpo_exp.training.models import load_policy


@pytest.fixture(scope="module")
def evaluated(trained: Path) -> tuple[Run, dict[tuple[str, str], list[dict[str, Any]]]]:
    """A trained plan, and its scored pairs by policy id and criterion."""
    config = make_config(trained, "policies=all", "merge_ratio=0.5")
    run = open_run(config)
    train_policies(run)
    folders = score_preferences(run, config)
    records = {}
    for folder in folders:
        labels = Manifest.read(folder).labels
        records[labels["policy_id"], labels["criterion"]] = read_records(folder / PAIRS)
    return run, records


def test_every_policy_is_scored_for_every_criterion(evaluated: tuple[Run, dict[Any, Any]]) -> None:
    run, records = evaluated
    wanted = {spec.id for spec in run.plan.policies.values()}
    assert set(records) == {(policy, criterion) for policy in wanted for criterion in ("helpfulness", "safety")}
    assert {len(rows) for rows in records.values()} == {8}


def test_log_probabilities_are_those_of_a_pass_over_the_pair_alone(evaluated: tuple[Run, dict[Any, Any]]) -> None:
    run, records = evaluated
    merged = run.plan.policies["merged"]
    weights = load_policy(locate(run, merged), "float32")
    criterion = run.config.stages["safety"].criterion
    assert criterion is not None
    view = prepare(run, plan_pairs(run.config, criterion, run.plan.model, run.fingerprints))
    for row, scored in zip(read_view(view, "heldout"), records[merged.id, "safety"], strict=True):
        for name in ("chosen", "rejected"):
            ids = torch.tensor([[*row["prompt_ids"], *row[f"{name}_ids"]]])
            with torch.no_grad():
                steps = weights(ids).logits[0].log_softmax(-1)
            start = len(row["prompt_ids"])
            by_hand = sum(float(steps[i - 1, ids[0, i]]) for i in range(start, ids.shape[1]))
            assert scored[name] == pytest.approx(by_hand, rel=1e-5)


def test_accuracy_of_a_first_stage_is_what_its_trainer_found(evaluated: tuple[Run, dict[Any, Any]]) -> None:
    run, records = evaluated
    first, baseline = (run.plan.policies[name].id for name in ("first", "baseline"))
    rows, reference = records[first, "helpfulness"], records[baseline, "helpfulness"]
    margins = [
        (row["chosen"] - other["chosen"]) - (row["rejected"] - other["rejected"])
        for row, other in zip(rows, reference, strict=True)
    ]
    accuracy = float(np.mean(np.array(margins) > 0))
    metrics = run.store.manifest(run.plan.policies["first"]).metrics
    assert accuracy == pytest.approx(metrics["heldout/rewards/accuracies"])
    beta = run.config.stages["helpfulness"].beta or 0
    assert beta * np.mean(margins) == pytest.approx(metrics["heldout/rewards/margins"], rel=1e-3, abs=1e-6)


def test_the_report_shows_accuracy_conflicts_and_calibration(evaluated: tuple[Run, dict[Any, Any]]) -> None:
    run, records = evaluated
    (table,) = collect_preferences(run.store, None, None, Resampling(200, 0.95, 0))
    rows = {(row["policy_id"], row["criterion"]): row for row in table.rows}
    first, second, baseline = (run.plan.policies[name].id for name in ("first", "second", "baseline"))
    assert baseline not in {policy for policy, _ in rows}
    row = rows[first, "helpfulness"]
    assert isinstance(row["accuracy"], Estimate)
    assert row["accuracy"].low <= row["accuracy"].value <= row["accuracy"].high
    own, other = ({(r["prompt"], *r["texts"]) for r in records[baseline, name]} for name in ("helpfulness", "safety"))
    assert row["conflicts"] == len({(prompt, b, a) for prompt, a, b in own} & other)
    calibrated = {key for key, row in rows.items() if row["calibration_error"] is not None}
    assert calibrated == {(first, "helpfulness"), (second, "safety")}
    assert len(preference_section(table).rows) == 1 + len(rows)


def test_a_policy_made_elsewhere_with_other_tokens_is_left_out(
    trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Here a model whose tokenizer was trained on other rows."""
    maker = open_run(make_config(tmp_path / "maker", "base=none", "dataset.seed=1", "model.shape.vocab_size=400"))
    folder = tmp_path / "theirs"
    folder.symlink_to(locate(maker, maker.plan.model).path)
    config = make_config(trained, "order=none", "base=none", f"others=[{folder}]", "policies=all", "judge=none")
    with caplog.at_level("WARNING"):
        evaluate(config)
    assert "no preference accuracy and no KL for theirs" in caplog.text
    other = open_run(config).plan.policies["theirs"].id
    assert not any(other in manifest.parents for _, manifest in stored(trained, "divergence"))


def test_without_a_judge_pairs_are_scored_and_reported(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("model", "dataset", "stage"):
        (tmp_path / "store" / kind).parent.mkdir(exist_ok=True)
        shutil.copytree(trained / "store" / kind, tmp_path / "store" / kind)
    config = make_config(tmp_path, "judge=none", "policies=all", "generation.kl_prompts=0")
    evaluate(config)
    assert {manifest.kind for _, manifest in open_run(config).store.manifests()} == {
        *("model", "dataset", "stage", "preference")
    }
    capsys.readouterr()
    write_report(tmp_path)
    assert "Held-out pairs" in capsys.readouterr().out
    names = {f"preferences.{kind}" for kind in ("csv", "png", "svg")}
    assert {path.name for path in (tmp_path / "report").iterdir()} == {*names, "report.html"}


def test_pairs_with_trained_prompts_are_refused_where_they_are_the_most(trained: Path) -> None:
    """One stage's held-out prompts are another's training prompts."""
    config = make_config(trained)
    run = open_run(config)
    view = prepare(run, run.plan.stages[-1])
    rows = [{key: row[key] for key in ("prompt", "chosen", "rejected")} for row in read_view(view, "train")]
    path = trained / "seen.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    key = "criteria.safety.dataset"
    own = [f"{key}.path={path}", f"{key}.criterion=safety", f"{key}.heldout_fraction=0.5", f"{key}.name=seen"]
    config = make_config(trained, "order=helpful_only", f"dataset@{key}=local", *own)
    with pytest.raises(DataError, match=r"have prompts that .* was trained on. Try: dataset.heldout_path=FILE"):
        score_preferences(open_run(config), config)
