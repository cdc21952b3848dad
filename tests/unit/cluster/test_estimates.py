"""The estimates of memory and disk by hand and against what torch saves, and the sentences about what does not fit."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sacpo_exp.cluster import disk, memory
from sacpo_exp.cluster.automatic import find_misfit
from sacpo_exp.cluster.memory import MemoryPlan
from sacpo_exp.config.hardware import GIB, Gpu, Machine, Offload
from sacpo_exp.config.models import AdapterConfig, FloatType, ModelConfig, ModelShape, ModelSource
from sacpo_exp.config.schema import RunConfig
from sacpo_exp.errors import ConfigError
from sacpo_exp.pipeline import open_run
from sacpo_exp.reporting.planning import check_run, print_plan

SHAPE = ModelShape(32001, 4096, 11008, 32, 32, 32, 2048, False)
P = 6_738_423_808
#: GiB of DeepSpeed's buckets: half a billion gradients; for ZeRO 3 also 1.05 billion weights in 16 bits.
BUCKET, GATHERED = 0.5e9 * 2 / GIB, 1.05e9 * 2 / GIB
HOST = {"offload_optimizer": Offload.cpu, "offload_param": Offload.cpu}
#: Changes; bytes per parameter of weights, gradients and optimizer, and GiB of buffers.
CASES: dict[str, tuple[dict[str, Any], tuple[float, float, float, float]]] = {
    "one": ({}, (2, 2, 4, 0)),
    "one, ZeRO 1": ({"zero_stage": 1}, (2, 2, 12, BUCKET)),
    "eight": ({"processes": 8}, (2, 2, 4, P * 2 / GIB)),
    "eight, ZeRO 2": ({"processes": 8, "zero_stage": 2}, (2, 2 / 8, 12 / 8, BUCKET)),
    "eight, ZeRO 3": ({"processes": 8, "zero_stage": 3}, (2 / 8, 2 / 8, 12 / 8, BUCKET + GATHERED)),
    "all on the host": ({"processes": 8, "zero_stage": 3, **HOST}, (0, 0, 0, BUCKET + GATHERED)),
    "float32": ({"dtype": FloatType.float32}, (4, 4, 8, 0)),
    "autocast": ({"zero_stage": 2, "dtype": FloatType.float32, "autocast": FloatType.bfloat16}, (2, 2, 12, BUCKET)),
}


@pytest.fixture
def paper(configure: Any) -> RunConfig:
    config: RunConfig = configure("model=alpaca_7b", "optimization=paper", "hardware=a100x8")
    return config


def on(config: RunConfig, **changes: Any) -> RunConfig:
    """The same run on changed hardware or with other float types."""
    types = {key: changes.pop(key) for key in ("dtype", "autocast") if key in changes}
    optimization, hardware = replace(config.optimization, **types), replace(config.hardware, **changes)
    return replace(config, hardware=hardware, optimization=optimization)


def plan_of(config: RunConfig) -> MemoryPlan:
    return memory.plan_stage(config, config.stages["helpfulness"], SHAPE)


@pytest.mark.parametrize("case", CASES)
def test_states_are_bytes_per_parameter_divided_by_zero(paper: RunConfig, case: str) -> None:
    changes, (weights, gradients, optimizer, buffers) = CASES[case]
    plan = plan_of(on(paper, **{"processes": 1, "zero_stage": 0} | changes))
    found = (plan.weights, plan.gradients, plan.optimizer, plan.buffers)
    assert found == pytest.approx((weights * P / GIB, gradients * P / GIB, optimizer * P / GIB, buffers))
    states = plan.weights + plan.gradients + plan.optimizer + plan.runtime
    assert plan.total == pytest.approx(states + max(plan.activations + plan.buffers, plan.update))


def test_an_update_of_zero_takes_its_gradients_again(paper: RunConfig) -> None:
    for changes, expected in (
        ({"processes": 1, "zero_stage": 0}, 0),
        ({"zero_stage": 1}, 6 * P / 8),  # the gradients joined, and in float32
        ({"zero_stage": 2, "dtype": FloatType.float32}, 4 * P / 8),
        ({"processes": 1, "zero_stage": 3}, 6 * 1e9),  # so many parameters at a time
        ({"zero_stage": 2, "offload_optimizer": Offload.cpu}, 0),
    ):
        config = on(paper, **changes)
        plan = plan_of(config)
        assert plan.update * GIB == pytest.approx(expected)
        text = memory.describe_needs(config, "helpfulness", plan, Machine(64))
        assert ("update " in text) == (plan.activations + plan.buffers < plan.update)


def test_what_is_offloaded_is_on_the_host(paper: RunConfig) -> None:
    # a float32 copy, two moments and a gradient; weights in 16 bits
    assert plan_of(on(paper, **HOST)).host == pytest.approx(8 * 0.6 + (16 + 2) * P / GIB)


def test_an_adapter_has_gradients_and_optimizer_of_its_own_parameters_only(paper: RunConfig) -> None:
    config = on(paper, processes=1, zero_stage=0)
    adapter = AdapterConfig("lora", 16, 32, 0.0, ["q_proj", "v_proj"], False)
    trained = 32 * 16 * 2 * (4096 + 4096)
    plan = plan_of(replace(config, adapter=adapter))
    found = (plan.weights, plan.gradients, plan.optimizer)
    assert found == pytest.approx([(2 * P + 4 * trained) / GIB, 4 * trained / GIB, 8 * trained / GIB])
    linear = 32 * (4 * 4096**2 + 3 * 4096 * 11008)
    expected = (0.53 * linear + 2 * (P - linear) + 4 * trained) / GIB
    assert plan_of(replace(config, adapter=replace(adapter, quantize=True))).weights == pytest.approx(expected)


@pytest.mark.parametrize(("weight", "compute"), memory.HIDDEN)
def test_a_layer_keeps_as_much_per_token_as_torch_saves(weight: int, compute: int) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    def count_saved(layers: int) -> int:
        """Bytes that the layers keep for the backward pass, without weights."""
        shape = ModelShape(100, 256, 800, layers, 4, 4, 64, True)
        model = LlamaForCausalLM(LlamaConfig(**vars(shape))).to({4: torch.float32, 2: torch.bfloat16}[weight]).train()
        weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        kept: dict[int, int] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
        with hooks, torch.autocast("cpu", torch.bfloat16, enabled=weight != compute):
            model.model(torch.zeros(2, 40, dtype=torch.long), use_cache=False)
        return sum(kept.values())

    copies = compute * (4 * 256**2 + 3 * 256 * 800) if weight != compute else 0
    expected = 80 * compute * (memory.HIDDEN[weight, compute] * 256 + memory.INTERMEDIATE * 800)
    assert (count_saved(4) - count_saved(2)) / 2 - copies == pytest.approx(expected, rel=0.02)


def test_dpo_sees_two_sequences_per_row_and_checkpointing_keeps_inputs_only(paper: RunConfig) -> None:
    sft, dpo = (memory.plan_stage(paper, paper.stages[name], SHAPE).activations for name in ("sft", "helpfulness"))
    assert sft < dpo < plan_of(on(paper, activation_checkpointing=False)).activations


GPT2 = {"vocab_size": 50257, "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024}


def test_a_shape_is_read_from_config_json(tmp_path: Path) -> None:
    model = ModelConfig("local", ModelSource.path, str(tmp_path))
    assert memory.find_shape(model) is None
    defaults = ("num_key_value_heads", "tie_word_embeddings")
    for content, expected in (
        (vars(SHAPE) | {"model_type": "llama"}, SHAPE),
        ({key: value for key, value in vars(SHAPE).items() if key not in defaults}, SHAPE),
        (GPT2, ModelShape(50257, 768, 3072, 12, 12, 12, 1024, False)),
        ({"n_embd": 768}, None),
    ):
        (tmp_path / "config.json").write_text(json.dumps(content))
        assert memory.find_shape(model) == expected


def test_parameters_are_those_of_the_files(tmp_path: Path) -> None:
    model = ModelConfig("local", ModelSource.path, str(tmp_path))
    (tmp_path / "model-00001-of-00002.safetensors").write_bytes(b"0" * 600)
    (tmp_path / "model-00002-of-00002.safetensors").write_bytes(b"0" * 400)
    (tmp_path / "consolidated.safetensors").write_bytes(b"0" * 1000)
    config = {"text_config": vars(SHAPE), "dtype": "bfloat16"}
    for content, expected in ((config, 500), (config | {"quantization_config": {}}, memory.count_parameters(SHAPE))):
        (tmp_path / "config.json").write_text(json.dumps(content))
        assert memory.find_shape(model) == SHAPE
        assert memory.model_parameters(model, SHAPE) == expected
    assert memory.model_parameters(replace(model, parameters=7), SHAPE) == 7


def test_what_can_t_fit_is_one_sentence_and_without_a_shape_there_is_no_plan(paper: RunConfig) -> None:
    small = on(paper, zero_stage=2, device_memory=24.0)
    sentence = find_misfit(small) or ""
    assert sentence.startswith("the helpfulness stage needs 33.")
    assert "GiB per device (weights 12.6, gradients 1.6, optimizer 9.4, activations 8." in sentence
    assert sentence.endswith("; hardware=a100x8 has 24.0. Try: hardware.offload_optimizer=cpu, or force=true")
    assert find_misfit(paper) is None
    text = memory.describe_plan(paper, ["sft", "helpfulness"])
    assert text.startswith("memory   the helpfulness stage needs 24.6")
    assert "; it fits (6,738 M parameters, 32 sequences of 512 tokens per pass)" in text
    config = replace(on(paper, device_memory=0.01), model=replace(paper.model, shape=None))
    assert find_misfit(config) is None
    assert "the shape of model=alpaca_7b is not known" in memory.describe_plan(config, ["helpfulness"])


def test_processes_on_cpus_share_one_memory(configure: Any) -> None:
    config = on(configure("model=smollm2_135m"), processes=2)
    assert (memory.room(config.hardware, Machine(16)), memory.room(config.hardware, Machine(None))) == (8, None)
    assert "; this machine has 2.5. Try" in (find_misfit(on(config, device_memory=5.0)) or "")


def test_a_plan_fits_the_device_and_the_host(paper: RunConfig) -> None:
    config = on(paper, processes=1, zero_stage=2, offload_optimizer=Offload.cpu, device_memory=None)
    _, plan = memory.worst_stage(config)
    sizes = ((256, 80.0, True), (64, 80.0, False), (256, 8.0, False), (256, None, None))  # GiB of the host and its GPU
    for host, gpu, fits in sizes:
        assert memory.fits(plan, config.hardware, Machine(host, (Gpu(gpu),))) is fits


REMEDIES = {
    "sharing": ["model=alpaca_7b", "optimization=paper", "hardware=a100x8", "hardware.device_memory=20"],
    "smaller batches": ["model=smollm2_135m", "hardware=cpu", "hardware.device_memory=4"],
    "checkpointing": ["model=smollm2_135m", "hardware=cpu", "optimization.max_length=2048", "hardware.device_memory=6"],
}


@pytest.mark.parametrize("overrides", REMEDIES.values(), ids=list(REMEDIES))
def test_the_remedy_fits(configure: Any, overrides: list[str]) -> None:
    remedy = (find_misfit(configure(*overrides)) or "").split("Try: ")[1].removesuffix(", or force=true")
    assert find_misfit(configure(*overrides, *remedy.split())) is None


#: Overrides, and bytes per parameter.
CHECKPOINTS: dict[str, tuple[list[str], float]] = {
    "ZeRO 3": (["hardware=a100x8"], 12),
    "ZeRO 2": (["hardware=a100x2"], 14),
    "without ZeRO": (["hardware=a100x1", "optimization.dtype=float32"], 12),
    "all in bfloat16": (["hardware=a100x8", "optimization.float32_copy=false"], 6),
    "an adapter": (["hardware=a100x1", "adapter=lora"], 12 * 32 * 16 * (4 * 8192 + 3 * (4096 + 11008)) / P),
}


@pytest.mark.parametrize("case", CHECKPOINTS)
def test_a_checkpoint_is_bytes_per_trained_parameter(configure: Any, case: str) -> None:
    overrides, expected = CHECKPOINTS[case]
    config: RunConfig = configure("model=alpaca_7b", *overrides)
    assert disk.checkpoint_bytes(config) == pytest.approx(expected * P)
    sizes = {FloatType.bfloat16: 2, FloatType.float32: 4}
    assert disk.policy_bytes(config) == P * sizes[config.optimization.dtype]


def test_the_time_to_stop_follows_from_size_and_write_speed(configure: Any, tmp_path: Path) -> None:
    config: RunConfig = configure("model=alpaca_7b", "hardware=a100x8", f"paths.outputs={tmp_path / 'new'}")
    assert disk.find_grace(configure("model=tiny")) == disk.LEAST
    seconds = disk.find_grace(config)
    speed = disk.measure_write_speed(tmp_path / "new")  # measured once
    assert seconds == round(disk.LEAST + 2 * 12 * P * (1 / speed + 1 / disk.HASHING / 8))
    assert disk.find_grace(replace(config, hardware=replace(config.hardware, grace_seconds=7))) == 7
    assert not list((tmp_path / "new").iterdir())


def test_a_disk_that_is_too_small_is_told(configure: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ("model=tiny", f"paths.outputs={tmp_path}", "model.shape.hidden_size=1048576", "hardware.device_memory=1e9")
    run = open_run(configure(*given))
    assert shutil.disk_usage(tmp_path).free < 1e13  # bytes: its weights take more
    with pytest.raises(ConfigError, match=r"policies to be made take \d+\.\d GB, .* force=true"):
        check_run(run)
    check_run(open_run(configure(*given, "force=true")))
    print_plan(run)
    assert "disk     3 policies to be made take " in capsys.readouterr().out
