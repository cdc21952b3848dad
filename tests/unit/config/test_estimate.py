"""The plan of a 7B model, by hand: bytes per parameter as in Rajbhandari et al. 2020, section 3."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sacpo_exp.config.hardware import Offload
from sacpo_exp.config.memory import MemoryPlan, pass_of, plan_stage
from sacpo_exp.config.models import AdapterConfig, FloatType

Configure = Callable[..., Any]

P = 6_738_423_808
GIB = 2**30
#: DeepSpeed's buckets: half a billion gradients; for ZeRO 3 also a billion weights at work and fifty million to come.
BUCKET, GATHERED = 0.5e9 * 2 / GIB, 1.05e9 * 2 / GIB


HOST = {"offload_optimizer": Offload.cpu, "offload_param": Offload.cpu}


def plan_of(
    configure: Configure, stage: str = "helpfulness", optimization: dict[str, Any] | None = None, **hardware: Any
) -> MemoryPlan:
    """The plan of the paper's configuration on one A100 with these changes."""
    config = configure("model=alpaca_7b", "optimization=paper", "hardware=a100x1")
    config = replace(
        config,
        hardware=replace(config.hardware, **hardware),
        optimization=replace(config.optimization, **(optimization or {})),
    )
    return plan_stage(config, config.stages[stage], config.model.shape)


#: Changes; bytes per parameter of weights, gradients and optimizer, and GiB of buffers.
CASES: dict[str, tuple[dict[str, Any], tuple[float, float, float, float]]] = {
    "one": ({}, (2, 2, 4, 0)),
    "one, ZeRO 1": ({"zero_stage": 1}, (2, 2, 12, BUCKET)),
    "eight": ({"processes": 8}, (2, 2, 4, P * 2 / GIB)),
    "eight, ZeRO 1": ({"processes": 8, "zero_stage": 1}, (2, 2, 12 / 8, BUCKET)),
    "eight, ZeRO 2": ({"processes": 8, "zero_stage": 2}, (2, 2 / 8, 12 / 8, BUCKET)),
    "eight, ZeRO 3": ({"processes": 8, "zero_stage": 3}, (2 / 8, 2 / 8, 12 / 8, BUCKET + GATHERED)),
    "optimizer on the host": (
        {"processes": 8, "zero_stage": 3, "offload_optimizer": Offload.cpu},
        (2 / 8, 0, 0, BUCKET + GATHERED),
    ),
    "all on the host": ({"processes": 8, "zero_stage": 3, **HOST}, (0, 0, 0, BUCKET + GATHERED)),
    "float32": ({"optimization": {"dtype": FloatType.float32}}, (4, 4, 8, 0)),
    "float32 under autocast, which DeepSpeed casts": (
        {"zero_stage": 2, "optimization": {"dtype": FloatType.float32, "autocast": FloatType.bfloat16}},
        (2, 2, 12, BUCKET),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_states_are_bytes_per_parameter_shared_out(configure: Configure, case: str) -> None:
    changes, (weights, gradients, optimizer, buffers) = CASES[case]
    plan = plan_of(configure, **changes)
    found = (plan.weights, plan.gradients, plan.optimizer, plan.buffers)
    assert found == pytest.approx((weights * P / GIB, gradients * P / GIB, optimizer * P / GIB, buffers))
    assert plan.reference == 0
    assert plan.growth == pytest.approx(sum(found) + plan.activations)


def test_a_lora_has_gradients_and_optimizer_of_its_own_parameters_only(configure: Configure) -> None:
    config = configure("model=alpaca_7b", "optimization=paper", "hardware=a100x1")
    adapter = AdapterConfig("lora", 16, 32, 0.0, ["q_proj", "v_proj"], False)
    trained = 32 * 16 * 2 * (4096 + 4096)
    plan = plan_stage(replace(config, adapter=adapter), config.stages["helpfulness"], config.model.shape)
    found = (plan.weights, plan.gradients, plan.optimizer)
    assert found == pytest.approx([(2 * P + 4 * trained) / GIB, 4 * trained / GIB, 8 * trained / GIB])
    quantised = replace(config, adapter=replace(adapter, quantize=True))
    linear = 32 * (4 * 4096**2 + 3 * 4096 * 11008)
    expected = (0.53 * linear + 2 * (P - linear) + 4 * trained) / GIB
    assert plan_stage(quantised, config.stages["helpfulness"], config.model.shape).weights == pytest.approx(expected)


def test_the_paper_s_activations_by_hand(configure: Configure) -> None:
    tokens, width, inner = 16 * 2 * 512, 4096, 11008
    layer = 2 * (4 * width + 2 * width + 4) + 4 * width + 8 * width + 4 * 32 + 2 * 512 + 8 * inner
    inputs = 32 * 2 * width
    head = 6 * 32001 * width + 6 * tokens * width + 2 * 4096 * 32001
    assert plan_of(configure).activations * GIB == tokens * (layer + inputs) + head


def test_what_is_offloaded_is_on_the_host_or_on_disk(configure: Configure) -> None:
    eight: dict[str, Any] = {"processes": 8, "zero_stage": 3}
    # float32 copy, two moments and a gradient; weights in 16 bits
    assert plan_of(configure, **eight, **HOST).host == pytest.approx(8 * 0.6 + (16 + 2) * P / GIB)
    on_disk = plan_of(configure, **eight, offload_optimizer=Offload.nvme, offload_param=Offload.nvme)
    assert on_disk.disk == pytest.approx((16 + 2) * P / GIB)
    # every rank reads the whole model before it is shared out
    assert on_disk.host == pytest.approx(8 * (0.6 + 2 * P / GIB))


@pytest.mark.parametrize(
    ("stage", "objective", "rows"), [("sft", "dpo", 16), ("helpfulness", "dpo", 32), ("helpfulness", "kto", 16)]
)
def test_dpo_sees_two_sequences_per_row(configure: Configure, stage: str, objective: str, rows: int) -> None:
    config = configure("model=alpaca_7b", "optimization=paper", "hardware=a100x1", f"objective={objective}")
    assert pass_of(config, config.stages[stage]).rows == rows
