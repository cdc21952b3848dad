"""Convert dialogues to token ids exactly as TRL does, but in batches and each dialogue once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from sacpo_exp.data.preferences import Key, messages_of
from sacpo_exp.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

#: OpenAI's rule of thumb for English.
CHARACTERS_PER_TOKEN: Final = 4
#: Texts per call of the tokenizer.
BATCH = 2000


@dataclass(frozen=True)
class Tokens:
    """Token ids of one dialogue: the prompt in the chat template, and the completion after it."""

    prompt: "NDArray[np.int32]"
    completion: "NDArray[np.int32]"


def cut_prompts(tokenizer: "PreTrainedTokenizerBase", prompts: Iterable[Key], limit: int) -> dict[Key, Key]:
    """Return every prompt cut to at most `limit` tokens of text, template aside.

    The end is kept, as in the paper's code.
    """
    kept = {prompt: prompt for prompt in prompts}
    # No text has more tokens than bytes, so most need not be tokenised.
    long = [prompt for prompt in kept if sum(len(content.encode()) for _, content in prompt) > limit]
    offsets = iter(_offsets(tokenizer, [content for prompt in long for _, content in prompt]))
    return kept | {prompt: _keep_end(prompt, [next(offsets) for _ in prompt], limit) for prompt in long}


def _offsets(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]) -> Iterable[Sequence[tuple[int, int]]]:
    for start in range(0, len(texts), BATCH):
        batch = list(texts[start : start + BATCH])
        yield from tokenizer(batch, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]


def _keep_end(prompt: Key, places: Sequence[Sequence[tuple[int, int]]], limit: int) -> Key:
    """Return the last messages with `limit` tokens together, the first of them cut from the left."""
    kept: Key = ()
    for (role, content), offsets in zip(reversed(prompt), reversed(places), strict=True):
        if len(offsets) > limit:
            return ((role, content[offsets[len(offsets) - limit][0] :]), *kept) if limit else kept
        kept = ((role, content), *kept)
        limit -= len(offsets)
    return kept


def tokenise(
    tokenizer: "PreTrainedTokenizerBase", dialogues: Iterable[tuple[Key, Key]]
) -> dict[tuple[Key, Key], Tokens]:
    """Return the token ids of every (prompt, completion), each computed once.

    The completion begins where the prompt's ids and the dialogue's diverge, as in TRL 1.16.
    """
    unique = list(dict.fromkeys(dialogues))
    prompts = list(dict.fromkeys(prompt for prompt, _ in unique))
    prompt_ids = dict(zip(prompts, encode_all(tokenizer, prompts, is_open=True), strict=True))
    tokens = {}
    whole = encode_all(tokenizer, [prompt + completion for prompt, completion in unique], is_open=False)
    for key, ids in zip(unique, whole, strict=True):
        start = _common(prompt_ids[key[0]], ids)
        tokens[key] = Tokens(ids[:start], ids[start:])
    return tokens


def encode_all(
    tokenizer: "PreTrainedTokenizerBase", dialogues: Sequence[Key | str], is_open: bool
) -> Iterable["NDArray[np.int32]"]:
    """Yield the ids of each dialogue in the chat template; `is_open` adds the start of the assistant's turn."""
    from jinja2 import TemplateError

    for start in range(0, len(dialogues), BATCH):
        batch = [messages_of(dialogue) for dialogue in dialogues[start : start + BATCH]]
        try:
            texts = tokenizer.apply_chat_template(batch, tokenize=False, add_generation_prompt=is_open)
        except TemplateError as error:  # for example roles that it does not know
            raise DataError(f"the chat template can't be applied to a dialogue: {error}.") from error
        for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]:
            yield np.asarray(ids, dtype=np.int32)


def _common(first: "NDArray[np.int32]", second: "NDArray[np.int32]") -> int:
    """Return the length of the common prefix."""
    length = min(len(first), len(second))
    differing = np.flatnonzero(first[:length] != second[:length])
    return int(differing[0]) if len(differing) else length
