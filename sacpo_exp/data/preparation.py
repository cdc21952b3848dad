"""Prepare a dataset for training: cut prompts, tokenise one view, count everything."""

import gc
import logging
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sacpo_exp.config.data import DataSchema, DatasetConfig
from sacpo_exp.config.schema import AUTO, RunConfig
from sacpo_exp.data.preferences import (
    Key,
    Messages,
    Preferences,
    Row,
    asked_text,
    key_of,
    make_view,
    messages_of,
    normalise_text,
    prompt_text,
    undesirable_weight,
)
from sacpo_exp.data.selection import content_of, is_tie
from sacpo_exp.data.sources import load_parts, save_view
from sacpo_exp.data.tokenising import Tokens, cut_prompts, tokenise
from sacpo_exp.errors import DataError
from sacpo_exp.method.criteria import Criterion
from sacpo_exp.method.losses import Loss, View
from sacpo_exp.store import content_hash

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

PROMPTS = "prompts.txt"
#: Fields of a view that hold completions.
COMPLETIONS = ("completion", "chosen", "rejected")
#: Keys of `Limits` that can be `AUTO`.
LENGTHS = ("max_length", "max_prompt_length")
#: Share of the dialogues that `AUTO` leaves whole; the longest ones would set memory and time.
QUANTILE = 0.99
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """Most tokens of a whole dialogue, and of the text of its prompt."""

    max_length: Any  # a number, or `AUTO` from the data
    max_prompt_length: Any
    positions: int = sys.maxsize  # most tokens that the model reads


def prepare_view(
    dataset: DatasetConfig,
    loss: Loss,
    criterion: Criterion | None,
    tokenizer: "PreTrainedTokenizerBase",
    limits: Limits,
    folder: Path,
    expected: str | None = None,
) -> dict[str, Any]:
    """Write one view of a dataset into `folder/<split>`, tokenised, and return its counts.

    `expected` is the fingerprint of the rows, if it is known.

    Raises:
        DataError: the rows can't be used or are not the expected ones, or a prompt fills `max_length` by itself.
    """
    parts, left_out = load_parts(dataset, expected)
    metrics: dict[str, Any] = {"schema": parts["train"].detected.value, "view": loss.view.value, "left_out": left_out}
    gc.disable()  # it takes a third of the time among millions of small lists
    try:
        is_mixed, flags = dataset.only_mixed_pairs, loss.reads_flags
        views = {split: make_view(data, loss.view, criterion, is_mixed, flags) for split, data in parts.items()}
        limits = choose_lengths(tokenizer, [row for rows in views.values() for row in rows], limits)
        metrics |= {key: getattr(limits, key) for key in LENGTHS}
        for split, rows in views.items():
            metrics[split] = describe(parts[split], criterion)
            metrics[split] |= _write_view(rows, loss.view, dataset, tokenizer, limits, folder / split)
    finally:
        gc.enable()
    prompts = sorted({hash_prompt(row["prompt"]) for row in parts["train"].rows})
    (folder / PROMPTS).write_text("".join(f"{line}\n" for line in prompts), "utf-8")
    return metrics


def hash_prompt(prompt: str | Messages) -> str:
    """Return the same hash for prompts that differ only in case, white space and system messages."""
    return content_hash(normalise_text(asked_text(prompt)))


def count_rows_to_read(rows: int, epochs: float) -> int:
    """Return how many different rows of a view a stage reads."""
    return rows if epochs >= 1 else max(1, round(epochs * rows))


def describe(data: Preferences, criterion: Criterion | None) -> dict[str, Any]:
    """Return counts of rows of any form, and of labels for a criterion.

    Returns:
        `rows`, `prompts`, `duplicates`, `ties`; with a criterion `labels`: its name, `desirable`, `undesirable` and the
        paper's `undesirable_weight` of KTO, null where one label is absent. Of pku rows also `better_is_not_safer`,
        `both_safe`, `both_unsafe`, `mixed` and, if known, `categories` (rows of each).
    """
    form, rows = data.form, data.rows
    counts: dict[str, Any] = {
        "rows": len(rows),
        "prompts": len({prompt_text(row["prompt"]) for row in rows}),
        "duplicates": len(rows) - len({content_of(form, row) for row in rows}),
        "ties": sum(is_tie(form, row) for row in rows),
        "labels": describe_labels(data, criterion),
    }
    if form != DataSchema.pku:
        return counts
    safe = Counter(row["is_response_0_safe"] + row["is_response_1_safe"] for row in rows)
    counts |= {
        "better_is_not_safer": sum(row["better_response_id"] != row["safer_response_id"] for row in rows),
        "both_safe": safe[2],
        "both_unsafe": safe[0],
        "mixed": safe[1],
    }
    if categories := Counter(category for row in rows for category in row.get("categories", ())):
        counts["categories"] = dict(sorted(categories.items(), key=lambda item: (-item[1], item[0])))
    return counts


def describe_labels(data: Preferences, criterion: Criterion | None) -> dict[str, Any]:
    """Return `labels` of `describe`, the ones that a loss on single completions reads."""
    if criterion is None:
        return {}
    labels = [row["label"] for row in make_view(data, View.labels, criterion)]
    desirable, undesirable = sum(labels), len(labels) - sum(labels)
    weight = undesirable_weight(desirable, undesirable) if desirable and undesirable else None
    return {criterion.name: {"desirable": desirable, "undesirable": undesirable, "undesirable_weight": weight}}


