"""Frozen hidden states of an encoder: what the scorer's heads see."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sacpo_exp.config.judges import ScorerJudgeConfig
from sacpo_exp.errors import ConfigError
from sacpo_exp.progress import Progress
from sacpo_exp.training.models import Location, keep_freed_memory, load_policy, load_tokenizer

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCH = 32


def encode_dialogues(
    judge: ScorerJudgeConfig, location: Location, dialogues: Sequence[tuple[str, str]], title: str
) -> "NDArray[np.float32]":
    """Mean hidden state over each response's tokens, read in the context of its prompt.

    Args:
        judge: `encoder`, `layer` (how many layers are run; the states after the last of them are taken), `max_length`.
        dialogues: (prompt, response) pairs.

    Returns:
        array of shape (dialogues, hidden size).
    """
    import torch

    keep_freed_memory()
    tokenizer = load_tokenizer(location, judge.encoder.chat_template)
    tokenizer.padding_side = "right"
    body = load_policy(location, "float32").base_model
    if not 0 < judge.layer <= len(body.layers):
        raise ConfigError(f"`judge.layer` must lie between 1 and {len(body.layers)}, but is {judge.layer}.")
    body.layers = body.layers[: judge.layer]  # the rest would be computed for nothing
    body.norm = torch.nn.Identity()  # belongs behind the last layer
    ids, starts = _tokenize(tokenizer, dialogues, judge.max_length)
    order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
    states = np.zeros((len(ids), body.config.hidden_size), dtype=np.float32)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), Progress(len(ids), title, "response") as bar:
        for first in range(0, len(order), BATCH):
            batch = order[first : first + BATCH]
            inputs = tokenizer.pad([{"input_ids": ids[index]} for index in batch], return_tensors="pt")
            hidden = body(**inputs, use_cache=False).last_hidden_state.float()
            for row, index in enumerate(batch):
                states[index] = hidden[row, starts[index] : len(ids[index])].mean(0).numpy()
            bar.update(len(batch))
    return states


def _tokenize(
    tokenizer: "object", dialogues: Sequence[tuple[str, str]], max_length: int
) -> tuple[list[list[int]], list[int]]:
    """Token ids of each dialogue, cut to `max_length`, and where its response begins."""
    ids, starts = [], []
    for prompt, response in dialogues:
        said = [{"role": "user", "content": prompt}]
        before = tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)  # type: ignore[attr-defined]
        said.append({"role": "assistant", "content": response})
        whole = tokenizer.apply_chat_template(said, tokenize=False)  # type: ignore[attr-defined]
        start = len(tokenizer(before, add_special_tokens=False)["input_ids"])  # type: ignore[operator]
        tokens = tokenizer(whole, add_special_tokens=False)["input_ids"][:max_length]  # type: ignore[operator]
        ids.append(tokens)
        starts.append(min(start, len(tokens) - 1))
    return ids, starts
