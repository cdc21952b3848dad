"""Real TRL trainers on the tiny model: both losses, both criteria, both stages, both orders."""

import math
import shutil
from pathlib import Path

import pytest
import torch
from damage import overwrite
from safetensors.torch import load_file
from tiny import make_run, read_losses, train_run, write_lines
from transformers import AutoModelForCausalLM

from sacpo_exp.data.demo import generate_rows
from sacpo_exp.errors import DataError, StoreError
from sacpo_exp.pipeline import Run, locate, prepare, train_policies
from sacpo_exp.store.manifest import hash_file


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_a_plan_trains_and_every_parameter_moves(outputs: Path) -> None:
    run = train_run(outputs)
    for stage in run.plan.stages:
        before = weights(Path(locate(run, stage.parent).path))
        after = weights(run.store.path(stage.artifact))
        still = [name for name in after if torch.equal(before[name], after[name])]
        assert not still, (stage.name, still)
        for path in run.store.path(stage.artifact).rglob("*.*"):  # plain weights, and nothing of this machine
            assert path.suffix not in (".bin", ".pt"), path
            assert "json" not in path.suffix or str(outputs) not in path.read_text("utf-8"), path
    assert read_losses(run, -1)[0] == pytest.approx(math.log(2), abs=1e-4)
    metrics = run.store.manifest(run.plan.stages[-1].artifact).metrics
    assert {"heldout/loss", "heldout/rewards/accuracies", "heldout/rewards/margins", "train/updates"} <= set(metrics)


def files(run: Run) -> dict[str, tuple[str, int]]:
    """Hash and mode of everything stored."""
    found = [path for path in run.store.root.rglob("*") if path.is_file() and ".locks" not in path.parts]
    return {str(path.relative_to(run.store.root)): (hash_file(path), path.stat().st_mode & 0o777) for path in found}


def test_finished_artifacts_are_not_written_into(tmp_path: Path) -> None:
    """A sweep over β reads data, parent and the reference's log-probabilities as the first run left them."""
    first = train_run(tmp_path, "base=none", "objective=dpo_then_kto")
    before = files(first)
    assert {mode for _, mode in before.values()} == {0o444}
    listed = {f"{folder.relative_to(first.store.root)}/{name}" for folder, manifest in first.store.manifests()
              for name in (*manifest.files, "manifest.json")}  # fmt: skip
    assert set(before) == listed

    second = train_run(tmp_path, "base=none", "objective=dpo_then_kto", "beta=0.3")
    assert len([name for name in before if name.startswith("reference/")]) == 6  # two splits and a manifest, twice
    after = files(second)
    assert {name: after[name] for name in before} == before
    assert {name.split("/")[0] for name in set(after) - set(before)} == {"stage"}


def test_stored_log_probabilities_of_the_reference_give_the_same_weights(tmp_path: Path) -> None:
    """And damaged ones are not used."""
    overrides = ("base=none", "order=helpful_only", "objective=kto")
    train_run(tmp_path, *overrides, "stages.helpfulness.beta=0.3")
    run = train_run(tmp_path, *overrides)
    (reference,) = (run.store.root / "reference").iterdir()
    folder = run.store.path(run.plan.stages[0].artifact)
    reused = hash_file(folder / "model.safetensors")
    for path in (folder, reference):
        shutil.rmtree(path)
    train_run(tmp_path, *overrides)
    assert hash_file(folder / "model.safetensors") == reused

    shutil.rmtree(folder)
    damaged = reference / "train.arrow"
    overwrite(damaged, damaged.read_bytes()[:-8] + b"damaged!")
    with pytest.raises(StoreError, match=r"is damaged: train.arrow has another content"):
        train_run(tmp_path, *overrides)


def test_fewer_rows_than_a_batch_are_refused_with_a_batch_that_fits(tmp_path: Path) -> None:
    rows = write_lines(tmp_path / "rows.jsonl", generate_rows("train", 0)[:5])
    small = ["dataset=local", f"dataset.path={rows}", f"dataset.heldout_path={rows}", "order=helpful_only", "base=none"]
    with pytest.raises(DataError, match=r"5 rows are fewer than .* Try: stages\.helpfulness\.global_batch_size=4"):
        make_run(tmp_path, *small)
    run = make_run(tmp_path, *small, "stages.helpfulness.global_batch_size=4")
    prepare(run, run.plan.stages[0])
    with pytest.raises(DataError, match=r"5 rows are fewer than"):  # also where the view is stored
        make_run(tmp_path, *small)


def test_labels_that_are_all_alike_are_refused(tmp_path: Path) -> None:
    rows = [row | {"is_response_0_safe": True, "is_response_1_safe": True} for row in generate_rows("train", 0)[:16]]
    path = write_lines(tmp_path / "rows.jsonl", rows)
    safe = ["dataset=local", f"dataset.path={path}", f"dataset.heldout_path={path}", "order=safety_only", "base=none"]
    make_run(tmp_path, *safe)  # as pairs they differ
    with pytest.raises(DataError, match=r"none of the 32 is undesirable. Try: objective=dpo"):
        make_run(tmp_path, *safe, "objective=kto")


ONLY_SFT = ("order=none", "hardware=cpu")


def test_rows_end_to_end_train_as_padded_ones_do(outputs: Path, tmp_path: Path) -> None:
    padded, free = make_run(outputs, *ONLY_SFT), make_run(tmp_path, *ONLY_SFT, "hardware.padding_free=true")
    train_policies(padded)
    train_policies(free)
    assert free.plan.stages[0].artifact == padded.plan.stages[0].artifact
    assert read_losses(free) == pytest.approx(read_losses(padded), abs=1e-5)
    folders = [run.store.path(run.plan.stages[0].artifact) for run in (padded, free)]
    expected, found = (AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in folders)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_packed_rows_are_another_recipe_of_fewer_updates(outputs: Path, tmp_path: Path) -> None:
    plain = make_run(outputs, *ONLY_SFT, "stages.sft.num_train_epochs=1")
    packed = make_run(tmp_path, *ONLY_SFT, "stages.sft.num_train_epochs=1", "++stages.sft.trainer.packing=true")
    train_policies(plain)
    train_policies(packed)
    assert packed.plan.stages[0].artifact.recipe["trainer"] == {"packing": True}
    assert packed.plan.stages[0].artifact != plain.plan.stages[0].artifact
    assert 0 < len(read_losses(packed)) < len(read_losses(plain))
