"""Sampled KL(policy ‖ baseline): how far alignment has moved a policy, the horizontal axis of the theory."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sacpo_exp.evaluation.engine import Response


def measure_divergence(
    policy: "PreTrainedModel",
    baseline: "PreTrainedModel",
    encoded: Sequence[list[int]],
    responses: "Sequence[Response]",
    end: int,
) -> list[float]:
    """KL in nats of each sampled response.

    At every position of a response drawn from the policy the divergence of the two next-token distributions is
    computed exactly, and summed: the Rao-Blackwellised estimate of Amini, Vieira and Cotterell (2025), unbiased like
    the log ratio of the drawn tokens but with less variance and never negative. Responses cut at the token limit
    or at a stop string count up to it.

    Args:
        encoded: token ids of each response's prompt.
        responses: drawn from `policy` at temperature 1, in the same order.
        end: id of the end mark, counted where a response ends with it.
    """
    import torch

    values = []
    with torch.inference_mode():
        for prompt, response in zip(encoded, responses, strict=True):
            said = response.tokens + [end] * response.is_ended
            ids = torch.tensor([prompt + said], device=policy.device)
            positions = slice(len(prompt) - 1, ids.shape[1] - 1)
            ours = policy(input_ids=ids).logits[0, positions].float().log_softmax(-1)
            theirs = baseline(input_ids=ids).logits[0, positions].float().log_softmax(-1)
            values.append(float((ours.exp() * (ours - theirs)).sum()))
    return values
