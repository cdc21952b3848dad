"""Log-probabilities of given responses under a policy."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sacpo_exp.data.tokenising import Tokens


def score_completions(weights: Any, tokens: Sequence[Tokens], padding: int, size: int) -> list[float]:
    """Return the log-probability of each completion, `size` of them per forward pass."""
    starts = range(0, len(tokens), size)
    return [score for start in starts for score in score_batch(weights, tokens[start : start + size], padding)]


def score_batch(weights: Any, batch: Sequence[Tokens], padding: int) -> list[float]:
    """Return the log-probability of each completion, its end mark included if it has one.

    Padding is on the right, where no earlier position sees it.
    """
    import torch

    sequences = [torch.from_numpy(np.concatenate([each.prompt, each.completion])).long() for each in batch]
    ids = torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True, padding_value=padding).to(weights.device)
    with torch.inference_mode():
        steps = weights(input_ids=ids).logits[:, :-1].double().log_softmax(-1)
        chosen = steps.gather(-1, ids[:, 1:, None])[..., 0]
    starts = [len(each.prompt) - 1 for each in batch]
    return [
        float(row[start : start + len(each.completion)].sum())
        for row, start, each in zip(chosen, starts, batch, strict=True)
    ]
