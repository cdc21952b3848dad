"""Preference rows in their three forms, and the views that training reads. Pure.

- pku: `prompt`, `response_0`, `response_1`, `is_response_0_safe`, `is_response_1_safe`, `better_response_id` and
  `safer_response_id`, and where known `categories` (of harm, of either response);
- pairs: `prompt`, `chosen`, `rejected`, and where known `margin`;
- unpaired: `prompt`, `completion`, `label`.

Texts are strings in pku rows. In the other two forms, and in all views, they are in TRL's conversational format:
lists of {"role", "content"}.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sacpo_exp.config.data import DataSchema
from sacpo_exp.errors import DataError
from sacpo_exp.method.criteria import Criterion, Pairing
from sacpo_exp.method.losses import View

Row = dict[str, Any]
Messages = list[dict[str, str]]
#: Messages as something that a dictionary can hold.
Key = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Preferences:
    """Checked rows of one form.

    Attributes:
        form: what the rows are now: pku, pairs or unpaired.
        detected: what the file was in.
        criterion: name of what the labels are about; None for pku, whose rows have fields for several criteria.
        rows: in the order of the file.
        skipped: rows left out since they could not be used.
    """

    form: DataSchema
    detected: DataSchema
    criterion: str | None
    rows: tuple[Row, ...]
    skipped: int = 0

    def with_rows(self, rows: Sequence[Row]) -> "Preferences":
        """Return a copy with other rows of the same form."""
        return replace(self, rows=tuple(rows))


def key_of(messages: Messages) -> Key:
    """Return the role and content of every message, hashable."""
    return tuple((message["role"], message["content"]) for message in messages)


def as_message(role: str, content: str) -> Messages:
    """Return a text as a dialogue of one message."""
    return [{"role": role, "content": content}]


def messages_of(prompt: str | Key) -> Messages:
    """Return the messages of a key, or the one of the user's that has this text."""
    return as_message("user", prompt) if isinstance(prompt, str) else [{"role": r, "content": c} for r, c in prompt]


def prompt_text(prompt: str | Messages) -> str:
    """Return the whole text of a prompt of any form."""
    return prompt if isinstance(prompt, str) else "\n".join(message["content"] for message in prompt)


def asked_text(prompt: str | Messages) -> str:
    """Return the text of a prompt without its system message, which is what evaluation prompts are compared with."""
    if isinstance(prompt, str):
        return prompt
    return prompt_text([message for message in prompt if message["role"] != "system"])


def texts_of(data: Preferences) -> list[str]:
    """Return all texts of the rows in their order, for training a tokenizer."""
    names = ("prompt", "response_0", "response_1", "chosen", "rejected", "completion")
    return [prompt_text(row[name]) for row in data.rows for name in names if name in row]


def normalise_text(text: str) -> str:
    """Return a text in lower case with single spaces, for finding equal prompts."""
    return " ".join(text.casefold().split())


def split_by_prompt(rows: Sequence[Row], fraction: float, seed: int) -> tuple[list[Row], list[Row]]:
    """Return (training rows, held-out rows): about `fraction` of the prompts, each with all its rows, are held out.

    Prompts that differ only in case or white space count as one.
    """
    texts = [prompt_text(row["prompt"]) for row in rows]
    keys = [normalise_text(text) for text in texts]
    spelling: dict[str, str] = {}
    for key, text in zip(keys, texts, strict=True):
        spelling[key] = min(text, spelling.get(key, text))
    prompts = sorted(spelling, key=spelling.__getitem__)
    random.Random(f"heldout-{seed}").shuffle(prompts)
    held_out = set(prompts[: max(1, round(fraction * len(prompts)))])
    parts: tuple[list[Row], list[Row]] = ([], [])
    for row, key in zip(rows, keys, strict=True):
        parts[key in held_out].append(row)
    return parts


