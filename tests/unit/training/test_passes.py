"""Faster passes give what transformers' and TRL's give: hidden states, log-probabilities, gradients."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoModelForCausalLM
from transformers import GemmaConfig as Gemma
from transformers import GPT2Config as GPT2
from transformers import GPTNeoXConfig as GPTNeoX
from transformers import LlamaConfig as Llama
from transformers import MistralConfig as Mistral
from transformers import Qwen2Config as Qwen2
from trl.kernels.chunked_logprob import ChunkedLogProbFunction
from trl.trainer.utils import add_fused_lm_head

from sacpo_exp.training.passes import LogProbs, attend_by_matrices, can_pack, faster_passes

SHAPE = {"vocab_size": 40, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2}
SHAPE |= {"num_attention_heads": 2, "num_key_value_heads": 1, "pad_token_id": 0}
MODELS = {
    "Llama": Llama(**SHAPE),
    "Qwen2": Qwen2(**SHAPE),
    "Gemma": Gemma(**SHAPE, head_dim=12),
    "Mistral": Mistral(**SHAPE, sliding_window=None),
    "GPTNeoX": GPTNeoX(**{name: value for name, value in SHAPE.items() if name != "num_key_value_heads"}),
    "GPT2": GPT2(vocab_size=40, n_embd=24, n_layer=2, n_head=2, attn_pdrop=0, resid_pdrop=0, embd_pdrop=0),
}
CAUSAL = {"is_causal": True, "enable_gqa": True}
#: Two pairs, whose responses begin alike (the second wholly: one is the other's beginning), and two sequences more.
ROWS = [[5, 6, 7, 8, 9], [5, 6, 7], [4, 4, 9, 1], [5, 6, 8, 8, 9, 9], [5, 6, 7, 3], [2, 3]]


def batch() -> dict[str, Tensor]:
    ids, mask = torch.zeros(len(ROWS), 6, dtype=torch.long), torch.zeros(len(ROWS), 6, dtype=torch.long)
    for i, row in enumerate(ROWS):
        ids[i, : len(row)], mask[i, : len(row)] = torch.tensor(row), 1
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}


def score(policy: Any, rows: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Log-probabilities of all tokens, and gradients of a weighted sum of them."""
    policy.zero_grad()
    logps = policy(**rows, fused_lm_head=True).log_probs
    (logps.sum(1) * torch.arange(1.0, 1 + len(logps))).sum().backward()
    return logps.detach(), {name: parameter.grad.clone() for name, parameter in policy.named_parameters()}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("count", [6, 5, 1])
def test_packed_batches_give_the_same_log_probabilities_and_gradients(name: str, count: int) -> None:
    torch.manual_seed(0)
    policy = AutoModelForCausalLM.from_config(MODELS[name])
    assert can_pack(policy)
    add_fused_lm_head(policy)
    rows = {key: value[:count] for key, value in batch().items()}
    logps, gradients = score(policy, rows)
    read: list[Tensor] = []
    with faster_passes(policy):
        hook = policy.get_input_embeddings().register_forward_pre_hook(lambda _, args: read.append(args[0]))
        found, found_gradients = score(policy, rows)
        hook.remove()
    # Of 24 tokens six are the last ones, and four are the beginnings of others; padding is 0.
    assert (read[0].shape, int(read[0].count_nonzero())) == ((1, 32), {6: 14, 5: 13, 1: 4}[count])
    torch.testing.assert_close(found, logps, atol=1e-5, rtol=1e-5)
    for key, gradient in gradients.items():
        torch.testing.assert_close(found_gradients[key], gradient, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(score(policy, rows)[0], logps, atol=0, rtol=0)  # the hooks are gone


def test_bfloat16_attends_by_matrices_as_closely_as_torch() -> None:
    """Both differ from float32 by the rounding of bfloat16, which has 8 bits; queries are rounded to it as well."""
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, heads, 50, 16, requires_grad=True) for heads in (6, 2, 2))
    errors = []
    exact = gradients_of(lambda *states: scaled_dot_product_attention(*states, **CAUSAL), query, key, value)
    for attention in (
        lambda *states: scaled_dot_product_attention(*(x.bfloat16() for x in states), **CAUSAL),
        lambda q, k, v: attend_by_matrices(q, k, v.bfloat16(), None).transpose(1, 2),
    ):
        found = gradients_of(attention, query, key, value)
        errors.append([float((x - y).norm() / y.norm()) for x, y in zip(found, exact, strict=True)])
    for by_torch, by_matrices in zip(*errors, strict=True):
        assert 0 < by_matrices < 2 * by_torch < 0.02


def gradients_of(attention: Any, *states: Tensor) -> list[Tensor]:
    output = attention(*states).float()
    weights = torch.linspace(-1, 1, output.numel()).view_as(output)
    return [output.detach(), *torch.autograd.grad((output * weights).sum(), states)]


def test_passes_with_autocast_differ_by_rounding_alone() -> None:
    torch.manual_seed(0)
    policy = AutoModelForCausalLM.from_config(MODELS["Llama"])
    add_fused_lm_head(policy)
    with torch.autocast("cpu", torch.bfloat16):
        logps, gradients = score(policy, batch())
        with faster_passes(policy):
            found, found_gradients = score(policy, batch())
    torch.testing.assert_close(found, logps, atol=0.02, rtol=0.01)
    for key, gradient in gradients.items():
        assert (found_gradients[key] - gradient).norm() < 0.03 * gradient.norm(), key


def test_activation_checkpointing_computes_packed_layers_again() -> None:
    torch.manual_seed(0)
    policy = AutoModelForCausalLM.from_config(MODELS["Llama"])
    add_fused_lm_head(policy)
    _, gradients = score(policy, batch())
    policy.gradient_checkpointing_enable()
    policy.train()
    with faster_passes(policy):
        _, found = score(policy, batch())
    for key, gradient in gradients.items():
        torch.testing.assert_close(found[key], gradient, atol=1e-4, rtol=1e-4)


def test_what_a_mask_does_not_describe_is_not_packed() -> None:
    for config in (Mistral(**SHAPE, sliding_window=4), Llama(**SHAPE, attn_implementation="flex_attention")):
        assert not can_pack(AutoModelForCausalLM.from_config(config))


@pytest.mark.parametrize("has_bias", [True, False])
def test_log_probabilities_are_those_of_trl(has_bias: bool) -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(7, 6), torch.randn(40, 6), torch.randn(40) if has_bias else None]
    leaves = [None if x is None else x.requires_grad_() for x in inputs]
    fields = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1")
    arguments = (torch.randint(0, 40, (7,)), 0.7, 16, None, 1.3, fields)
    results = []
    for function in (ChunkedLogProbFunction, LogProbs):
        outputs = function.apply(*leaves, *arguments)
        gradients = torch.autograd.grad((outputs[0] * torch.arange(7)).sum(), [x for x in leaves if x is not None])
        results.append([*(x.float() for x in outputs), *gradients])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
