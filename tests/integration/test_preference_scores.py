"""Preference accuracy: against the trainer's own accuracy, and log-probabilities against a forward pass by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import make_config

from sacpo_exp.data.sources import read_view
from sacpo_exp.evaluation.preferences import PAIRS, score_preferences
from sacpo_exp.evaluation.records import read_records
from sacpo_exp.pipeline import Run, locate, open_run, prepare, train_policies
from sacpo_exp.plan import plan_pairs
from sacpo_exp.store import Manifest
from sacpo_exp.training.models import load_policy


@pytest.fixture(scope="module")
def evaluated(outputs: Path) -> tuple[Run, dict[tuple[str, str], list[dict[str, Any]]]]:
    """A trained plan, and its scored pairs by policy id and criterion."""
    config = make_config(outputs, "policies=all", "merge_ratio=0.5")
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
