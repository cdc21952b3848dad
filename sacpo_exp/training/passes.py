"""Passes over a batch on CPUs: without padding, with shared prompts computed once, and a cheaper output projection.

They give what transformers and TRL give up to rounding. No trainer knows of them: hooks on the model's backbone
rearrange the tokens of a batch, and TRL's function for log-probabilities is replaced.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import linear

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle
    from transformers import PreTrainedModel

#: Tokens that a packed row should have: longer rows have less padding, but attention takes a larger part of the time.
ROW = 256
#: Most probabilities (tokens × vocabulary) that are kept for the gradient: 256 MiB in float32. Above, TRL's function.
MOST_PROBABILITIES = 1 << 26


@contextmanager
def faster_passes(policy: "PreTrainedModel") -> Iterator[None]:
    """Make the passes of TRL's trainers over `policy` faster in the block, on a CPU."""
    import trl.trainer.utils as trl_utils

    originals = use_triton, tiled = trl_utils._use_triton, trl_utils._ChunkedLogProbFunction

    def project(*args: Any) -> tuple[Tensor | None, ...]:
        (hidden, weight), softcap = args[:2], args[6]
        is_plain = softcap is None and len(hidden) * len(weight) <= MOST_PROBABILITIES
        results: tuple[Tensor | None, ...] = (LogProbs if is_plain else tiled).apply(*args)
        return results

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
    handles = pack_batches(policy.base_model) if policy.device.type == "cpu" and can_pack(policy) else []
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def can_pack(policy: "PreTrainedModel") -> bool:
    """Return whether a mask of attention and positions are all that tells a model which tokens belong together.

    They are not for windows, recurrent states, biases by distance (ALiBi), and code that is not transformers'. Weights
    of 16 bits are not packed either: they round by how rows are packed, which depends on the number of processes.
    """
    config = policy.config.get_text_config()
    return (
        policy.dtype == torch.float32
        and type(policy).__module__.startswith("transformers.")
        and config._attn_implementation in ("sdpa", "eager")
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
            places = pending.pop()
            states = output.last_hidden_state.flatten(0, 1).index_select(0, places.flatten())
            output.last_hidden_state = states.view(*places.shape, -1)
        return output

    return [backbone.register_forward_pre_hook(before, with_kwargs=True), backbone.register_forward_hook(after)]


def pack(ids: Tensor, mask: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Put the tokens of a batch into few rows, the common beginning of a sequence and its partner only once.

    The partner is half a batch away, where TRL has the rejected response of a pair. The last token of each sequence is
    left out: it predicts nothing.

    Args:
        ids, mask: of shape (sequences, length), padded on the right.

    Returns:
        `input_ids` and `position_ids` of shape (rows, width), a boolean `attention_mask` (rows, 1, width, width); and
        for each token its number in the flattened rows, of shape (sequences, length), 0 for those left out.
    """
    count, half = len(ids), (len(ids) + 1) // 2
    stops = (mask.sum(1) - 1).clamp(min=1)
    starts = torch.zeros_like(stops)
    common = (ids[: count - half] == ids[half:]).cumprod(1).sum(1)
    starts[half:] = torch.minimum(common, torch.minimum(stops[: count - half], stops[half:]))
    sizes = (stops - starts).tolist()
    groups = [range(first, count, half) for first in range(half)]
    rows = fill_rows([sum(sizes[i] for i in group) for group in groups])
    width = max(sum(sizes[i] for group in row for i in groups[group]) for row in rows)

    packed, places = ids.new_zeros(len(rows), width), torch.zeros_like(ids)
    positions, owners = torch.zeros_like(packed), torch.full_like(packed, -1)
    for number, row in enumerate(rows):
        end = 0
        for i in (i for group in row for i in groups[group]):
            own, place = slice(starts[i], stops[i]), slice(end, end := end + sizes[i])
            packed[number, place], owners[number, place] = ids[i, own], i
            positions[number, place] = torch.arange(own.start, own.stop)
            places[i, own] = number * width + torch.arange(place.start, place.stop)
            places[i, : own.start] = places[i - half, : own.start]
    query, key = owners[:, :, None], owners[:, None, :]
    in_prefix = (key == query - half) & (positions[:, None, :] < starts[owners][:, :, None])
    allowed = (positions[:, None, :] <= positions[:, :, None]) & ((key == query) | in_prefix)
    return {"input_ids": packed, "position_ids": positions, "attention_mask": allowed[:, None]}, places


def fill_rows(sizes: list[int]) -> list[list[int]]:
    """Return the groups of each row: the largest first, each into the row that has least (Graham 1969)."""
    rows: list[list[int]] = [[] for _ in range(max(1, sum(sizes) // max(ROW, *sizes)))]
    for group in sorted(range(len(sizes)), key=lambda group: -sizes[group]):
        min(rows, key=lambda row: sum(sizes[i] for i in row)).append(group)
    return rows


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