def make_view(
    data: Preferences, view: View, criterion: Criterion | None, only_mixed_pairs: bool = False, has_flags: bool = False
) -> list[Row]:
    """Return the rows in the form that a loss reads.

    Args:
        data: rows of any form.
        view: the form: prompt with completion, with chosen and rejected, or with completion and label.
        criterion: what the stage aligns for; None for supervised fine-tuning, which reads no labels.
        only_mixed_pairs: of pku rows, make pairs only where exactly one response is acceptable by itself.
        has_flags: whether pairs have `chosen_acceptable` and `rejected_acceptable`.

    Raises:
        DataError: the rows have no labels for this criterion, can't be brought into this form, or none is mixed.
    """
    if criterion is None or view == View.responses:
        return _responses(data)
    _check_labels(data, view, criterion, has_flags)
    if data.form == DataSchema.unpaired:
        return (
            pair_labels(data.rows) if view == View.pairs else [_keep(row, "completion", "label") for row in data.rows]
        )
    if data.form == DataSchema.pairs:
        if view == View.pairs:
            return [_keep(row, "chosen", "rejected", "margin") for row in data.rows]
        return [
            {"prompt": row["prompt"], "completion": row[name], "label": name == "chosen"}
            for row in data.rows
            for name in ("chosen", "rejected")
        ]
    if view == View.labels:
        return [_complete(row, i) | {"label": is_acceptable(row, i, criterion)} for row in data.rows for i in (0, 1)]
    rows: Sequence[Row] = data.rows
    if only_mixed_pairs and criterion.acceptable is not None:
        rows = _keep_by_acceptable(rows, criterion, (1,), "`dataset.only_mixed_pairs=true`")
    if criterion.pairing == Pairing.acceptable_only:
        rows = _keep_by_acceptable(rows, criterion, (1, 2), "`pairing: acceptable_only`")
    return [_pair(row, criterion, has_flags) for row in rows]


def _keep(row: Row, *names: str) -> Row:
    """Return the prompt and those of these fields that the row has."""
    return {name: row[name] for name in ("prompt", *names) if name in row}


def _responses(data: Preferences) -> list[Row]:
    """Return {"prompt", "completion"}: both responses of pku rows, the chosen one of pairs, the desirable ones else."""
    if data.form == DataSchema.pku:
        return [_complete(row, i) for row in data.rows for i in (0, 1)]
    if data.form == DataSchema.pairs:
        return [{"prompt": row["prompt"], "completion": row["chosen"]} for row in data.rows]
    kept = [_keep(row, "completion") for row in data.rows if row["label"]]
    if data.rows and not kept:
        raise DataError(f"SFT reads completions whose label is true, but all {len(data.rows)} labels are false.")
    return kept


def _complete(row: Row, index: int) -> Row:
    """Return the prompt and response `index` of a pku row."""
    completion = as_message("assistant", row[f"response_{index}"])
    return {"prompt": as_message("user", row["prompt"]), "completion": completion}


def _pair(row: Row, criterion: Criterion, has_flags: bool) -> Row:
    """Return the prompt, chosen and rejected response of a pku row."""
    chosen = chosen_index(row, criterion)
    pair: Row = {"prompt": as_message("user", row["prompt"])}
    for name, index in (("chosen", chosen), ("rejected", 1 - chosen)):
        pair[name] = as_message("assistant", row[f"response_{index}"])
        if has_flags:
            pair[f"{name}_acceptable"] = is_acceptable(row, index, criterion)
    return pair


