"""Greedy and sampled decoding in length-sorted batches that are not held up by long responses.

Decoding goes in rounds. In each, unfinished responses are sorted by length, batched, and extended by at most the
round's tokens with `model.generate`; finished responses leave. A long response thus costs its own tokens in ever
smaller batches, not those of a whole batch. Batches depend only on the prompts and the tokens so far, so a killed run
that continues gives the same responses as an uninterrupted one.
"""

import hashlib
import json
import logging
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sacpo_exp.data.preferences import Key
from sacpo_exp.data.tokenising import encode_all
from sacpo_exp.progress import Progress
from sacpo_exp.store.manifest import write_whole

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)

#: Tokens of the first round; each further one doubles it. Most responses of the demo end in the first.
FIRST_ROUND = 32
JOURNAL = "journal.jsonl"


@dataclass(frozen=True)
class Response:
    """A generated response: tokens without prompt, padding and end mark, up to the first stop string.

    `finish_reason` is `stop` or `length`; `end` is the id of the end mark that follows the tokens, if one does.
    """

    index: int
    tokens: list[int]
    text: str = ""
    finish_reason: str | None = None
    end: int | None = None


@dataclass(frozen=True)
class Decoding:
    """How to decode. With `seed` None decoding is greedy, else it samples at temperature 1.

    `ends` are the ids of end marks besides that of the tokenizer.
    """

    max_new_tokens: int
    batch_size: int
    stop: Sequence[str] = ()
    seed: int | None = None
    ends: Sequence[int] = ()


def generate_responses(
    policy: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[str | Key],
    decoding: Decoding,
    folder: Path,
    title: str | None,
    numbers: Sequence[int] | None = None,
) -> list[Response]:
    """Return one response per prompt, in the prompts' order.

    Args:
        policy, tokenizer: the tokenizer has a chat template and pads on the left.
        prompts: texts of the user, or messages, without template.
        folder: for these prompts and this decoding alone; holds the journal from which a killed run continues.
        title: of the progress; None shows none.
        numbers: index of each prompt among all prompts of the job, which seeds its samples; default: 0, 1, ….
    """
    encoded = [encode(tokenizer, prompt) for prompt in prompts]
    journal = folder / JOURNAL
    known = dict(_read_journal(journal))
    numbers = range(len(prompts)) if numbers is None else numbers
    responses = [Response(index, []) for index in range(len(prompts))]
    with journal.open("a", encoding="utf-8") as file, Progress(len(prompts), title, "response") as bar:
        for round_number, tokens in enumerate(rounds(decoding.max_new_tokens)):
            waiting = [response for response in responses if response.finish_reason is None]
            waiting.sort(key=lambda response: (len(encoded[response.index]) + len(response.tokens), response.index))
            for start in range(0, len(waiting), decoding.batch_size):
                batch = waiting[start : start + decoding.batch_size]
                key = f"{round_number}/{batch[0].index}+{len(batch)}"
                if key not in known:
                    known[key] = _extend(policy, tokenizer, encoded, batch, tokens, decoding, numbers)
                    file.write(json.dumps([key, [asdict(response) for response in known[key]]]) + "\n")
                    file.flush()
                for response in known[key]:
                    responses[response.index] = response
                bar.update(sum(response.finish_reason is not None for response in known[key]))
        bar.update(len(prompts) - bar.n)  # the rest was cut at the limit
    return [replace(response, finish_reason=response.finish_reason or "length") for response in responses]


def encode(tokenizer: "PreTrainedTokenizerBase", prompt: str | Key) -> list[int]:
    """Return the token ids of a prompt in the chat template, up to the beginning of the response."""
    (ids,) = encode_all(tokenizer, [prompt], is_open=True)
    return [int(token) for token in ids]


def rounds(max_new_tokens: int) -> Iterator[int]:
    """Yield the tokens per round: doubling, adding up to `max_new_tokens`."""
    step, done = FIRST_ROUND, 0
    while done < max_new_tokens:
        yield min(step, max_new_tokens - done)
        done += step
        step *= 2


def _extend(
    policy: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    encoded: Sequence[list[int]],
    batch: Sequence[Response],
    tokens: int,
    decoding: Decoding,
    numbers: Sequence[int],
) -> list[Response]:
    """Return the batch with up to `tokens` more tokens each."""
    import torch

    sequences = [{"input_ids": encoded[response.index] + response.tokens} for response in batch]
    inputs = tokenizer.pad(sequences, return_tensors="pt").to(policy.device)
    processors = []
    if decoding.seed is not None:
        seeds = [draw_seed(decoding.seed, numbers[response.index], len(response.tokens)) for response in batch]
        processors.append(_add_noise(seeds))
    with torch.inference_mode():
        output = policy.generate(
            **inputs,
            max_new_tokens=tokens,
            do_sample=False,
            logits_processor=processors,
            eos_token_id=[tokenizer.eos_token_id, *decoding.ends],
            pad_token_id=tokenizer.pad_token_id,
        )
    new = output[:, inputs["input_ids"].shape[1] :].tolist()
    return [finish(tokenizer, response, ids, decoding) for response, ids in zip(batch, new, strict=True)]


def draw_seed(seed: int, number: int, position: int = 0) -> int:
    """Return the seed for the tokens of one response from `position` on; below 2**63."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{number}/{position}".encode()).digest()[:8], "big") >> 1


def _add_noise(seeds: Sequence[int]) -> "Callable[[torch.Tensor, torch.Tensor], torch.Tensor]":
    """Return a logits processor after which the largest score is a draw from the softmax at temperature 1.

    It adds Gumbel noise (Maddison et al. 2014), one stream per row, drawn on the CPU as all machines draw alike.
    """
    import torch

    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def process(_: "torch.Tensor", scores: "torch.Tensor") -> "torch.Tensor":
        draws = [torch.empty(scores.shape[1]).exponential_(generator=generator) for generator in generators]
        return scores - torch.stack(draws).log().to(scores.device)

    return process


def finish(tokenizer: "PreTrainedTokenizerBase", response: Response, new: list[int], decoding: Decoding) -> Response:
    """Return the response with its new tokens, up to the end mark or the first stop string.

    Leading white space is not part of a response, so stop strings are not searched there.
    """
    end = next((token for token in new if token in {tokenizer.eos_token_id, *decoding.ends}), None)
    tokens = response.tokens + (new if end is None else new[: new.index(end)])

    def read(count: int) -> str:
        return str(tokenizer.decode(tokens[:count], skip_special_tokens=True)).lstrip()

    text = read(len(tokens))
    cuts = [text.index(stop) for stop in decoding.stop if stop in text]
    if cuts:
        text, end = text[: min(cuts)].rstrip(), None
        tokens = tokens[: bisect_left(range(len(tokens)), True, key=lambda count: read(count).startswith(text))]
    finish_reason = "stop" if end is not None or cuts else None
    return replace(response, tokens=tokens, text=text.rstrip(), finish_reason=finish_reason, end=end)


def _read_journal(journal: Path) -> Iterator[tuple[str, list[Response]]]:
    """Yield the batches that an earlier run finished, without a last line that was cut by a kill."""
    if not journal.is_file():
        return
    *whole, _ = journal.read_text("utf-8").split("\n")
    write_whole(journal, "".join(f"{line}\n" for line in whole))
    for line in whole:
        key, batch = json.loads(line)
        yield key, [Response(**response) for response in batch]
