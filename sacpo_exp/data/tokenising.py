"""Dialogues to token ids, exactly as TRL would make them, but in batches and once for all views."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

Messages = list[dict[str, str]]
Key = tuple[tuple[str, str], ...]
#: Texts that the tokenizer is given at once.
BATCH = 2000


@dataclass(frozen=True)
class Tokens:
    """Token ids of one dialogue: of the prompt in the chat template, and of the completion behind it."""

    prompt: "NDArray[np.int32]"
    completion: "NDArray[np.int32]"


@dataclass
class Cuts:
    """Prompts that were cut from the left, by what is left of them."""

    limit: int
    shortened: dict[Key, Messages] = field(default_factory=dict)
    cut: set[Key] = field(default_factory=set)


def key_of(messages: Messages) -> Key:
    """Messages as something that a dictionary can hold."""
    return tuple((message["role"], message["content"]) for message in messages)


def cut_prompts(tokenizer: "PreTrainedTokenizerBase", prompts: Iterable[Messages], limit: int) -> Cuts:
    """Every prompt with at most `limit` tokens of text, template aside: the end is kept, as in the paper's code."""
    cuts = Cuts(limit)
    unique = {key_of(prompt): prompt for prompt in prompts}
    contents = [message["content"] for prompt in unique.values() for message in prompt]
    offsets = iter(_offsets(tokenizer, contents))
    for key, prompt in unique.items():
        places = [next(offsets) for _ in prompt]
        if sum(map(len, places)) <= limit:
            cuts.shortened[key] = prompt
        else:
            cuts.cut.add(key)
            cuts.shortened[key] = _keep_end(prompt, places, limit)
    return cuts


def _offsets(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]) -> Iterable[Sequence[tuple[int, int]]]:
    for start in range(0, len(texts), BATCH):
        batch = list(texts[start : start + BATCH])
        yield from tokenizer(batch, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]


def _keep_end(prompt: Messages, places: Sequence[Sequence[tuple[int, int]]], limit: int) -> Messages:
    """The last messages with `limit` tokens together, the first of them cut from the left."""
    kept: Messages = []
    for message, offsets in zip(reversed(prompt), reversed(places), strict=True):
        if len(offsets) >= limit:
            start = offsets[len(offsets) - limit][0]
            return [message | {"content": message["content"][start:]}, *kept]
        kept.insert(0, message)
        limit -= len(offsets)
    return kept


def tokenise(
    tokenizer: "PreTrainedTokenizerBase", dialogues: Iterable[tuple[Messages, Messages]]
) -> dict[tuple[Key, Key], Tokens]:
    """Token ids of every (prompt, completion), each once.

    The completion begins where the prompt's ids and the dialogue's diverge, as in TRL 1.16.
    """
    unique = {(key_of(prompt), key_of(completion)): (prompt, completion) for prompt, completion in dialogues}
    prompts = {key[0]: prompt for key, (prompt, _) in unique.items()}
    rendered = [_render(tokenizer, prompt, is_open=True) for prompt in prompts.values()]
    prompt_ids = dict(zip(prompts, _encode(tokenizer, rendered), strict=True))
    whole = (_render(tokenizer, prompt + completion, is_open=False) for prompt, completion in unique.values())
    tokens = {}
    for key, ids in zip(unique, _encode(tokenizer, list(whole)), strict=True):
        start = _common(prompt_ids[key[0]], ids)
        tokens[key] = Tokens(ids[:start], ids[start:])
    return tokens


def _render(tokenizer: "PreTrainedTokenizerBase", messages: Messages, is_open: bool) -> str:
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=is_open))


def _encode(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]) -> Iterable["NDArray[np.int32]"]:
    for start in range(0, len(texts), BATCH):
        for ids in tokenizer(list(texts[start : start + BATCH]), add_special_tokens=False)["input_ids"]:
            yield np.asarray(ids, dtype=np.int32)


def _common(first: "NDArray[np.int32]", second: "NDArray[np.int32]") -> int:
    """Length of the common start."""
    length = min(len(first), len(second))
    differing = np.flatnonzero(first[:length] != second[:length])
    return int(differing[0]) if len(differing) else length