def pair_labels(rows: Sequence[Row]) -> list[Row]:
    """Return pairs of each prompt's desirable and undesirable completions; the scarcer ones are used more than once.

    DPO on them is conditional logistic regression: which of two labels is the desirable one has the probability
    σ(r_1 − r_0) whatever share of labels is desirable. Prompts with one kind of label make no pair.
    """
    prompts: dict[Key, tuple[list[Row], list[Row]]] = {}
    for row in rows:
        prompts.setdefault(key_of(row["prompt"]), ([], []))[not row["label"]].append(row)
    pairs = []
    for desirable, undesirable in prompts.values():
        for i in range(max(len(desirable), len(undesirable)) if desirable and undesirable else 0):
            chosen, rejected = desirable[i % len(desirable)], undesirable[i % len(undesirable)]
            pair = {"chosen": chosen["completion"], "rejected": rejected["completion"]}
            pairs.append({"prompt": chosen["prompt"]} | pair)
    if rows and not pairs:
        raise DataError(
            "the loss reads pairs (prompt, chosen, rejected), but these rows are single completions with labels, and "
            "no prompt has a desirable and an undesirable one. Try: objective=bco"
        )
    return pairs


def _check_labels(data: Preferences, view: View, criterion: Criterion, has_flags: bool) -> None:
    """Raise DataError if the rows have no labels for this criterion."""
    has_flags = view == View.pairs and (has_flags or criterion.pairing != Pairing.preferred)
    if has_flags and data.form != DataSchema.pku:
        raise DataError(
            f"the stage for {criterion.name} reads whether each response is acceptable ({criterion.acceptable}), which "
            f"these rows ({data.form.value}) don't say. Try: rows with the fields of PKU-SafeRLHF"
        )
    if data.form == DataSchema.pku:
        fields = [] if criterion.preferred is None else [criterion.preferred]
        if has_flags or (view == View.labels and criterion.acceptable is not None):
            fields = [(criterion.acceptable or "").format(i=i) for i in (0, 1)] + (fields if has_flags else [])
        lacking = ", ".join(f"`{name}`" for name in fields if data.rows and name not in data.rows[0])
        reason = "no field with labels for it" if not fields else lacking and f"no field {lacking}"
    else:
        reason = "" if data.criterion == criterion.name else f"labels for {data.criterion} only"
    if reason:
        raise DataError(
            f"these rows are {data.form.value} with {reason}, but a stage is about {criterion.name}. Give that stage a "
            f"dataset of its own. Try: dataset@stages.{criterion.name}.dataset=NAME"
        )


def _keep_by_acceptable(rows: Sequence[Row], criterion: Criterion, counts: tuple[int, ...], setting: str) -> list[Row]:
    """Return the pku rows with so many acceptable responses; raise DataError if there are none."""
    kept = [row for row in rows if is_acceptable(row, 0, criterion) + is_acceptable(row, 1, criterion) in counts]
    if rows and not kept:
        wanted = " or ".join(map(str, counts))
        raise DataError(
            f"{setting} leaves no pairs for {criterion.name}: none of the {len(rows)} rows has {wanted} acceptable "
            "responses."
        )
    return kept


def chosen_index(row: Row, criterion: Criterion) -> int:
    """Return which response of a pku row a criterion chooses."""
    if criterion.pairing != Pairing.preferred:
        acceptable = [is_acceptable(row, i, criterion) for i in (0, 1)]
        if acceptable[0] != acceptable[1]:
            return acceptable.index(True)
    return preferred_index(row, criterion)


def is_acceptable(row: Row, index: int, criterion: Criterion) -> bool:
    """Return whether response `index` of a pku row is desirable: by its own label if there is one, else by the pair."""
    if criterion.acceptable is not None:
        return bool(row[criterion.acceptable.format(i=index)])
    return preferred_index(row, criterion) == index


def preferred_index(row: Row, criterion: Criterion) -> int:
    """Return which response of a pku row is the better one for a criterion that has such a field."""
    assert criterion.preferred is not None
    return int(row[criterion.preferred])


def undesirable_weight(desirable: int, undesirable: int) -> float:
    """Return n_desirable / n_undesirable, the paper's weight in KTO; DataError if all labels are alike."""
    if not (desirable and undesirable):
        kind = "undesirable" if desirable else "desirable"
        raise DataError(
            f"the loss needs completions of both labels, but none of the {desirable + undesirable} is {kind}. "
            "Try: objective=dpo"
        )
    return desirable / undesirable
