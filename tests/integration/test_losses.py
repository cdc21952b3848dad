"""TRL's losses, as our adapter sets them up, against arithmetic by hand."""

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from paper_losses import BY_HAND
from safetensors.torch import load_file
from tiny import make_run, read_losses, train_run

from sacpo_exp.data.sources import read_view
from sacpo_exp.method.losses import LOSSES, View, trained_losses
from sacpo_exp.pipeline import Run, locate, make_job
from sacpo_exp.plan import Stage
from sacpo_exp.training.adapters import load_parent, ready_adapter
from sacpo_exp.training.models import Location, load_tokenizer
from sacpo_exp.training.passes import faster_passes
from sacpo_exp.training.trl_adapter import build_trainer


def make_trainer(run: Run, stage: Stage, folder: Path, **settings: Any) -> Any:
    """The trainer of a stage, made as `train_stage` makes it, before its first update; with settings of the job."""
    job = replace(make_job(run, stage, stage.start, folder), **settings)
    location = Location(job.parent, job.revision)
    policy, tokenizer = load_parent(job, location), load_tokenizer(location, run.config.model.chat_template)
    trainer = build_trainer(
        job, stage.config, policy, tokenizer, *(read_view(Path(job.view), part) for part in ("train", "heldout"))
    )
    if job.config.adapter is not None:
        ready_adapter(trainer.model, job.config.adapter)
    return trainer


def perturb(trainer: Any) -> Any:
    """Move the policy of a trainer away from its reference, which has been scored."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return trainer


def perturbed_trainer(outputs: Path, folder: Path, *overrides: str) -> Any:
    run = make_run(outputs, "base=none", *overrides)
    return perturb(make_trainer(run, run.plan.stages[0], folder))


def sequence_logps(model: Any, batch: dict[str, torch.Tensor], prefix: str = "") -> torch.Tensor:
    """Sum of log-probabilities of the completion tokens of each row, the plain way."""
    ids, mask = batch[f"{prefix}input_ids"], batch[f"{prefix}completion_mask"]
    logits = model(input_ids=ids, attention_mask=batch[f"{prefix}attention_mask"]).logits[:, :-1].float()
    logps = logits.log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    return (logps * mask[:, 1:]).sum(-1)


@pytest.mark.parametrize("name", list(BY_HAND))
def test_losses_of_pairs_are_those_of_the_papers(outputs: Path, tmp_path: Path, name: str) -> None:
    trainer = perturbed_trainer(outputs, tmp_path, f"losses=[{name}]", "stages.helpfulness.beta=0.3")
    batch = trainer.data_collator([trainer.train_dataset[index] for index in range(4)])
    with torch.no_grad(), faster_passes(trainer.model):
        loss = trainer.compute_loss(trainer.model.eval(), batch)
        chosen, rejected = sequence_logps(trainer.model, batch).chunk(2)
    ratios = [chosen - batch["ref_chosen_logps"], rejected - batch["ref_rejected_logps"]]
    assert float((ratios[0] - ratios[1]).abs().min()) > 0  # the policy really differs from its reference
    if name == "ipo":
        lengths = batch["completion_mask"].sum(1).chunk(2)
        ratios = [ratio / length for ratio, length in zip(ratios, lengths, strict=True)]
    expected = BY_HAND[name](0.3, *(ratio.double().numpy() for ratio in ratios)).mean()
    assert float(loss) == pytest.approx(expected, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("name", [name for name in LOSSES if LOSSES[name].trainer == "kto"])
def test_unpaired_losses_weigh_labels_and_kto_subtracts_the_kl(outputs: Path, tmp_path: Path, name: str) -> None:
    overrides = [f"losses=[{name}]", "order=safety_first", "stages.safety.beta=0.3"]
    trainer = perturbed_trainer(outputs, tmp_path, *overrides)
    labels = trainer.train_dataset["label"]
    weight = sum(labels) / (len(labels) - sum(labels))  # n_desirable / n_undesirable, as in the paper's code
    assert trainer.undesirable_weight == pytest.approx(weight)
    batch = trainer.data_collator([trainer.train_dataset[index] for index in range(8)])
    with torch.no_grad(), faster_passes(trainer.model):
        loss = float(trainer.compute_loss(trainer.model.eval(), batch))
        ratios = sequence_logps(trainer.model, batch) - batch["ref_logps"]
        kl = 0.0
        if LOSSES[name].reads_micro_batch:
            kl = float((sequence_logps(trainer.model, batch, "KL_") - batch["ref_KL_logps"]).mean().clamp(min=0))
    values = [
        1 / (1 + math.exp(-0.3 * (ratio - kl))) if label else 1 / (1 + math.exp(-0.3 * (kl - ratio)))
        for ratio, label in zip(ratios.tolist(), batch["label"], strict=True)
    ]
    by_hand = sum((1 if label else weight) * (1 - value) for value, label in zip(values, batch["label"], strict=True))
    assert loss == pytest.approx(by_hand / len(values), abs=1e-4)


#: One for each kind of trainer and of rows; the others are of the same kinds, and pecan is trained by test_methods.
QUICK = ("dpo", "kto", "bco", "safedpo")
ALL = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in trained_losses()]


@pytest.mark.parametrize("name", ALL)
def test_every_loss_trains_from_where_its_row_says(outputs: Path, name: str) -> None:
    """Two updates through the whole pipeline, whose monitor compares the first loss with the row's `start`, too."""
    loss = LOSSES[name]
    share = 16 / (24 * 2 if loss.view == View.labels else 24)  # of an epoch, with batches of 8
    last, criteria, losses = "helpfulness", "helpfulness", name
    if loss.reads_flags or loss.reads_guides:
        last = criteria = "mixed"
    if loss.reads_guides:
        criteria, losses = "helpfulness,mixed", f"dpo,{name}"
    chosen = [f"criterion=[{criteria}]", "evaluated=[helpfulness,safety]", f"losses=[{losses}]"]
    chosen += ["stages.mixed.parent=baseline"] * loss.reads_guides  # or the guide is the reference, which tells nothing
    run = train_run(outputs, "base=none", *chosen, f"stages.{last}.num_train_epochs={share}")
    stage = run.plan.stages[-1]
    assert run.store.manifest(stage.artifact).metrics["train/updates"] == 2
    folder = run.store.path(stage.artifact)
    losses = read_losses(run, -1)
    assert len(losses) == 2
    assert all(map(math.isfinite, losses))
    if name in BY_HAND:
        start = float(BY_HAND[name](run.config.beta, 0.0, 0.0))
        assert losses[0] == pytest.approx(start, rel=1e-4)
        assert loss.start in (None, pytest.approx(start))
    before, after = (load_file(Path(path) / "model.safetensors") for path in (locate(run, stage.parent).path, folder))
    assert [name for name in after if torch.equal(before[name], after[name])] == []


def test_the_start_is_not_checked_where_an_argument_of_the_user_s_changes_the_loss(outputs: Path) -> None:
    """WPO weighs pairs by their probability, so the first loss is not ln 2."""
    run = train_run(outputs, "base=none", "order=helpful_only", "++trainer.use_weighting=true")
    assert read_losses(run)[0] < 0.99 * math.log(2)


def test_kto_never_takes_the_neighbour_of_the_same_prompt_for_its_kl(outputs: Path, tmp_path: Path) -> None:
    trainer = perturbed_trainer(outputs, tmp_path, "objective=kto")
    prompts = [row["prompt"][0]["content"] for row in trainer.train_dataset]
    together = sum(a == b for a, b in itertools.pairwise(prompts))
    assert together < len(prompts) / 8  # in the order of the file every second pair is
