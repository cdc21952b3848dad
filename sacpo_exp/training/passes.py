"""Passes over a batch on CPUs: without padding, with shared prompts computed once, and a cheaper output projection.

They give what transformers and TRL give up to rounding. No trainer knows of them: hooks on the model's backbone
rearrange the tokens of a batch, and transformers' attention and TRL's function for log-probabilities are replaced.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import embedding, linear, pad
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, AttentionInterface

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle
    from transformers import PreTrainedModel

#: Longest sequences in bfloat16 whose attention is products of whole matrices, in a third of the time of torch's flash
#: attention on CPUs. They keep sequences × heads × length² probabilities of each layer for the gradient.
SHORT = 256
#: What the tokens of a row and the lengths of its sequences are multiples of: each update then finds the blocks of
#: memory that the one before has freed, and softmax is faster.
TOKENS, LENGTHS = 32, 16
#: Most probabilities (tokens × vocabulary) that are kept for the gradient: 256 MiB in float32. Above, TRL's function.
MOST_PROBABILITIES = 1 << 26


@contextmanager
def faster_passes(policy: "PreTrainedModel") -> Iterator[None]:
    """Make the passes of TRL's trainers over `policy` faster in the block, on a CPU."""
    import trl.trainer.utils as trl_utils

    originals = use_triton, tiled = trl_utils._use_triton, trl_utils._ChunkedLogProbFunction

    def project(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, *args: Any) -> tuple[Any, ...]:
        count, softcap = len(hidden), args[2]
        is_plain = softcap is None and count * len(weight) <= MOST_PROBABILITIES
        ends = round_up(count, TOKENS) - count
        rows = pad(hidden, (0, 0, 0, ends)), weight, bias, pad(targets, (0, ends))
        results = (LogProbs if is_plain else tiled).apply(*rows, *args)
        return tuple(None if result is None else result[:count] for result in results)

    # Without Triton, TRL projects prompts too, since other devices recompile for every shape.
    trl_utils._use_triton = lambda device: device.type == "cpu" or use_triton(device)
    trl_utils._ChunkedLogProbFunction = SimpleNamespace(apply=project)
    try:
        with packed_passes(policy):
            yield
    finally:
        trl_utils._use_triton, trl_utils._ChunkedLogProbFunction = originals


@contextmanager
def packed_passes(policy: "PreTrainedModel") -> Iterator[None]:
    """Pack the batches of `policy` in the block, if it is on a CPU and can be packed."""
    if policy.device.type != "cpu" or not can_pack(policy):
        yield
        return
    original = ALL_ATTENTION_FUNCTIONS["sdpa"]
    handles = pack_batches(policy.base_model)
    AttentionInterface.register("sdpa", partial(attend, original))
    try:
        yield
    finally:
        AttentionInterface.register("sdpa", original)
        for handle in handles:
            handle.remove()


def can_pack(policy: "PreTrainedModel") -> bool:
    """Return whether all but the attention of a model treats each token alone, given its position.

    Windows, recurrent states, biases by distance (ALiBi), and code that is not transformers' do not. Weights of 16 bits
    are not packed either: they round by how many tokens share a product, which depends on the number of processes.
    """
    config = policy.config.get_text_config()
    return (
        policy.dtype == torch.float32
        and type(policy).__module__.startswith("transformers.")
        and policy._supports_attention_backend  # hands what `pack_batches` adds to its attention
        and config._attn_implementation == "sdpa"
        and "position_ids" in inspect.signature(policy.base_model.forward).parameters
        and set(getattr(config, "layer_types", None) or ["full_attention"]) == {"full_attention"}
        and not (getattr(config, "sliding_window", None) or getattr(config, "alibi", False) or policy._is_stateful)
    )


