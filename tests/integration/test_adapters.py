"""LoRA and QLoRA on the tiny model, through the real trainers: what is trained, what is stored, what is referred to."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from test_losses import make_trainer
from test_resume import kill_second_stage
from tiny import make_run, read_lines, train_run

from sacpo_exp.cluster.memory import count_adapter
from sacpo_exp.config.models import ModelShape
from sacpo_exp.errors import ConfigError
from sacpo_exp.pipeline import locate
from sacpo_exp.training.models import Location, load_policy

LORA = ["base=none", "adapter=lora", "adapter.r=4", "adapter.lora_alpha=12"]
LORA += ["stages.helpfulness.learning_rate=1e-2"]  # so that policies differ visibly
QLORA = ["base=none", "adapter=qlora", "adapter.r=4", "adapter.lora_alpha=12"]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def merged_by_hand(parent: Path, stage: Path) -> dict[str, torch.Tensor]:
    """parent + (alpha / r) · B · A in float64, from the files."""
    settings = json.loads((stage / "adapter" / "adapter_config.json").read_text())
    adapter, expected = load_file(stage / "adapter" / "adapter_model.safetensors"), weights(parent)
    for name in [name for name in adapter if name.endswith("lora_A.weight")]:
        a, b = adapter[name].double(), adapter[name.replace("lora_A", "lora_B")].double()
        below = name.removeprefix("base_model.model.").replace(".lora_A", "")
        expected[below] = expected[below].double() + settings["lora_alpha"] / settings["r"] * b @ a
    return expected


def completion_log_probs(policy: Any, row: dict[str, Any], response: str) -> float:
    """log π(response | prompt), by hand, without padding."""
    ids = torch.tensor([[*row["prompt_ids"], *row[f"{response}_ids"]]])
    with torch.no_grad():
        said = policy(ids).logits[0, :-1].double().log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
    return float(said[len(row["prompt_ids"]) - 1 :].sum())


ADAPTED = [("dpo", LORA), ("kto", [*QLORA, "order=helpful_only"])]


@pytest.mark.parametrize(("objective", "adapter"), [*ADAPTED, pytest.param("dpo", QLORA, marks=pytest.mark.slow)])
def test_a_stage_is_its_parent_plus_its_adapter(outputs: Path, objective: str, adapter: list[str]) -> None:
    run = train_run(outputs, f"objective={objective}", *adapter)
    for stage in run.plan.stages:
        parent, folder = Path(locate(run, stage.parent).path), run.store.path(stage.artifact)
        expected, found = merged_by_hand(parent, folder), weights(folder)
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-7, check_dtype=False)
        before = weights(parent)
        moved = {name for name in found if not torch.equal(before[name], found[name])}
        assert moved == {name for name in found if "_proj" in name}  # every linear layer, and nothing else
        policy = load_policy(Location(str(folder)), "float32")  # as any program would
        assert not any("lora" in name for name, _ in policy.named_parameters())
        for file in folder.rglob("*"):
            assert file.suffix not in (".bin", ".pt", ".md"), file
            assert file.suffix != ".json" or str(outputs) not in file.read_text("utf-8"), file
        if objective == "dpo" and stage.config.criterion is not None:
            assert read_lines(folder / "metrics.jsonl")[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)


def test_the_second_stage_s_reference_is_base_plus_first_adapter(outputs: Path, tmp_path: Path) -> None:
    """peft puts the stored first adapter on the base; the second stage refers to the log-probabilities of that."""
    from peft import PeftModel

    run = train_run(outputs, "objective=dpo", *LORA)
    first, second = run.plan.stages
    trainer = make_trainer(run, second, tmp_path)
    alone = load_policy(locate(run, run.plan.model), "float32")
    without = completion_log_probs(alone, trainer.train_dataset[0], "chosen")
    adapted = PeftModel.from_pretrained(alone, run.store.path(first.artifact) / "adapter").eval()
    for row in list(trainer.train_dataset)[:4]:
        for response in ("chosen", "rejected"):
            expected = completion_log_probs(adapted, row, response)
            assert row[f"ref_{response}_logps"] == pytest.approx(expected, abs=1e-3)
    assert abs(trainer.train_dataset[0]["ref_chosen_logps"] - without) > 0.05


@pytest.mark.parametrize("adapter", [LORA, QLORA], ids=["lora", "qlora"])
def test_the_adapter_alone_is_trained_in_float32(outputs: Path, tmp_path: Path, adapter: list[str]) -> None:
    run = make_run(outputs, "order=helpful_only", *adapter, "adapter.lora_dropout=0.25")
    trainer = make_trainer(run, run.plan.stages[0], tmp_path)
    trained = {name: value for name, value in trainer.model.named_parameters() if value.requires_grad}
    assert all("lora_" in name and value.dtype == torch.float32 for name, value in trained.items())
    assert {each.p for each in trainer.model.modules() if isinstance(each, torch.nn.Dropout)} == {0.25}
    assert isinstance(run.config.model.shape, ModelShape)
    assert run.config.adapter is not None
    expected, _ = trainer.model.get_nb_trainable_parameters()
    assert count_adapter(run.config.model.shape, run.config.adapter) == expected
    quantised = [name for name, value in trainer.model.named_parameters() if value.dtype == torch.uint8]
    assert len(quantised) == (7 * run.config.model.shape.num_hidden_layers if run.config.adapter.quantize else 0)


@pytest.mark.slow
def test_a_killed_stage_goes_on_and_ends_with_the_same_weights(
    outputs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    slow = ("stages.safety.num_train_epochs=8", "stages.safety.global_batch_size=4", "adapter.lora_dropout=0.1")
    run = kill_second_stage(outputs, tmp_path, caplog, *QLORA, *slow)
    assert (run.store.path(run.plan.stages[-1].artifact) / "adapter" / "adapter_model.safetensors").is_file()


def test_a_layer_that_the_model_lacks_is_named(outputs: Path, tmp_path: Path) -> None:
    run = make_run(outputs, "base=none", "order=helpful_only", "adapter=lora", "adapter.target_modules=[c_attn]")
    with pytest.raises(ConfigError, match="names c_attn, but the model's linear layers are down_proj"):
        make_trainer(run, run.plan.stages[0], tmp_path)
