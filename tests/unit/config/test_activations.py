"""The count of saved activations against what torch saves for transformers' Llama."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from sacpo_exp.config.activations import Pass, autocast_bytes, head_bytes, layer_bytes_per_token, layers_bytes
from sacpo_exp.config.hardware import Attention
from sacpo_exp.config.models import ModelShape

ROWS, LENGTH = 2, 40
BYTES = {torch.float32: 4, torch.bfloat16: 2}


def shape_of(layers: int, key_value_heads: int = 2) -> ModelShape:
    return ModelShape(100, 64, 200, layers, 4, key_value_heads, 64, True)


def count_saved(shape: ModelShape, dtype: torch.dtype, is_autocast: bool, attention: str) -> int:
    """Bytes of all that a pass forward through the layers keeps for the pass backward, weights left out."""
    config = LlamaConfig(**vars(shape), attn_implementation=attention)
    model = LlamaForCausalLM(config).to(dtype).train()
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    mask = torch.ones(ROWS, LENGTH, dtype=torch.long)
    mask[0, -5:] = 0
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=is_autocast),
    ):
        result = model.model(torch.zeros_like(mask), attention_mask=mask, use_cache=False)
    assert result.last_hidden_state is not None
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("attention", [Attention.sdpa, Attention.eager])
@pytest.mark.parametrize(
    ("dtype", "is_autocast"), [(torch.float32, False), (torch.float32, True), (torch.bfloat16, False)]
)
@pytest.mark.parametrize("key_value_heads", [2, 4])
def test_a_layer_keeps_what_torch_saves(
    dtype: torch.dtype, is_autocast: bool, attention: Attention, key_value_heads: int
) -> None:
    small, large = shape_of(2, key_value_heads), shape_of(4, key_value_heads)
    saved = [count_saved(shape, dtype, is_autocast, attention.value) for shape in (small, large)]
    this = Pass(ROWS, LENGTH, BYTES[dtype], 2 if is_autocast else BYTES[dtype], attention)
    copies = autocast_bytes(large, this) - autocast_bytes(small, this)
    expected = layers_bytes(large, this, False) - layers_bytes(small, this, False) + copies
    assert saved[1] - saved[0] == pytest.approx(expected, rel=0.005)


def test_checkpointing_keeps_the_layers_inputs_and_one_layer() -> None:
    shape, this = shape_of(8), Pass(3, 10, 2, 2)
    assert layers_bytes(shape, this, True) == 8 * 30 * 64 * 2 + 30 * layer_bytes_per_token(shape, this)


def test_the_head_is_projected_in_tiles() -> None:
    shape, this = ModelShape(50_000, 64, 200, 2, 4, 4, 64, True), Pass(100, 100, 2, 2)
    whole = 2 * 10_000 * 50_000
    states, gradient, tile = 6 * 10_000 * 64, 6 * 50_000 * 64, 2 * 4096 * 32768
    assert head_bytes(shape, this, True, False) == states + gradient + tile < whole
    assert head_bytes(shape, this, False, False) == states + tile
