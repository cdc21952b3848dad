"""Losses and methods that TRL does not have, against arithmetic by hand on the tiny model."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from paper_losses import sigmoid, softplus
from test_losses import make_trainer, perturb, sequence_logps
from tiny import make_run, read_lines, read_losses, train_run, write_lines, write_pairs

from sacpo_exp.errors import DataError
from sacpo_exp.method.criteria import HELPFULNESS, Criterion
from sacpo_exp.pipeline import Run, locate, reference_artifact, score_rows, train, train_policies
from sacpo_exp.plan import Stage
from sacpo_exp.training.models import Location, load_policy
from sacpo_exp.training.pair_losses import PAIR_LOSSES
from sacpo_exp.training.trainers import WINDOW, Shift

MIXED = ("base=none", "criterion=[mixed]", "evaluated=[helpfulness,safety]")
PECAN = ("base=none", "criterion=[helpfulness,safety,mixed]", "losses=[dpo,dpo,pecan]", "stages.safety.parent=baseline")
PECAN += ("stages.mixed.parent=baseline", "stages.mixed.loss.multiplier=3", "earlier_betas=[0.3,0.2]", "beta=0.5")


def build(run: Run, stage: Stage, folder: Path, guides: dict[str, float] | None = None) -> Any:
    """The trainer of a stage, its policy moved away from where it starts."""
    reference = reference_artifact(stage, stage.parent)
    stored = str(run.store.path(reference)) if run.store.has(reference) else None
    return perturb(make_trainer(run, stage, folder, reference=stored, guides=guides or {}))


def first_loss(trainer: Any) -> tuple[float, dict[str, Any], list[int]]:
    """Loss of the first rows, their batch, and which rows they are: some of each combination of flags."""
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(8)])
    with torch.no_grad():
        return float(trainer.compute_loss(trainer.model.eval(), batch)), batch, list(range(8))


def log_ratios(trainer: Any, batch: dict[str, Any]) -> list[np.ndarray]:
    with torch.no_grad():
        logps = sequence_logps(trainer.model, batch).chunk(2)
    names = ("ref_chosen_logps", "ref_rejected_logps")
    return [(logp - batch[name]).double().numpy() for logp, name in zip(logps, names, strict=True)]


def by_hand_bso(x: np.ndarray, power: float = 0.2, scale: float = 4.0) -> np.ndarray:
    """f'(R)·R − f(R) − f'(1/R) with R = exp(−x), differentiated by hand."""
    ratio = np.exp(-x)
    f = (ratio ** (1 + power) - (1 + power) * ratio + power) / (scale * power * (1 + power))
    slopes = [(r**power - 1) / (scale * power) for r in (ratio, 1 / ratio)]
    return slopes[0] * ratio - f - slopes[1]


@pytest.mark.parametrize("name", ["safedpo", "bfpo", "bso"])
def test_losses_that_read_flags_are_those_of_the_papers(outputs: Path, tmp_path: Path, name: str) -> None:
    settings = {"safedpo": ["delta=1.5"], "bfpo": [], "bso": ["penalty=2"]}[name]
    overrides = [f"stages.mixed.loss.{setting}" for setting in settings]
    pairing = "preferred" if name == "bfpo" else "acceptable_only"
    pair = f"stages.mixed.criterion.pairing={pairing}"
    run = make_run(outputs, *MIXED, f"losses=[{name}]", "beta=0.3", pair, *overrides)
    trainer = build(run, run.plan.stages[0], tmp_path)
    loss, batch, rows = first_loss(trainer)
    chosen, rejected = log_ratios(trainer, batch)
    flags = ("chosen_acceptable", "rejected_acceptable")
    safe = [np.array([float(trainer.train_dataset[i][flag]) for i in rows]) for flag in flags]
    assert len({*zip(*safe, strict=True)}) > 1  # rows of more than one kind, or a wrong sign of the margin passes
    h = chosen - rejected
    expected = {
        "safedpo": lambda: softplus(-(0.3 * h - ((1 - safe[1]) - (1 - safe[0])) * 1.5)),
        "bfpo": lambda: (h - (3 * 0.5 * safe[0] - 0.5 * safe[1] - 0.5) / 0.3) ** 2,
        "bso": lambda: by_hand_bso(0.3 * h - 2 * ((1 - safe[1]) - (1 - safe[0]))),
    }[name]()
    assert loss == pytest.approx(expected.mean(), rel=1e-4)


def test_a_margin_of_the_data_is_subtracted_from_the_difference_of_the_rewards(tmp_path: Path) -> None:
    file, criterion = tmp_path / "rows.jsonl", Criterion(HELPFULNESS, "H", "better_response_id")
    write_pairs(file, "train", 24, criterion)
    write_lines(file, [row | {"margin": i / 10} for i, row in enumerate(read_lines(file))])
    data = ["dataset=local", f"dataset.path={file}", "dataset.criterion=helpfulness", "dataset.max_rows=20"]
    data.append("base=none")
    run = make_run(tmp_path / "outputs", *data, "order=helpful_only", "beta=0.3")
    trainer = build(run, run.plan.stages[0], tmp_path)
    loss, batch, numbers = first_loss(trainer)
    margins = np.array([trainer.train_dataset[i]["margin"] for i in numbers])
    with torch.no_grad():
        start = load_policy(Location(locate(run, run.plan.model).path), "float32")
        before = sequence_logps(start, batch).chunk(2)
        after = sequence_logps(trainer.model, batch).chunk(2)
    h = ((after[0] - before[0]) - (after[1] - before[1])).double().numpy()
    assert margins.max() > 0.5
    assert loss == pytest.approx(softplus(-(0.3 * h - margins)).mean(), rel=1e-4)
    with pytest.raises(DataError, match="`margin`, which kto can't read"):
        make_run(tmp_path / "outputs", *data, "order=helpful_only", "objective=kto")


def test_modpo_is_the_second_stage_started_from_the_baseline(outputs: Path, tmp_path: Path) -> None:
    """−log σ(w₀⁻¹(β_M·h − w₁·Δm)), m = β·h of the first stage, w = (λ, 1)/(1 + λ), β_M = β/(1 + λ)."""
    beta, multiplier = 0.3, 2.0
    overrides = ["base=none", "stages.safety.start=baseline", f"earlier_betas=[{beta}]", f"beta={beta / multiplier}"]
    run = make_run(outputs, *overrides)
    first, second = run.plan.stages
    train(run, first)
    score_rows(run, second, first.artifact)
    trainer = build(run, second, tmp_path)
    loss, batch, _ = first_loss(trainer)
    assert second.start == run.plan.model
    with torch.no_grad():
        base, helpful = (
            load_policy(Location(locate(run, spec).path), "float32") for spec in (run.plan.model, first.artifact)
        )
        logps = [sequence_logps(model, batch).double() for model in (trainer.model, base, helpful)]
    h, first_h = ((own - logps[1]).chunk(2) for own in (logps[0], logps[2]))
    w0, w1 = multiplier / (1 + multiplier), 1 / (1 + multiplier)
    margin = beta * (first_h[0] - first_h[1])
    expected = softplus(-((beta / (1 + multiplier)) * (h[0] - h[1]) - w1 * margin).numpy() / w0)
    assert float(margin.abs().max()) > 1e-3
    assert loss == pytest.approx(expected.mean(), rel=1e-4)
    train_policies(run)  # also with the loss's value at the start, which is not ln 2
    unstarted = train_run(outputs, *overrides[0:1], *overrides[2:])
    assert read_losses(unstarted, 1)[0] == pytest.approx(math.log(2), abs=1e-4)
    assert abs(read_losses(run, 1)[0] - math.log(2)) > 1e-4


def test_pecan_learns_from_the_implicit_rewards_of_both_policies(outputs: Path, tmp_path: Path) -> None:
    run = make_run(outputs, *PECAN)
    helpful, safe, mixed = run.plan.stages
    assert [stage.parent for stage in run.plan.stages] == [run.plan.model] * 3
    for stage in (helpful, safe):
        train(run, stage)
    score_rows(run, mixed, mixed.parent)
    guides = {str(score_rows(run, mixed, guide)): weight for guide, weight in mixed.guides.items()}
    assert list(guides.values()) == pytest.approx([0.3, 3 * 0.2])
    trainer = build(run, mixed, tmp_path, guides)
    loss, batch, _ = first_loss(trainer)
    with torch.no_grad():
        specs = (run.plan.model, helpful.artifact, safe.artifact)
        models = [load_policy(Location(locate(run, spec).path), "float32") for spec in specs]
        logps = [sequence_logps(model, batch).double().chunk(2) for model in (trainer.model, *models)]
    own, base, *others = [(chosen - rejected).numpy() for chosen, rejected in logps]
    score = 0.3 * (others[0] - base) + 3 * 0.2 * (others[1] - base)
    share, h = sigmoid(score), own - base
    assert np.ptp(score) > 1e-3
    expected = share * softplus(-0.5 * h) + (1 - share) * softplus(0.5 * h)
    assert loss == pytest.approx(expected.mean(), rel=1e-4)
    train_policies(run)
    policy = run.store.manifest(mixed.artifact)
    assert set(policy.parents) == {run.plan.model.id, mixed.data.id, helpful.artifact.id, safe.artifact.id}


def test_bco_is_the_cross_entropy_of_shifted_rewards(outputs: Path, tmp_path: Path) -> None:
    run = make_run(outputs, "base=none", "losses=[bco]", "order=safety_only", "beta=0.3")
    trainer = build(run, run.plan.stages[0], tmp_path)
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(7)])
    with torch.no_grad():
        loss = float(trainer.compute_loss(trainer.model.train(), batch))
        ratios = (sequence_logps(trainer.model.eval(), batch) - batch["ref_logps"]).double().numpy()
    labels = batch["label"].numpy().astype(bool)
    counts = labels.sum(), (~labels).sum()
    assert min(counts) > 0
    assert counts[0] != counts[1]  # else a weight of n_d / n_u, or δ as the mean of all rewards, would pass
    rewards = 0.3 * ratios
    delta = (rewards[labels].mean() + rewards[~labels].mean()) / 2
    expected = np.where(labels, softplus(-(rewards - delta)), softplus(rewards - delta)).mean()
    wrong_sign = np.where(labels, softplus(-(rewards + delta)), softplus(rewards + delta)).mean()
    assert abs(expected - wrong_sign) > 1e-3 * expected
    assert loss == pytest.approx(expected, rel=1e-4)


def test_the_shift_of_bco_survives_a_resume(tmp_path: Path) -> None:
    run = make_run(tmp_path, "base=none", "losses=[bco]", "order=safety_only", "stages.safety.num_train_epochs=1")
    trainer = build(run, run.plan.stages[0], tmp_path)
    trainer.args.set_save(strategy="steps", steps=1)
    trainer.train()
    last = max((tmp_path / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name.rsplit("-")[-1]))
    stored = json.loads((last / "trainer_state.json").read_text())["stateful_callbacks"]["Shift"]["attributes"]
    assert stored["counts"][0] > 0
    resumed = build(run, run.plan.stages[0], tmp_path)
    resumed.train(resume_from_checkpoint=str(last))
    assert (resumed.shift.sums, resumed.shift.counts) == (stored["sums"], stored["counts"])
    assert Shift().delta == 0


def test_flags_of_safety_are_needed_where_a_loss_reads_them(tmp_path: Path) -> None:
    write_pairs(tmp_path / "rows.jsonl", "train", 40, Criterion(HELPFULNESS, "H", "better_response_id"))
    data = ["dataset=local", f"dataset.path={tmp_path}/rows.jsonl", "dataset.criterion=mixed"]
    for loss in ("safedpo", "dpo"):
        with pytest.raises(DataError, match="stage for mixed reads whether each response is acceptable"):
            make_run(tmp_path / "outputs", *MIXED, *data, f"losses=[{loss}]")


def test_bso_has_finite_gradients_far_from_where_it_starts() -> None:
    """With the paper's C = 30; without limits of log R they would overflow, and clipping would turn them into zeros."""
    rewards = torch.tensor([-200.0, -20.0, 0.0, 200.0], requires_grad=True)
    flags = {"chosen_acceptable": torch.ones(4), "rejected_acceptable": torch.zeros(4)}
    settings = {"penalty": 30.0, "power": 0.2, "scale": 4.0, "beta": 0.1}
    loss = PAIR_LOSSES["bso"](rewards, torch.zeros(4), flags, settings)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert rewards.grad is not None
    assert torch.isfinite(rewards.grad).all()
    assert rewards.grad[2] < 0  # towards the safe response


def test_the_shift_of_bco_fades() -> None:
    shift = Shift()
    shift.add(torch.tensor([4.0, 0.0]), torch.tensor([1.0, 0.0]))
    for _ in range(WINDOW):
        shift.on_step_end(None, None, None)
    shift.add(torch.tensor([8.0, 0.0]), torch.tensor([1.0, 0.0]))
    share = (1 - 1 / WINDOW) ** WINDOW
    assert share == pytest.approx(math.exp(-1), abs=0.02)
    assert shift.delta == pytest.approx((4 * share + 8) / (share + 1) / 2)
