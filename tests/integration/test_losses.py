"""TRL's losses, as our adapter sets them up, against arithmetic by hand."""

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import make_run
from torch.nn.functional import logsigmoid

from sacpo_exp.config.schema import StageJob
from sacpo_exp.data.sources import read_view
from sacpo_exp.models.loading import load_policy, load_tokenizer
from sacpo_exp.pipeline import locate, prepare, view_of
from sacpo_exp.training.trl_adapter import build_trainer, scoring_completions_only


def perturbed_trainer(outputs: Path, tmp_path: Path, *overrides: str) -> Any:
    """The first stage's trainer, its policy moved away from the reference after the reference was scored."""
    run = make_run(outputs, "base=none", *overrides)
    stage = run.plan.stages[0]
    location = locate(run, stage.parent)
    view = prepare(run, stage) / view_of(stage)
    job = StageJob(
        config=run.config,
        name="first",
        artifact_id="test",
        parent=location.path,
        view=str(view),
        folder=str(tmp_path),
        accumulation=stage.accumulation,
        per_device=stage.per_device,
    )
    tokenizer = load_tokenizer(location, run.config.model.chat_template)
    policy = load_policy(location, "float32")
    trainer = build_trainer(job, stage.config, policy, tokenizer, read_view(view, "train"), read_view(view, "heldout"))
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return trainer


def sequence_logps(model: Any, batch: dict[str, torch.Tensor], prefix: str = "") -> torch.Tensor:
    """Sum of log-probabilities of the completion tokens of each row, the plain way."""
    ids, mask = batch[f"{prefix}input_ids"], batch[f"{prefix}completion_mask"]
    logits = model(input_ids=ids, attention_mask=batch[f"{prefix}attention_mask"]).logits[:, :-1].float()
    logps = logits.log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    return (logps * mask[:, 1:]).sum(-1)


def test_dpo_loss_is_minus_log_sigmoid_of_the_scaled_margin(outputs: Path, tmp_path: Path) -> None:
    trainer = perturbed_trainer(outputs, tmp_path, "stages.first.beta=0.3")
    batch = trainer.data_collator([trainer.train_dataset[index] for index in range(4)])
    with torch.no_grad(), scoring_completions_only():
        loss = trainer.compute_loss(trainer.model.eval(), batch)
        chosen, rejected = sequence_logps(trainer.model, batch).chunk(2)
    margin = (chosen - batch["ref_chosen_logps"]) - (rejected - batch["ref_rejected_logps"])
    assert float(margin.abs().min()) > 0  # the policy really differs from its reference
    assert float(loss) == pytest.approx(float(-logsigmoid(0.3 * margin).mean()), abs=1e-4)


def test_kto_loss_weighs_labels_and_subtracts_the_batch_kl(outputs: Path, tmp_path: Path) -> None:
    trainer = perturbed_trainer(outputs, tmp_path, "objective=kto", "order=safety_first", "stages.first.beta=0.3")
    labels = trainer.train_dataset["label"]
    weight = sum(labels) / (len(labels) - sum(labels))  # n_desirable / n_undesirable, as in the paper's code
    assert trainer.undesirable_weight == pytest.approx(weight)
    batch = trainer.data_collator([trainer.train_dataset[index] for index in range(8)])
    with torch.no_grad(), scoring_completions_only():
        loss = float(trainer.compute_loss(trainer.model.eval(), batch))
        ratios = sequence_logps(trainer.model, batch) - batch["ref_logps"]
        kl = float((sequence_logps(trainer.model, batch, "KL_") - batch["ref_KL_logps"]).mean().clamp(min=0))
    values = [
        1 / (1 + math.exp(-0.3 * (ratio - kl))) if label else 1 / (1 + math.exp(-0.3 * (kl - ratio)))
        for ratio, label in zip(ratios.tolist(), batch["label"], strict=True)
    ]
    by_hand = sum((1 if label else weight) * (1 - value) for value, label in zip(values, batch["label"], strict=True))
    assert loss == pytest.approx(by_hand / len(values), abs=1e-4)


def test_scoring_only_completions_changes_no_loss(outputs: Path, tmp_path: Path) -> None:
    trainer = perturbed_trainer(outputs, tmp_path)
    batch = trainer.data_collator([trainer.train_dataset[index] for index in range(4)])
    with torch.no_grad():
        everywhere = float(trainer.compute_loss(trainer.model.eval(), batch))
        with scoring_completions_only():
            only = float(trainer.compute_loss(trainer.model.eval(), batch))
    assert only == pytest.approx(everywhere, abs=1e-5)


def test_kto_never_takes_the_neighbour_of_the_same_prompt_for_its_kl(outputs: Path, tmp_path: Path) -> None:
    trainer = perturbed_trainer(outputs, tmp_path, "objective=kto")
    prompts = [row["prompt"][0]["content"] for row in trainer.train_dataset]
    together = sum(a == b for a, b in itertools.pairwise(prompts))
    assert together < len(prompts) / 8  # in the order of the file every second pair is


def test_losses_are_what_the_configuration_says(outputs: Path, tmp_path: Path) -> None:
    overrides = ["stages.first.loss.loss_type=robust", "stages.first.loss.label_smoothing=0.1"]
    trainer = perturbed_trainer(outputs, tmp_path, *overrides)
    assert (trainer.loss_types, trainer.label_smoothing, trainer.beta) == (["robust"], 0.1, 0.1)
