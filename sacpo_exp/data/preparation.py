"""A dataset made ready for training: prompts cut, every view tokenised, all of it counted."""

import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sacpo_exp.config.data import DatasetConfig
from sacpo_exp.data.preferences import Key, Messages, Row, asked_text, key_of, make_view, normalise_text
from sacpo_exp.data.sources import load_parts, save_view
from sacpo_exp.data.statistics import describe, length_quantiles
from sacpo_exp.data.tokenising import Tokens, cut_prompts, messages_of, tokenise
from sacpo_exp.errors import DataError
from sacpo_exp.method.criteria import Criterion
from sacpo_exp.method.losses import View
from sacpo_exp.store import content_hash

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROMPTS = "prompts.txt"
#: Fields of a view that hold completions.
COMPLETIONS = ("completion", "chosen", "rejected")


@dataclass(frozen=True)
class Limits:
    """Tokens of a whole dialogue, and of the text of its prompt."""

    max_length: int
    max_prompt_length: int


def prepare_view(
    dataset: DatasetConfig,
    view: View,
    criterion: Criterion | None,
    tokenizer: "PreTrainedTokenizerBase",
    limits: Limits,
    folder: Path,
    expected: str | None = None,
) -> dict[str, Any]:
    """Write one view of a dataset into `folder/<split>`, tokenised, and return what there is to know of it.

    `expected` is the fingerprint of the rows, if it is known.

    Raises:
        DataError: the rows can't be used or are not the expected ones, or a prompt fills `max_length` by itself.
    """
    parts, left_out = load_parts(dataset, expected)
    metrics: dict[str, Any] = {"schema": parts["train"].detected.value, "view": view.value, "left_out": left_out}
    with collecting_nothing():
        for split, data in parts.items():
            rows = make_view(data, view, criterion, dataset.only_mixed_pairs)
            metrics[split] = describe(data, criterion)
            metrics[split] |= _write_view(rows, view, dataset, tokenizer, limits, folder / split)
    prompts = sorted({hash_prompt(row["prompt"]) for row in parts["train"].rows})
    (folder / PROMPTS).write_text("".join(f"{line}\n" for line in prompts), "utf-8")
    return metrics


@contextmanager
def collecting_nothing() -> Iterator[None]:
    """Keep Python from looking for cycles: among millions of small lists that costs a third of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def hash_prompt(prompt: str | Messages) -> str:
    """What a prompt is recognised by among others: case, white space and system messages don't matter."""
    return content_hash(normalise_text(asked_text(prompt)))


def count_rows_to_read(rows: int, epochs: float) -> int:
    """How many different rows of a view a stage reads."""
    return rows if epochs >= 1 else max(1, round(epochs * rows))


def _write_view(
    rows: list[Row],
    view: View,
    dataset: DatasetConfig,
    tokenizer: "PreTrainedTokenizerBase",
    limits: Limits,
    folder: Path,
) -> dict[str, Any]:
    said = dict.fromkeys(_dialogues(rows))
    cuts = cut_prompts(tokenizer, (prompt for prompt, _ in said), limits.max_prompt_length)
    tokens = tokenise(tokenizer, ((cuts[prompt], completion) for prompt, completion in said))
    _check_room(tokens, limits, dataset)
    add_ids = _as_sequence if view == View.responses else _as_parts
    save_view((_cut(row, cuts) | add_ids(_tokens_of(row, cuts, tokens)) for row in rows), folder)
    return {
        "examples": len(rows),
        "prompts_cut": sum(key != kept for key, kept in cuts.items()),
        "dialogues_cut": sum(len(t.prompt) + len(t.completion) > limits.max_length for t in tokens.values()),
        **describe_lengths("prompt_tokens", [len(each.prompt) for each in tokens.values()]),
        **describe_lengths("completion_tokens", [len(each.completion) for each in tokens.values()]),
    }


def _check_room(tokens: dict[Any, Tokens], limits: Limits, dataset: DatasetConfig) -> None:
    longest = max(len(each.prompt) for each in tokens.values())
    if longest >= limits.max_length:
        raise DataError(
            f"a prompt of `dataset={dataset.name}` has {longest} tokens in the chat template, which leaves nothing of "
            f"`optimization.max_length` = {limits.max_length}. Try: a smaller optimization.max_prompt_length"
        )


def describe_lengths(name: str, lengths: list[int]) -> dict[str, Any]:
    """Quantiles, and a histogram of about thirty bars: how many lengths there are from each bar's left edge on."""
    width = max(1, max(lengths) // 30)
    counts = Counter(length // width * width for length in lengths)
    histogram = {"width": width, "counts": {str(edge): counts[edge] for edge in sorted(counts)}}
    return {name: length_quantiles(lengths), f"{name}_histogram": histogram}


def _said_in(row: Row) -> list[str]:
    return [name for name in COMPLETIONS if name in row]


def _dialogues(view: list[Row]) -> Iterator[tuple[Key, Key]]:
    for row in view:
        for name in _said_in(row):
            yield key_of(row["prompt"]), key_of(row[name])


def _cut(row: Row, cuts: dict[Key, Key]) -> Row:
    return row | {"prompt": messages_of(cuts[key_of(row["prompt"])])}


def _tokens_of(row: Row, cuts: dict[Key, Key], tokens: dict[tuple[Key, Key], Tokens]) -> dict[str, Tokens]:
    """Tokens of each completion of a view's row, behind the prompt as it was cut."""
    prompt = cuts[key_of(row["prompt"])]
    return {name: tokens[prompt, key_of(row[name])] for name in _said_in(row)}


def _as_parts(found: dict[str, Tokens]) -> Row:
    """`prompt_ids` and `<name>_ids`, as TRL's DPO and KTO trainers call them.

    The prompt ends where the first of the completions diverges from it.
    """
    start = min(len(each.prompt) for each in found.values())
    ids = {f"{name}_ids": np.concatenate([each.prompt[start:], each.completion]) for name, each in found.items()}
    return {"prompt_ids": next(iter(found.values())).prompt[:start]} | ids


def _as_sequence(found: dict[str, Tokens]) -> Row:
    """`input_ids` and `completion_mask`, as TRL's SFT trainer calls them."""
    (tokens,) = found.values()
    mask = np.concatenate([np.zeros(len(tokens.prompt), np.int8), np.ones(len(tokens.completion), np.int8)])
    return {"input_ids": np.concatenate([tokens.prompt, tokens.completion]), "completion_mask": mask}
