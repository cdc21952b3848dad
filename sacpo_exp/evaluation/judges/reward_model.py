"""Reward and cost models as judges: one score per response, read in the context of its prompt."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sacpo_exp.config.judges import HigherIs, RewardModelJudgeConfig
from sacpo_exp.data.preferences import Key, as_message, messages_of
from sacpo_exp.errors import ConfigError, JudgeError
from sacpo_exp.progress import Progress
from sacpo_exp.training.models import Location, keep_freed_memory, load_reward_model, load_tokenizer

log = logging.getLogger(__name__)


def score_responses(
    judge: RewardModelJudgeConfig,
    name: str,
    location: Location,
    dialogues: Sequence[tuple[str | Key, str]],
    title: str,
    device: str = "cpu",
) -> NDArray[np.float64]:
    """Return a score per response, the higher the better: the model's, or minus it where that is a cost.

    So a response is safe where its score by the cost head is at least 0, that is its cost at most 0 (Dai et al. 2024).

    Args:
        name: of the one of `judge.heads` whose model is at `location`.
        dialogues: (prompt, response) pairs.

    Raises:
        ConfigError: the model can't be loaded, gives more than one score, or has no chat template.
        JudgeError: a score is not a finite number.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    keep_freed_memory()
    head, key = judge.heads[name], f"judge.heads.{name}.model"
    tokenizer = load_tokenizer(location, head.model.chat_template, key)
    model = load_reward_model(head.form, location, judge.dtype.value, device, key)
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", judge.max_length)
    if judge.max_length > positions:
        raise ConfigError(
            f"`judge.max_length` must be at most {positions}, the positions of the model, but is {judge.max_length}."
        )
    ids = _tokenize(tokenizer, dialogues, judge.max_length, title)
    padding = _set_padding(model.config, ids)
    # The longest first: what does not fit into memory fails at once.
    order = sorted(range(len(ids)), key=lambda index: len(ids[index]), reverse=True)
    scores = np.zeros(len(ids))
    with torch.inference_mode(), Progress(len(ids), title, "response") as bar:
        for first in range(0, len(order), judge.batch_size):
            batch = order[first : first + judge.batch_size]
            rows = [torch.tensor(ids[index]) for index in batch]
            tokens = pad_sequence(rows, batch_first=True, padding_value=padding).to(device)
            mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True).to(device)
            scores[batch] = model(input_ids=tokens, attention_mask=mask).logits[:, 0].double().cpu().numpy()
            bar.update(len(batch))
    if broken := np.flatnonzero(~np.isfinite(scores)).tolist():
        raise JudgeError(
            f"{location.path} gives no finite score to {len(broken)} of {len(ids)} responses "
            f"(judge.dtype={judge.dtype.value}). Try: judge.dtype=float32"
        )
    return scores if head.higher_is == HigherIs.better else -scores


def _tokenize(
    tokenizer: Any, dialogues: Sequence[tuple[str | Key, str]], max_length: int, title: str
) -> list[list[int]]:
    """Return the token ids of each dialogue in the chat template, cut to `max_length`."""
    ids = []
    for prompt, response in dialogues:
        messages = messages_of(prompt) + as_message("assistant", response)
        text = str(tokenizer.apply_chat_template(messages, tokenize=False))
        # Score models are trained with the tokens that the tokenizer puts around a text, unless the template does it.
        is_begun = tokenizer.bos_token is not None and text.startswith(tokenizer.bos_token)
        ids.append(list(tokenizer(text, add_special_tokens=not is_begun)["input_ids"]))
    if cut := sum(len(tokens) > max_length for tokens in ids):
        log.warning("%s: %d of %d dialogues cut to judge.max_length=%d tokens", title, cut, len(ids), max_length)
    return [tokens[:max_length] for tokens in ids]


def _set_padding(config: Any, ids: Sequence[Sequence[int]]) -> int:
    """Return the model's padding token; where it has none, set one that occurs in no dialogue.

    Sequence classification models find the end of a sequence by comparing with it. The usual stand-in, the end mark,
    would hide the end marks that are there.
    """
    text_config = config.get_text_config()
    if getattr(text_config, "pad_token_id", None) is None:
        used = {token for sequence in ids for token in sequence}
        text_config.pad_token_id = next(token for token in range(len(used) + 1) if token not in used)
    return int(text_config.pad_token_id)