def describe_lengths(lengths: Sequence[int]) -> dict[str, float]:
    """Return the minimum, three quantiles, the maximum and the mean."""
    quantiles = {f"{share:.0%}": float(np.quantile(lengths, share)) for share in (0.5, 0.9, 0.99)}
    return {"min": min(lengths), **quantiles, "max": max(lengths), "mean": sum(lengths) / len(lengths)}


def with_lengths(config: RunConfig, metrics: Mapping[str, Any]) -> RunConfig:
    """Return the configuration with the lengths that a view was prepared with, by its metrics, in place of `AUTO`."""
    given = config.optimization
    chosen = {key: metrics[key] for key in LENGTHS if getattr(given, key) == AUTO}
    return replace(config, optimization=replace(given, **chosen))


def _dialogues(rows: Sequence[Row]) -> list[tuple[Key, Key]]:
    """Return each distinct (prompt, completion), in order."""
    every = ((key_of(row["prompt"]), key_of(row[name])) for row in rows for name in COMPLETIONS if name in row)
    return list(dict.fromkeys(every))


def choose_lengths(tokenizer: "PreTrainedTokenizerBase", rows: Sequence[Row], limits: Limits) -> Limits:
    """Return the limits with numbers in place of `AUTO`: the `QUANTILE` of all rows' tokens in the chat template.

    A dialogue takes no more than the model's positions; where these are too few, prompts get half of them.
    """
    if AUTO not in (limits.max_length, limits.max_prompt_length):
        return limits
    dialogues, limit = _dialogues(rows), limits.max_prompt_length
    counts = _count(tokenizer, dialogues)
    most = limits.positions if limits.max_length == AUTO else limits.max_length
    if limit == AUTO:
        prompt, whole = np.quantile(counts, QUANTILE, axis=0, method="higher").tolist()
        limit = prompt if whole <= most else min(prompt, most // 2)
    cuts = cut_prompts(tokenizer, (prompt for prompt, _ in dialogues), limit)
    if shortened := [n for n, (prompt, _) in enumerate(dialogues) if cuts[prompt] != prompt]:
        counts[shortened] = _count(tokenizer, [(cuts[dialogues[n][0]], dialogues[n][1]) for n in shortened])
    prompts, wholes = counts.T
    if limits.max_length == AUTO:
        most = min(max(int(np.quantile(wholes, QUANTILE, method="higher")), int(prompts.max()) + 1), most)
    chosen = replace(limits, max_length=most, max_prompt_length=limit)
    text = ", ".join(f"{key}=auto: {getattr(chosen, key)} tokens" for key in LENGTHS if getattr(limits, key) == AUTO)
    share = np.mean(wholes <= most)
    log.info(
        "lengths  %s; %.1f %% of %d dialogues fit; model limit %d", text, 100 * share, len(wholes), limits.positions
    )
    return chosen


def _count(tokenizer: "PreTrainedTokenizerBase", dialogues: list[tuple[Key, Key]]) -> "NDArray[np.int64]":
    """Return the tokens of each prompt and of the whole dialogue, shape (n, 2)."""
    tokens = tokenise(tokenizer, dialogues).values()
    return np.array([(len(each.prompt), len(each.prompt) + len(each.completion)) for each in tokens])


def _write_view(
    rows: list[Row],
    view: View,
    dataset: DatasetConfig,
    tokenizer: "PreTrainedTokenizerBase",
    limits: Limits,
    folder: Path,
) -> dict[str, Any]:
    dialogues = _dialogues(rows)
    cuts = cut_prompts(tokenizer, (prompt for prompt, _ in dialogues), limits.max_prompt_length)
    tokens = tokenise(tokenizer, ((cuts[prompt], completion) for prompt, completion in dialogues))
    prompt_tokens = [len(each.prompt) for each in tokens.values()]
    completion_tokens = [len(each.completion) for each in tokens.values()]
    if (longest := max(prompt_tokens)) >= limits.max_length:
        raise DataError(
            f"a prompt of `dataset={dataset.name}` has {longest} tokens in the chat template, which leaves nothing of "
            f"`optimization.max_length` = {limits.max_length}. Try: a smaller optimization.max_prompt_length"
        )
    save_view((_tokenised_row(row, view, cuts, tokens) for row in rows), folder)
    return {
        "examples": len(rows),
        "prompts_cut": sum(key != kept for key, kept in cuts.items()),
        "dialogues_cut": sum(len(t.prompt) + len(t.completion) > limits.max_length for t in tokens.values()),
        "prompt_tokens": describe_lengths(prompt_tokens),
        "completion_tokens": describe_lengths(completion_tokens),
    }


def _tokenised_row(row: Row, view: View, cuts: dict[Key, Key], tokens: dict[tuple[Key, Key], Tokens]) -> Row:
    """Return a row with its prompt cut and the columns of token ids that TRL's trainers read.

    `input_ids` and `completion_mask` for SFT; `prompt_ids` and `<name>_ids` for DPO and KTO, where the prompt ends at
    the first token in which any completion's dialogue differs from it.
    """
    prompt = cuts[key_of(row["prompt"])]
    parts = {name: tokens[prompt, key_of(row[name])] for name in COMPLETIONS if name in row}
    first = next(iter(parts.values()))
    row = row | {"prompt": messages_of(prompt)}
    if view == View.responses:
        mask = np.repeat(np.array([0, 1], np.int8), [len(first.prompt), len(first.completion)])
        return row | {"input_ids": np.concatenate([first.prompt, first.completion]), "completion_mask": mask}
    start = min(len(part.prompt) for part in parts.values())
    ids = {f"{name}_ids": np.concatenate([part.prompt[start:], part.completion]) for name, part in parts.items()}
    return row | {"prompt_ids": first.prompt[:start]} | ids
