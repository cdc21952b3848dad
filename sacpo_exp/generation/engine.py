"""Greedy and sampled decoding in length-sorted batches that no long response holds up.

Decoding goes in rounds. In each, unfinished responses are sorted by length, batched, and extended by at most the
round's tokens through `model.generate`; what is finished leaves. A straggler thus costs its own tokens in ever
smaller batches, not those of a whole batch. Batches depend on nothing but the prompts and what was said so far, so a
killed run that goes on gives the same responses as one that was not.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)

#: Tokens of the first round; each further one doubles it. Most responses of the demo end in the first.
FIRST_ROUND = 32
JOURNAL = "journal.jsonl"


@dataclass(frozen=True)
class Response:
    """What a policy wrote: `tokens` without prompt, padding and end mark; `finish_reason` is `stop` or `length`."""

    index: int
    tokens: list[int]
    text: str = ""
    finish_reason: str | None = None


@dataclass(frozen=True)
class Decoding:
    """How to decode. `seed` is None for greedy decoding, else that of sampling at temperature 1."""

    max_new_tokens: int
    batch_size: int
    stop: Sequence[str] = ()
    seed: int | None = None


def generate_responses(
    policy: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[str],
    decoding: Decoding,
    folder: Path,
    title: str,
) -> list[Response]:
    """One response per prompt, in the prompts' order.

    Args:
        policy, tokenizer: in evaluation mode; the tokenizer has a chat template and pads on the left.
        prompts: what the user says, without template.
        folder: holds the journal that a killed run goes on from; removed at the end.
        title: of the progress bar.
    """
    encoded = [encode(tokenizer, prompt) for prompt in prompts]
    journal = folder / JOURNAL
    known = dict(_read_journal(journal))
    responses = [Response(index, []) for index in range(len(prompts))]
    with journal.open("a", encoding="utf-8") as file, tqdm(total=len(prompts), desc=title, unit="response") as bar:
        for round_number, tokens in enumerate(rounds(decoding.max_new_tokens)):
            for batch in _batches(responses, encoded, decoding.batch_size):
                key = f"{round_number}/{batch[0].index}"
                if key not in known:
                    known[key] = _extend(policy, tokenizer, encoded, batch, tokens, decoding, round_number)
                    file.write(json.dumps([key, [asdict(response) for response in known[key]]]) + "\n")
                    file.flush()
                for response in known[key]:
                    responses[response.index] = response
                bar.update(sum(response.finish_reason is not None for response in known[key]))
        bar.update(len(prompts) - bar.n)  # the rest was cut at the limit
    journal.unlink()
    return [replace(response, finish_reason=response.finish_reason or "length") for response in responses]


def encode(tokenizer: "PreTrainedTokenizerBase", prompt: str) -> list[int]:
    """Token ids of a prompt in the chat template, up to where the response begins."""
    said = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
    )
    return list(tokenizer(said, add_special_tokens=False)["input_ids"])


def rounds(max_new_tokens: int) -> Iterator[int]:
    """Tokens per round: doubling, adding up to `max_new_tokens`."""
    step, done = FIRST_ROUND, 0
    while done < max_new_tokens:
        yield min(step, max_new_tokens - done)
        done += step
        step *= 2


def _batches(responses: Sequence[Response], encoded: Sequence[list[int]], size: int) -> Iterator[list[Response]]:
    """Unfinished responses in batches of similar length; what finishes in an earlier batch changes no later one."""
    waiting = [response for response in responses if response.finish_reason is None]
    waiting.sort(key=lambda response: (len(encoded[response.index]) + len(response.tokens), response.index))
    for start in range(0, len(waiting), size):
        yield waiting[start : start + size]


def _extend(
    policy: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    encoded: Sequence[list[int]],
    batch: Sequence[Response],
    tokens: int,
    decoding: Decoding,
    round_number: int,
) -> list[Response]:
    """The batch with up to `tokens` more tokens each."""
    import torch

    sequences = [{"input_ids": encoded[response.index] + response.tokens} for response in batch]
    inputs = tokenizer.pad(sequences, return_tensors="pt").to(policy.device)
    is_sampling = decoding.seed is not None
    if decoding.seed is not None:  # by round and batch, so that going on after a kill draws the same tokens
        torch.manual_seed(hash((decoding.seed, round_number, batch[0].index)))
    with torch.inference_mode():
        output = policy.generate(
            **inputs,
            max_new_tokens=tokens,
            do_sample=is_sampling,
            **({"temperature": 1.0, "top_k": 0, "top_p": 1.0} if is_sampling else {}),
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    new = output[:, inputs["input_ids"].shape[1] :].tolist()
    return [_finish(tokenizer, response, ids, decoding) for response, ids in zip(batch, new, strict=True)]


def _finish(tokenizer: "PreTrainedTokenizerBase", response: Response, new: list[int], decoding: Decoding) -> Response:
    """The response with its new tokens, up to the end mark or the first stop string."""
    is_ended = tokenizer.eos_token_id in new
    tokens = response.tokens + (new[: new.index(tokenizer.eos_token_id)] if is_ended else new)
    text = tokenizer.decode(tokens, skip_special_tokens=True)
    cuts = [text.index(stop) for stop in decoding.stop if stop in text]
    if cuts:
        text = text[: min(cuts)]
    is_done = is_ended or bool(cuts)
    return replace(response, tokens=tokens, text=text.strip(), finish_reason="stop" if is_done else None)


def _read_journal(journal: Path) -> Iterator[tuple[str, list[Response]]]:
    """Batches that an earlier run finished; a last line that a kill cut short is dropped."""
    if not journal.is_file():
        return
    *whole, _ = journal.read_text("utf-8").split("\n")
    journal.write_text("".join(f"{line}\n" for line in whole), "utf-8")
    for line in whole:
        key, batch = json.loads(line)
        yield key, [Response(**response) for response in batch]
