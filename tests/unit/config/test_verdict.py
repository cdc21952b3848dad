"""Whether a stage fits, what is said if not, and what would do."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sacpo_exp.config.hardware import Machine, Offload
from sacpo_exp.config.memory import describe_memory, draw_table, find_misfit, find_remedies, fits, room, worst_stage
from sacpo_exp.config.schema import RunConfig

Configure = Callable[..., Any]

PAPER = ("model=alpaca_7b", "optimization=paper", "hardware=a100x8")
SMALL = {"zero_stage": 2, "device_memory": 24.0}


def on(config: RunConfig, **changes: Any) -> RunConfig:
    """The same run on changed hardware."""
    return replace(config, hardware=replace(config.hardware, **changes))


@pytest.fixture
def paper(configure: Configure) -> RunConfig:
    config: RunConfig = configure(*PAPER)
    return config


@pytest.fixture
def embedded(configure: Configure) -> RunConfig:
    config: RunConfig = configure("model=smollm2_135m")
    return config


def test_what_can_t_fit_is_one_sentence_with_figures_and_a_remedy(paper: RunConfig) -> None:
    assert find_misfit(on(paper, **SMALL)) == (
        "the helpfulness stage needs 33.7 GiB per device (weights 12.6, gradients 1.6, optimizer 9.4, activations 8.2, "
        "buffers 0.9, runtime 1.0), but hardware=a100x8 has 24.0. Try: "
        "hardware.zero_stage=2 hardware.offload_optimizer=cpu, or force=true"
    )


def test_the_remedy_of_the_sentence_is_one(paper: RunConfig) -> None:
    assert find_misfit(on(paper, **SMALL, offload_optimizer=Offload.cpu)) is None


def test_a_larger_machine_needs_no_word(paper: RunConfig) -> None:
    assert find_misfit(paper) is None


def test_only_the_stages_that_are_named_count(paper: RunConfig) -> None:
    config = on(paper, zero_stage=2, device_memory=32.0)
    assert worst_stage(config, ["sft", "helpfulness", "safety"])[0] == "helpfulness"  # type: ignore[index]
    assert find_misfit(config, ["helpfulness"]) is not None
    assert find_misfit(config, ["sft"]) is None  # one sequence per row
    assert find_misfit(config, []) is None


def test_of_an_unknown_shape_nothing_can_be_said(embedded: RunConfig) -> None:
    config = replace(on(embedded, device_memory=0.01), model=replace(embedded.model, shape=None))
    assert find_misfit(config) is None
    assert describe_memory(config, "helpfulness").startswith(
        "No memory plan can be made: the shape of model=smollm2_135m is not known. Try: hardware."
    )
    (line,) = draw_table(config, ["helpfulness"], [], Machine(16))
    assert line == "no memory plan: the shape of model=smollm2_135m is not known. `model.shape` can say it."


def test_processes_on_cpus_share_one_memory(embedded: RunConfig) -> None:
    one, two = embedded.hardware, replace(embedded.hardware, processes=2)
    assert room(one, Machine(16)) == 16
    assert room(two, Machine(16)) == 8
    assert room(one, Machine(None)) is None
    config = on(embedded, processes=2, device_memory=5.0)
    assert "but this machine has 2.5 for each of 2 processes" in (find_misfit(config) or "")


def test_a_gpu_of_unknown_size_is_no_reason_to_refuse(paper: RunConfig) -> None:
    config = on(paper, processes=1, zero_stage=0, device_memory=None)
    found = worst_stage(config)
    assert found is not None
    assert [fits(found[1], config.hardware, machine) for machine in (Machine(64), Machine(64, (None,)))] == [None, None]
    assert fits(found[1], config.hardware, Machine(64, (24.0,))) is False


def test_what_is_offloaded_has_to_fit_on_the_host(paper: RunConfig) -> None:
    config = on(paper, processes=1, zero_stage=2, offload_optimizer=Offload.cpu)
    found = worst_stage(config)
    assert found is not None
    assert found[1].host > 100
    assert fits(found[1], config.hardware, Machine(64, (80.0,))) is False
    assert fits(found[1], config.hardware, Machine(256, (80.0,))) is True


def test_out_of_memory_names_figures_and_something_that_needs_less(paper: RunConfig) -> None:
    said = describe_memory(on(paper, activation_checkpointing=False), "safety")
    assert said.startswith("The memory plan has ")
    assert "activations " in said
    assert said.endswith("Try: hardware.activation_checkpointing=true")


@pytest.mark.parametrize(
    "overrides", [(*PAPER, "hardware.device_memory=20"), ("model=smollm2_135m", "hardware.device_memory=4")]
)
def test_every_remedy_really_fits(configure: Configure, overrides: tuple[str, ...]) -> None:
    remedies = list(find_remedies(configure(*overrides), Machine(512, (20.0,) * 8)))[:3]
    assert remedies
    for remedy in remedies:
        assert find_misfit(configure(*overrides, *remedy.split())) is None


def test_the_table_begins_with_this_hardware(paper: RunConfig) -> None:
    other = replace(paper.hardware, name="a100x1", processes=1, zero_stage=0)
    head, names, first, *rest = draw_table(paper, ["sft", "helpfulness"], [other, paper.hardware], Machine(64))
    assert head == (
        "memory plan of the helpfulness stage, GiB per device: 6,738 M parameters, 32 sequences of 512 tokens in one "
        "pass"
    )
    assert names.split()[:4] == ["hardware", "weights", "gradients", "optimizer"]
    assert first.startswith("  > a100x8: 8 × ZeRO 3 ")
    assert first.endswith("  yes, of 80.0")
    titles = [line[4:46].strip() for line in rest[:-1]]
    assert titles == [
        "a100x8: 8 × ZeRO 2",
        "a100x8: 8 × ZeRO 2, optimizer on the host",
        "a100x8: 8 × ZeRO 3, optimizer on the host",
        "a100x8: 8 × ZeRO 3, all on the host",
        "a100x1: 1 × ZeRO 0",
    ]
