"""mergekit's linear merge: exact weights, exact ends, and a policy that loads."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import train_run, write_criterion, write_pairs

from sacpo_exp.method.criteria import Criterion
from sacpo_exp.method.policy import read_policy
from sacpo_exp.pipeline import merge
from sacpo_exp.plan import LINEAGE, policy_of_spec
from sacpo_exp.store.manifest import hash_file
from sacpo_exp.training.merging import merge_policies, stored_dtype
from sacpo_exp.training.models import Location, load_policy, load_tokenizer

#: Of three products and two sums in float32.
ROUNDING = 3e-7


@pytest.mark.parametrize(("ratio", "parent"), [(0, 1), (1, 2)])
def test_the_ends_are_the_parents_bit_for_bit(outputs: Path, ratio: int, parent: int) -> None:
    run = train_run(outputs, f"merge_ratio={ratio}")
    expected = run.store.path(run.plan.stages[parent].artifact) / "model.safetensors"
    assert hash_file(merge(run) / "model.safetensors") == hash_file(expected)


@pytest.fixture
def third(tmp_path: Path) -> list[str]:
    """Overrides for a stage about a criterion of the user's own, after the two of the paper, with data of its own."""
    overrides = [write_criterion(tmp_path / "conf", "honesty"), "criterion=[helpfulness,safety,honesty]"]
    overrides += ["dataset@stages.honesty.dataset=local", "stages.honesty.dataset.criterion=honesty"]
    for key, part, count in (("path", "train", 16), ("heldout_path", "heldout", 8)):
        path = tmp_path / f"{part}.jsonl"
        write_pairs(path, part, count, Criterion("honesty", preferred="safer_response_id"))
        overrides.append(f"stages.honesty.dataset.{key}={path}")
    return overrides


@pytest.mark.parametrize("method", ["linear", "naive"])
def test_a_merge_is_the_weighted_average_in_float32(outputs: Path, third: list[str], method: str) -> None:
    run = train_run(outputs, *third, f"merge={method}", "merge_weights=[0.2,0.3,0.5]")
    assert run.plan.merge is not None
    stages = [stage.artifact for stage in run.plan.stages[1:]]
    values = [load_file(run.store.path(spec) / "model.safetensors") for spec in stages]
    for name, value in load_file(merge(run) / "model.safetensors").items():
        expected = sum(weight * each[name].double() for weight, each in zip((0.2, 0.3, 0.5), values, strict=True))
        torch.testing.assert_close(value.double(), expected, rtol=ROUNDING, atol=1e-7)
        assert value.dtype == torch.float32
    stored = read_policy(run.store.manifest(run.plan.merge.artifact).labels[LINEAGE])
    assert (stored, stored.weights) == (policy_of_spec(run.plan.merge.artifact), (0.2, 0.3, 0.5))


def test_a_merged_policy_loads_with_tokenizer_template_and_generation_config(outputs: Path) -> None:
    run = train_run(outputs, "merge_ratio=0.25")
    location = Location(str(merge(run)))
    assert load_policy(location, "float32").generation_config.eos_token_id is not None
    said = load_tokenizer(location, None).apply_chat_template([{"role": "user", "content": "Hello"}], tokenize=False)
    assert "<|im_start|>user\nHello<|im_end|>" in said


def test_a_merge_is_computed_in_float32_and_stored_in_the_parents_dtype(outputs: Path, tmp_path: Path) -> None:
    run = train_run(outputs)
    parents = []
    for stage in run.plan.stages[1:]:
        source, folder = run.store.path(stage.artifact), tmp_path / stage.name
        load_policy(Location(str(source)), "bfloat16").save_pretrained(folder)
        parents.append(folder)
    target = tmp_path / "merged"
    target.mkdir()
    merge_policies(parents, (0.5, 0.5), target)
    first, second = (load_file(folder / "model.safetensors") for folder in parents)
    for name, value in load_file(target / "model.safetensors").items():
        assert value.dtype == torch.bfloat16
        assert torch.equal(value, (0.5 * first[name].float() + 0.5 * second[name].float()).bfloat16())
    assert stored_dtype(parents[0]) == "bfloat16"
