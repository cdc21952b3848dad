"""Supervised fine-tuning without padding gives the same weights; packed rows are another recipe."""

from pathlib import Path

import pytest
import torch
from tiny import make_run, read_losses
from transformers import AutoModelForCausalLM

from sacpo_exp.pipeline import train_policies

ONLY_SFT = ("order=none", "hardware=cpu")


def test_rows_end_to_end_train_as_padded_ones_do(outputs: Path, tmp_path: Path) -> None:
    padded, free = make_run(outputs, *ONLY_SFT), make_run(tmp_path, *ONLY_SFT, "hardware.padding_free=true")
    train_policies(padded)
    train_policies(free)
    assert free.plan.stages[0].artifact == padded.plan.stages[0].artifact
    assert read_losses(free) == pytest.approx(read_losses(padded), abs=1e-5)
    folders = [run.store.path(run.plan.stages[0].artifact) for run in (padded, free)]
    expected, found = (AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in folders)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-5)


def test_packed_rows_are_another_recipe_of_fewer_updates(outputs: Path, tmp_path: Path) -> None:
    plain = make_run(outputs, *ONLY_SFT, "stages.sft.num_train_epochs=1")
    packed = make_run(tmp_path, *ONLY_SFT, "stages.sft.num_train_epochs=1", "++stages.sft.trainer.packing=true")
    train_policies(plain)
    train_policies(packed)
    assert packed.plan.stages[0].artifact.recipe["trainer"] == {"packing": True}
    assert packed.plan.stages[0].artifact != plain.plan.stages[0].artifact
    assert 0 < len(read_losses(packed)) < len(read_losses(plain))
