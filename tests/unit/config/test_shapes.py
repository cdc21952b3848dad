"""Parameter counts against those of the real models, and shapes against configurations that models bring."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sacpo_exp.config.shapes import check_shape

from sacpo_exp.config.memory import count_adapter, count_parameters, find_shape
from sacpo_exp.config.models import AdapterConfig, ModelConfig, ModelShape, ModelSource
from sacpo_exp.errors import ConfigError

Configure = Callable[..., Any]

SHAPE = ModelShape(32001, 4096, 11008, 32, 32, 32, 2048, False)


@pytest.mark.parametrize(("model", "parameters"), [("alpaca_7b", 6_738_423_808), ("smollm2_135m", 134_515_008)])
def test_the_configured_shapes_have_the_parameters_of_the_real_models(
    configure: Configure, model: str, parameters: int
) -> None:
    assert count_parameters(configure(f"model={model}").model.shape) == parameters


def test_an_adapter_has_r_times_inputs_and_outputs_of_every_weight_it_adapts() -> None:
    adapter = AdapterConfig("lora", 8, 16, 0.0, ["q_proj", "down_proj"], False)
    assert count_adapter(SHAPE, adapter) == 32 * 8 * (4096 + 4096 + 11008 + 4096)
    everything = replace(adapter, target_modules=["all-linear"])
    assert count_adapter(SHAPE, everything) == 32 * 8 * (4 * 8192 + 3 * (4096 + 11008))


def test_the_shape_of_a_folder_is_read_from_its_config(tmp_path: Path) -> None:
    model = ModelConfig("local", ModelSource.path, str(tmp_path))
    assert find_shape(model) is None
    (tmp_path / "config.json").write_text(json.dumps(vars(SHAPE) | {"model_type": "llama"}))
    assert find_shape(model) == SHAPE
    (tmp_path / "config.json").write_text(json.dumps({"n_embd": 768}))
    assert find_shape(model) is None


def test_keys_that_a_config_may_leave_out_have_their_defaults(tmp_path: Path) -> None:
    told = {
        key: value for key, value in vars(SHAPE).items() if key not in ("num_key_value_heads", "tie_word_embeddings")
    }
    (tmp_path / "config.json").write_text(json.dumps(told))
    assert find_shape(ModelConfig("local", ModelSource.path, str(tmp_path))) == SHAPE


def test_a_shape_that_contradicts_the_model_is_said_with_both_numbers() -> None:
    model = ModelConfig("mine", ModelSource.hub, "owner/name", shape=replace(SHAPE, hidden_size=2048))
    with pytest.raises(ConfigError) as caught:
        check_shape(model, vars(SHAPE), "owner/name")
    assert str(caught.value) == (
        "`model.shape` says hidden_size 2048, but the model in owner/name has hidden_size 4096. "
        "Try: model.shape.hidden_size=4096"
    )
    check_shape(replace(model, shape=SHAPE), vars(SHAPE), "owner/name")
    check_shape(model, {"n_embd": 768}, "owner/name")  # of another kind: nothing to compare
