"""Preference rows in their three forms, and the views that training reads. Pure.

- pku: `prompt`, `response_0`, `response_1`, `is_response_0_safe`, `is_response_1_safe`, `better_response_id` and
  `safer_response_id`, and where known `categories` (of harm, of either response) and `severity` (of both responses);
- pairs: `prompt`, `chosen`, `rejected`;
- unpaired: `prompt`, `completion`, `label`.

Texts are strings in pku rows. In the other two forms, and in all views, they are in TRL's conversational format:
lists of {"role", "content"}.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sacpo_exp.config.schema import Criterion, DataSchema, LossName
from sacpo_exp.errors import DataError

Row = dict[str, Any]
Messages = list[dict[str, str]]
#: Messages as something that a dictionary can hold.
Key = tuple[tuple[str, str], ...]

#: Which field says, for a pair, the response to prefer (as in the paper's code).
PREFERRED = {Criterion.helpfulness: "better_response_id", Criterion.safety: "safer_response_id"}


@dataclass(frozen=True)
class Preferences:
    """Checked rows of one form.

    Attributes:
        form: what the rows are now: pku, pairs or unpaired.
        detected: what the file was in.
        criterion: what the labels are about; None for pku, which has both.
        rows: in the order of the file.
        skipped: rows left out since they could not be used.
    """

    form: DataSchema
    detected: DataSchema
    criterion: Criterion | None
    rows: tuple[Row, ...]
    skipped: int = 0

    def with_rows(self, rows: Sequence[Row]) -> "Preferences":
        """The same, with other rows of the same form."""
        return replace(self, rows=tuple(rows))


def key_of(messages: Messages) -> Key:
    """Role and content of every message."""
    return tuple((message["role"], message["content"]) for message in messages)


def prompt_text(prompt: str | Messages) -> str:
    """All that is said in a prompt of any form, as one text."""
    return prompt if isinstance(prompt, str) else "\n".join(message["content"] for message in prompt)


def asked_text(prompt: str | Messages) -> str:
    """The same without a system message: what an evaluation prompt is compared with."""
    if isinstance(prompt, str):
        return prompt
    return prompt_text([message for message in prompt if message["role"] != "system"])


def texts_of(data: Preferences) -> list[str]:
    """All that is said in the rows, in their order: what a tokenizer may learn from."""
    if data.form == DataSchema.pku:
        return [row[name] for row in data.rows for name in ("prompt", "response_0", "response_1")]
    said_in = ("prompt", "chosen", "rejected", "completion")
    return [prompt_text(row[name]) for row in data.rows for name in said_in if name in row]


def normalise_text(text: str) -> str:
    """A text without what hardly makes it another: case and white space."""
    return " ".join(text.casefold().split())


def split_by_prompt(rows: Sequence[Row], fraction: float, seed: int) -> tuple[list[Row], list[Row]]:
    """(training rows, held-out rows): about `fraction` of the prompts, each with all its rows, are held out.

    Prompts that differ in case or white space only count as one.
    """
    texts = [prompt_text(row["prompt"]) for row in rows]
    keys = [normalise_text(text) for text in texts]
    spelling: dict[str, str] = {}
    for key, text in zip(keys, texts, strict=True):
        spelling[key] = min(text, spelling.get(key, text))
    prompts = sorted(spelling, key=spelling.__getitem__)
    random.Random(f"heldout-{seed}").shuffle(prompts)
    held_out = set(prompts[: max(1, round(fraction * len(prompts)))])
    return (
        [row for row, key in zip(rows, keys, strict=True) if key not in held_out],
        [row for row, key in zip(rows, keys, strict=True) if key in held_out],
    )


def make_view(
    data: Preferences, loss: LossName, criterion: Criterion | None, only_mixed_safety_pairs: bool = False
) -> list[Row]:
    """The view that a loss reads: responses for SFT, pairs for DPO, labelled completions for KTO.

    Args:
        data: rows of any form.
        loss: decides the form of the view.
        criterion: what the stage is about; None for supervised fine-tuning, which reads no labels.
        only_mixed_safety_pairs: of pku rows, make safety pairs only where exactly one response is safe.

    Raises:
        DataError: the rows have no labels for this criterion, no pairs, or none that is mixed.
    """
    if criterion is None:
        loss = LossName.sft
    elif loss != LossName.sft:
        _check_criterion(data, criterion)
    if data.form == DataSchema.pairs:
        return pairs_as_view(data.rows, loss)
    if data.form == DataSchema.unpaired:
        return completions_as_view(data.rows, loss)
    if loss == LossName.sft or criterion is None:
        return completion_view(data.rows)
    if loss == LossName.kto:
        return unpaired_view(data.rows, criterion)
    is_restricted = only_mixed_safety_pairs and criterion == Criterion.safety
    return paired_view(keep_mixed(data.rows) if is_restricted else data.rows, criterion)


def _check_criterion(data: Preferences, criterion: Criterion) -> None:
    if data.criterion not in (None, criterion):
        stage = "first" if criterion == Criterion.helpfulness else "second"
        raise DataError(
            f"these rows are {data.form.value} with labels for {data.criterion.value} only, but a stage is about "
            f"{criterion.value}. Give that stage a dataset of its own. Try: dataset@stages.{stage}.dataset=NAME"
        )


def keep_mixed(rows: Sequence[Row]) -> list[Row]:
    """Rows of which exactly one response is safe.

    Raises:
        DataError: there are none.
    """
    kept = [row for row in rows if row["is_response_0_safe"] != row["is_response_1_safe"]]
    if rows and not kept:
        raise DataError(
            f"`dataset.only_mixed_safety_pairs=true` leaves no pairs: both responses of each of the {len(rows)} rows "
            "are safe, or both unsafe."
        )
    return kept


def completion_view(rows: Sequence[Row]) -> list[Row]:
    """Both responses of every pku row: {"prompt", "completion"}."""
    return [
        {"prompt": said("user", row["prompt"]), "completion": said("assistant", row[f"response_{i}"])}
        for row in rows
        for i in (0, 1)
    ]


def paired_view(rows: Sequence[Row], criterion: Criterion) -> list[Row]:
    """{"prompt", "chosen", "rejected"} of pku rows, by `better_response_id` or `safer_response_id`."""
    view = []
    for row in rows:
        preferred = row[PREFERRED[criterion]]
        view.append(
            {
                "prompt": said("user", row["prompt"]),
                "chosen": said("assistant", row[f"response_{preferred}"]),
                "rejected": said("assistant", row[f"response_{1 - preferred}"]),
            }
        )
    return view


def unpaired_view(rows: Sequence[Row], criterion: Criterion) -> list[Row]:
    """{"prompt", "completion", "label"} of pku rows: helpfulness by the pair, safety by `is_response_{0,1}_safe`."""
    view = []
    for row in rows:
        for i in (0, 1):
            by_pair = row["better_response_id"] == i
            label = by_pair if criterion == Criterion.helpfulness else row[f"is_response_{i}_safe"]
            turns = {"prompt": said("user", row["prompt"]), "completion": said("assistant", row[f"response_{i}"])}
            view.append(turns | {"label": label})
    return view


def pairs_as_view(rows: Sequence[Row], loss: LossName) -> list[Row]:
    """Pairs as they are for DPO, as a desirable and an undesirable completion for KTO, the chosen ones for SFT."""
    if loss == LossName.dpo:
        return [{name: row[name] for name in ("prompt", "chosen", "rejected")} for row in rows]
    if loss == LossName.sft:
        return [{"prompt": row["prompt"], "completion": row["chosen"]} for row in rows]
    return [
        {"prompt": row["prompt"], "completion": row[name], "label": name == "chosen"}
        for row in rows
        for name in ("chosen", "rejected")
    ]


def completions_as_view(rows: Sequence[Row], loss: LossName) -> list[Row]:
    """Labelled completions as they are for KTO, the desirable ones for SFT.

    Raises:
        DataError: DPO, which needs pairs; or SFT where no completion is desirable.
    """
    if loss == LossName.dpo:
        raise DataError("DPO needs pairs, but these rows are single completions with labels. Try: objective=kto")
    if loss == LossName.kto:
        return [{name: row[name] for name in ("prompt", "completion", "label")} for row in rows]
    kept = [{"prompt": row["prompt"], "completion": row["completion"]} for row in rows if row["label"]]
    if rows and not kept:
        raise DataError(f"SFT reads completions whose label is true, but none of the {len(rows)} is such.")
    return kept


def undesirable_weight(labels: Sequence[bool]) -> float:
    """The paper's weight of undesirable completions in KTO, from their labels; raises as `weigh_undesirable`."""
    desirable = sum(labels)
    return weigh_undesirable(desirable, len(labels) - desirable)


def weigh_undesirable(desirable: int, undesirable: int) -> float:
    """n_desirable / n_undesirable.

    Raises:
        DataError: all labels are alike, so that KTO has nothing to tell apart.
    """
    if not (desirable and undesirable):
        kind = "undesirable" if desirable else "desirable"
        raise DataError(f"KTO needs completions of both labels, but none of the {desirable + undesirable} is {kind}.")
    return desirable / undesirable


def said(role: str, content: str) -> Messages:
    """A text as a dialogue of one message."""
    return [{"role": role, "content": content}]
