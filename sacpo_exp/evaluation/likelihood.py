"""Log-probabilities of given completions under a policy."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sacpo_exp.data.tokenising import Tokens


def score_completions(weights: Any, tokens: Sequence[Tokens], size: int) -> list[float]:
    """Return the log-probability of each completion, its end mark included if it has one.

    Completions of similar length, `size` of them, share a forward pass, which saves padding.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    order = sorted(range(len(tokens)), key=lambda i: len(tokens[i].prompt) + len(tokens[i].completion))
    scores = [0.0] * len(tokens)
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        sequences = [torch.from_numpy(np.concatenate([tokens[i].prompt, tokens[i].completion])).long() for i in batch]
        # Padding, of any token, is on the right, where no earlier position sees it.
        ids = pad_sequence(sequences, batch_first=True).to(weights.device)
        with torch.inference_mode():
            logits = weights(input_ids=ids).logits
            # In float64 one by one, for its memory.
            for index, sequence, row, states in zip(batch, sequences, ids, logits, strict=True):
                begin, end = len(tokens[index].prompt), len(sequence)
                steps = states[begin - 1 : end - 1].double()
                chosen = steps.gather(-1, row[begin:end, None])[:, 0]
                scores[index] = float((chosen - steps.logsumexp(-1)).sum())
    return scores
