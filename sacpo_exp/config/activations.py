"""What a pass forward keeps for the pass backward, per device; pure.

Korthikanti et al. 2022 (equation 1) count this for GPT in 16 bits; here it is for transformers' Llama, whose saved
tensors a test counts: with one dtype throughout, or with weights in float32 under autocast, which keeps inputs of
linear layers in 16 bits, one copy for each layer that reads them.
"""

from dataclasses import dataclass

from sacpo_exp.config.hardware import Attention
from sacpo_exp.config.models import ModelShape
from sacpo_exp.config.shapes import count_in_layers

FLOAT32 = 4

#: TRL 1.16 projects onto the vocabulary in tiles of so many tokens and words (trl.kernels.chunked_logprob).
TILE_TOKENS, TILE_WORDS = 4096, 32768


@dataclass(frozen=True)
class Pass:
    """What one pass sees.

    Attributes:
        rows: sequences; DPO has two per pair.
        length: tokens of each, with padding.
        weight_bytes: per number in the weights as they lie in the model.
        compute_bytes: per number in matrix products.
    """

    rows: int
    length: int
    weight_bytes: int
    compute_bytes: int
    attention: Attention = Attention.sdpa

    @property
    def tokens(self) -> int:
        return self.rows * self.length

    @property
    def is_autocast(self) -> bool:
        return self.compute_bytes != self.weight_bytes


def layer_bytes_per_token(shape: ModelShape, this: Pass) -> int:
    """Bytes that one layer keeps per token. Exact for transformers' Llama but for alignment of blocks."""
    width, inner, heads = shape.hidden_size, shape.intermediate_size, shape.num_attention_heads
    c, r = this.compute_bytes, this.weight_bytes
    norms = 2 * (FLOAT32 * width + r * width + FLOAT32)  # their input in float32, the same normed, one scale
    inputs = (3 + 2) * c * width if this.is_autocast else 2 * c * width  # cast for q, k, v and gate, up one by one
    attention = 4 * c * width  # q; k and v, repeated for heads that share them; what comes out
    if this.attention == Attention.eager:
        attention += (FLOAT32 + (c if c != FLOAT32 else 0)) * heads * this.length  # probabilities, once more if cast
    else:
        attention += FLOAT32 * heads + c * this.length  # log-sums, and the mask as numbers
    return norms + inputs + attention + 4 * c * inner  # gate, its activation, up, their product


def layers_bytes(shape: ModelShape, this: Pass, is_checkpointed: bool) -> int:
    """Bytes that all layers keep; with activation checkpointing their inputs, and one layer that is done again."""
    layers = shape.num_hidden_layers
    whole = layer_bytes_per_token(shape, this) * this.tokens
    if is_checkpointed:
        return layers * this.weight_bytes * shape.hidden_size * this.tokens + whole
    return layers * whole


def autocast_bytes(shape: ModelShape, this: Pass) -> int:
    """Bytes of the 16-bit copies of the linear weights that autocast keeps until the pass backward is done."""
    return count_in_layers(shape) * this.compute_bytes if this.is_autocast else 0


def head_bytes(shape: ModelShape, this: Pass, is_trained: bool, is_cpu: bool) -> int:
    """Bytes of projecting onto the vocabulary, in tiles and never whole; an upper bound, as if all tokens counted.

    Exact: the weight's gradient in float32, the tile. Of CPUs, where torch folds the tile without a fused kernel, four
    float32 tiles are alive at the peak (log p, p, the gradient, and one operand), and the weight's part in float32.
    """
    tokens, words = min(this.tokens, TILE_TOKENS), min(shape.vocab_size, TILE_WORDS)
    gradient = FLOAT32 * shape.vocab_size * shape.hidden_size if is_trained else 0
    if is_trained and this.weight_bytes != FLOAT32:
        gradient += this.weight_bytes * shape.vocab_size * shape.hidden_size  # handed on in the weight's own dtype
    states = (FLOAT32 + this.weight_bytes) * this.tokens * shape.hidden_size
    tile = this.compute_bytes * tokens * words
    if is_cpu:
        tile += 4 * FLOAT32 * tokens * words + (FLOAT32 + this.compute_bytes) * words * shape.hidden_size
    return gradient + states + tile
