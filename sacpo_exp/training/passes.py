"""Passes over a batch on CPUs: without padding, with shared prefixes computed once, and a cheaper output projection.

Both give what transformers and TRL give up to rounding, and change no trainer: hooks on the model's backbone rearrange
the tokens of a batch, and TRL's function for log-probabilities is replaced.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import linear

if TYPE_CHECKING:
    from transformers import PreTrainedModel

#: Tokens that a packed row should have: longer rows have less padding, and attention takes more of their time.
ROW = 256
#: Most probabilities (tokens × vocabulary) that are kept for the gradient: 256 MiB in float32. Above, TRL's function.
MOST_PROBABILITIES = 1 << 26


@contextmanager
def faster_passes(policy: "PreTrainedModel") -> Iterator[None]:
    """Make the passes of TRL's trainers over `policy` faster in the block; for CPUs, and for trainers made inside it.

    TRL projects all positions onto the vocabulary where Triton is missing, since other accelerators recompile per
    shape; CPUs do not, and about half of the positions are prompt.
    """
    import trl.trainer.utils as trl_utils

    originals = trl_utils._use_triton, trl_utils._ChunkedLogProbFunction
    trl_utils._use_triton = lambda device: device.type == "cpu" or originals[0](device)
    trl_utils._ChunkedLogProbFunction = _Projection(originals[1])
    packing = Packing(policy) if can_pack(policy) else None
    try:
        yield
    finally:
        trl_utils._use_triton, trl_utils._ChunkedLogProbFunction = originals
        if packing is not None:
            packing.remove()


def can_pack(policy: "PreTrainedModel") -> bool:
    """Return whether a model's tokens depend on each other only as a mask of attention of four dimensions says.

    Not with windows or states of their own, with biases by distance (ALiBi), or with code that is not transformers'.
    """
    config = policy.config.get_text_config()
    return (
        type(policy).__module__.startswith("transformers.")
        and config._attn_implementation in ("sdpa", "eager")
        and "position_ids" in inspect.signature(policy.base_model.forward).parameters
        and set(getattr(config, "layer_types", None) or ["full_attention"]) == {"full_attention"}
        and not (getattr(config, "sliding_window", None) or getattr(config, "alibi", False) or policy._is_stateful)
    )


class Packing:
    """Hooks that give the backbone the sequences of a batch side by side, and put its hidden states back.

    They act on passes as TRL's trainers make them: sequences padded on the right, and no cache. The last token of each
    sequence predicts nothing and is left out.
    """

    def __init__(self, policy: "PreTrainedModel") -> None:
        self.places: Tensor | None = None
        backbone = policy.base_model
        self.handles = [
            backbone.register_forward_pre_hook(self.pack, with_kwargs=True),
            backbone.register_forward_hook(self.unpack),
        ]

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()

    def pack(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        given = {name: value for name, value in kwargs.items() if value is not None}
        if args or given.keys() != {"input_ids", "attention_mask", "use_cache"} or given["use_cache"]:
            return args, kwargs
        mask = given["attention_mask"]
        if mask.ndim == 2 and not (mask[:, 1:] > mask[:, :-1]).any():
            inputs, self.places = pack(given["input_ids"], mask)
            kwargs = kwargs | inputs
        return args, kwargs

    def unpack(self, _: Any, __: tuple[Any, ...], output: Any) -> Any:
        if self.places is not None:
            states = output.last_hidden_state.flatten(0, 1)
            output.last_hidden_state = states.index_select(0, self.places.flatten()).view(*self.places.shape, -1)
            self.places = None
        return output


def pack(ids: Tensor, mask: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Put the tokens of a batch into few rows, the common beginning of a sequence and its partner only once.

    The partner is half a batch away, where TRL has the rejected response of a pair.

    Args:
        ids, mask: of shape (sequences, length), padded on the right.

    Returns:
        `input_ids` and `position_ids` of shape (rows, width) and the boolean `attention_mask` (rows, 1, width, width).
        For each token its number in the flattened rows, of shape (sequences, length); 0 where there is none.
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
    q, k = owners[:, :, None], owners[:, None, :]
    in_prefix = (k == q - half) & (positions[:, None, :] < starts[owners][:, :, None])
    allowed = (positions[:, None, :] <= positions[:, :, None]) & ((k == q) | in_prefix)
    return {"input_ids": packed, "position_ids": positions, "attention_mask": allowed[:, None]}, places


def fill_rows(sizes: list[int]) -> list[list[int]]:
    """Return the groups of each row: the largest first, each into the row that has least (Graham 1969)."""
    rows: list[list[int]] = [[] for _ in range(max(1, sum(sizes) // max(ROW, *sizes)))]
    for group in sorted(range(len(sizes)), key=lambda group: -sizes[group]):
        min(rows, key=lambda row: sum(sizes[i] for i in row)).append(group)
    return rows


class _Projection:
    """Stands in for TRL's autograd function: its own for what is too large or capped, else `LogProbs`."""

    def __init__(self, original: Any) -> None:
        self.original = original

    def apply(self, *args: Any) -> Any:
        hidden, weight, softcap = args[0], args[1], args[6]
        is_large = len(hidden) * len(weight) > MOST_PROBABILITIES
        return (self.original if is_large or softcap is not None else LogProbs).apply(*args)


class LogProbs(torch.autograd.Function):  # type: ignore[misc]
    """TRL 1.16's `ChunkedLogProbFunction`, with its arguments and results, keeping probabilities for the gradient.

    TRL's computes the logits again in the backward pass, and in torch reads and writes them some forty times.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        temperature: float,
        _: int,
        __: None,
        scale: float,
        outputs: tuple[str, ...],
    ) -> tuple[Tensor | None, ...]:
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else hidden.dtype
        ctx.factor = scale / temperature
        logits = linear(hidden.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)).float()
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
        of_bias = change.sum(0, dtype=weight.dtype) if bias is not None and needs[2] else None
        return of_hidden, of_weight, of_bias, *[None] * 6
