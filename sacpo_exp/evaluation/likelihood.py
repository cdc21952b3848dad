"""Log-probabilities of given completions under a policy."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sacpo_exp.data.tokenising import Tokens


def score_completions(weights: Any, tokens: Sequence[Tokens], padding: int, size: int) -> list[float]:
    """Return the log-probability of each completion, `size` of them per forward pass."""
    order = sorted(range(len(tokens)), key=lambda i: len(tokens[i].prompt) + len(tokens[i].completion))
    scores = [0.0] * len(tokens)
    for start in range(0, len(order), size):  # completions of similar length share a pass, which saves padding
        batch = order[start : start + size]
        for index, score in zip(batch, score_batch(weights, [tokens[i] for i in batch], padding), strict=True):
            scores[index] = score
    return scores


def score_batch(weights: Any, batch: Sequence[Tokens], padding: int) -> list[float]:
    """Return the log-probability of each completion, its end mark included if it has one.

    Padding is on the right, where no earlier position sees it.
    """
    import torch

    sequences = [torch.from_numpy(np.concatenate([each.prompt, each.completion])).long() for each in batch]
    ids = torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True, padding_value=padding).to(weights.device)
    with torch.inference_mode():
        logits = weights(input_ids=ids).logits
        scores = []
        for row, states, each in zip(ids, logits, batch, strict=True):  # in float64 one by one, for its memory
            begin, end = len(each.prompt), len(each.prompt) + len(each.completion)
            steps = states[begin - 1 : end - 1].double()
            chosen = steps.gather(-1, row[begin:end, None])[:, 0]
            scores.append(float((chosen - steps.logsumexp(-1)).sum()))
    return scores
