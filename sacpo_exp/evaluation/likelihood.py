"""Log-probabilities of given completions under a policy."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sacpo_exp.data.tokenising import Tokens


def score_completions(weights: Any, tokens: Sequence[Tokens], padding: int, size: int) -> list[float]:
    """Return the log-probability of each completion, its end mark included if it has one; `size` per forward pass.

    Padding is on the right, where no earlier position sees it.
    """
    import torch

    order = sorted(range(len(tokens)), key=lambda i: len(tokens[i].prompt) + len(tokens[i].completion))
    scores = [0.0] * len(tokens)
    with torch.inference_mode():
        for start in range(0, len(order), size):  # completions of similar length share a pass, which saves padding
            batch = order[start : start + size]
            sequences = [np.concatenate([tokens[index].prompt, tokens[index].completion]) for index in batch]
            rows = [torch.from_numpy(sequence).long() for sequence in sequences]
            ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=padding).to(weights.device)
            for index, row, logits in zip(batch, ids, weights(input_ids=ids).logits, strict=True):
                begin, end = len(tokens[index].prompt), len(tokens[index].prompt) + len(tokens[index].completion)
                steps = logits[begin - 1 : end - 1].double()  # one by one, for the memory of float64
                chosen = steps.gather(-1, row[begin:end, None])[:, 0]
                scores[index] = float((chosen - steps.logsumexp(-1)).sum())
    return scores