def pack_batches(backbone: torch.nn.Module) -> "list[RemovableHandle]":
    """Add hooks that pack the batches of `backbone` and put its hidden states back where the tokens were.

    They act on passes as TRL makes them: padded on the right, without cache, and without inputs that they do not know.
    """
    pending: list[Tensor] = []

    def before(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        given = {name: value for name, value in kwargs.items() if value is not None}
        mask: Any = given.get("attention_mask")
        is_known = not args and given.keys() == {"input_ids", "attention_mask", "use_cache"} and not given["use_cache"]
        if is_known and mask.ndim == 2 and not (mask[:, 1:] > mask[:, :-1]).any():
            inputs, places = pack(given["input_ids"], mask)
            pending.append(places)
            kwargs = kwargs | inputs
        return args, kwargs

    def after(_: Any, __: tuple[Any, ...], output: Any) -> Any:
        if pending:
            output.last_hidden_state = embedding(pending.pop(), output.last_hidden_state[0])
        return output

    return [backbone.register_forward_pre_hook(before, with_kwargs=True), backbone.register_forward_hook(after)]


def pack(ids: Tensor, mask: Tensor) -> tuple[dict[str, Any], Tensor]:
    """Put the tokens of a batch into one row, the common beginning of a sequence and its partner only once.

    The partner is half a batch away, where TRL has the rejected response of a pair. The last token of each sequence is
    left out: it predicts nothing. At the end are tokens that belong to no sequence.

    Args:
        ids, mask: of shape (sequences, length), padded on the right.

    Returns:
        Inputs of the backbone: `input_ids` and `position_ids` of shape (1, tokens), an `attention_mask` that no
        attention can read, and `packing` for `attend`; and for each token its number in the row, of shape (sequences,
        length), 0 for those left out.
    """
    count, half = len(ids), (len(ids) + 1) // 2
    stops = (mask.sum(1) - 1).clamp(min=1)
    starts = torch.zeros_like(stops)
    common = (ids[: count - half] == ids[half:]).cumprod(1).sum(1)
    starts[half:] = torch.minimum(common, torch.minimum(stops[: count - half], stops[half:]))
    length = round_up(int(stops.max()), LENGTHS)
    columns = torch.arange(length)
    owned = (columns >= starts[:, None]) & (columns < stops[:, None])
    places = torch.zeros(count, length, dtype=torch.long)
    places[owned] = torch.arange(tokens := int(owned.sum()))
    places[half:] = torch.where(columns < starts[half:, None], places[: count - half], places[half:])
    ends = (0, round_up(tokens, TOKENS) - tokens)
    inputs = {
        "input_ids": pad(pad(ids, (0, length - ids.size(1)))[owned], ends)[None],
        "position_ids": pad(columns.expand_as(owned)[owned], ends)[None],
        "attention_mask": mask.new_empty(1, 1, 0, 0),
        "packing": (places, pad(owned.flatten().nonzero()[:, 0], ends)),
    }
    return inputs, pad(places, (0, ids.size(1) - length))


def round_up(size: int, unit: int) -> int:
    """Return the next multiple of `unit`."""
    return -(-size // unit) * unit


def attend(
    original: Any,
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *args: Any,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attend as `original` does; in a packed row within each sequence, padded again for this alone.

    Args:
        query, key, value: of shape (batch, heads, tokens, size).
        kwargs: may have `packing`: numbers of the tokens in the row, of shape (sequences, length), and where in these,
            flattened, each token of the row is.
    """
    packing = kwargs.pop("packing", None)
    if packing is None:
        result: tuple[Tensor, Tensor | None] = original(module, query, key, value, mask, *args, **kwargs)
        return result
    places, sources = packing
    # The backward pass of `embedding` adds up rows in parallel; that of indexing does not.
    query, key, value = (
        embedding(places, states.transpose(1, 2).flatten(2)[0]).unflatten(-1, states.shape[1::2]).transpose(1, 2)
        for states in (query, key, value)
    )
    is_short = value.dtype == torch.bfloat16 and places.size(1) <= SHORT
    if is_short and not args and not kwargs.get("dropout"):
        with torch.autocast("cpu", enabled=False):  # it would have softmax in float32
            states = attend_by_matrices(query, key, value, kwargs.get("scaling"))
    else:  # padding is on the right, where no token sees it
        states, _ = original(module, query, key, value, None, *args, **kwargs | {"is_causal": True})
    return embedding(sources, states.flatten(2).flatten(0, 1)).unflatten(-1, states.shape[2:])[None], None


def attend_by_matrices(query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
    """Return causal attention of shape (batch, tokens, heads, size); keys may have fewer heads than queries."""
    (groups, length, size), kind = key.shape[1:], value.dtype
    query = query.to(kind).unflatten(1, (groups, -1)).flatten(0, 1).flatten(1, 2)
    hidden = torch.ones(length, length, dtype=torch.bool).triu(1)
    bias = torch.zeros(length, length, dtype=kind).masked_fill(hidden, -torch.inf).repeat(query.size(1) // length, 1)
    keys = key.to(kind).flatten(0, 1).mT
    weights = torch.baddbmm(bias, query, keys, alpha=size**-0.5 if scaling is None else scaling).softmax(-1)
    states = (weights @ value.flatten(0, 1)).unflatten(1, (-1, length)).unflatten(0, (-1, groups))
    return states.flatten(1, 2).transpose(1, 2)


class LogProbs(torch.autograd.Function):  # type: ignore[misc]
    """TRL 1.16's `ChunkedLogProbFunction` without softcap: the same arguments, results and gradient.

    It keeps the probabilities, while TRL's computes the logits again and, in torch, reads or writes them 40 times.
    """

    @staticmethod
    def forward(ctx: Any, *args: Any) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, temperature, _, _, scale, outputs = args
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else hidden.dtype
        logits = linear(hidden.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)).float()
        ctx.factor = scale / temperature
        if ctx.factor != 1:
            logits *= ctx.factor
        highest, best = logits.max(-1)
        probabilities = logits.softmax(-1)
        log_z = highest - probabilities.gather(-1, best[:, None])[:, 0].log()
        logps = logits.gather(-1, targets[:, None])[:, 0] - log_z
        squares = (probabilities * probabilities).sum(-1).log() if "log_sum_sq_probs" in outputs else None
        means = logits.mean(-1) if "mean_logits" in outputs else None
        entropy = log_z - logits.mul_(probabilities).sum(-1) if "entropy" in outputs else None
        is_top1 = best == targets if "is_top1" in outputs else None
        ctx.save_for_backward(hidden, weight, bias, targets)
        ctx.probabilities = probabilities.to(dtype)
        ctx.mark_non_differentiable(*(x for x in (entropy, squares, means, is_top1) if x is not None))
        return logps, entropy, squares, means, is_top1

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        from trl.trainer.utils import maybe_gather_lm_head_ctx

        hidden, weight, bias, targets = ctx.saved_tensors
        grad = (grad * ctx.factor)[:, None]
        change = ctx.probabilities.mul_(-grad)  # ∂ log p(target) / ∂ logits = 1[target] − p
        ctx.probabilities = None
        change.scatter_add_(-1, targets[:, None], grad.to(change.dtype))
        needs = ctx.needs_input_grad
        with maybe_gather_lm_head_ctx(weight, bias):
            of_hidden = (change @ weight.to(change.dtype)).to(hidden.dtype) if needs[0] else None
        of_weight = (change.T @ hidden.to(change.dtype)).to(weight.dtype) if needs[1] else None
        of_bias = change.sum(0, dtype=bias.dtype) if needs[2] else None
        return of_hidden, of_weight, of_bias, *[None] * 6
