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

from sacpo_exp.config.data import DataSchema
from sacpo_exp.errors import DataError
from sacpo_exp.method.criteria import Criterion
from sacpo_exp.method.losses import LOSSES, View

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


def make_view(data: Preferences, view: View, criterion: Criterion | None, only_mixed_pairs: bool = False) -> list[Row]:
    """Return the rows in the form that a loss reads.

    Args:
        data: rows of any form.
        view: the form.
        criterion: what the stage is about; None for supervised fine-tuning, which reads no labels.
        only_mixed_pairs: of pku rows, make pairs only where exactly one response is acceptable by itself.

    Raises:
        DataError: the rows have no labels for this criterion, can't be brought into this form, or none is mixed.
    """
    if criterion is None or view == View.responses:
        return _FORMS[data.form](data.rows)
    _check_labels(data, view, criterion)
    if data.form == DataSchema.pairs:
        return pairs_as_view(data.rows, view)
    if data.form == DataSchema.unpaired:
        return completions_as_view(data.rows, view)
    if view == View.labels:
        return unpaired_view(data.rows, criterion)
    is_restricted = only_mixed_pairs and criterion.acceptable is not None
    return paired_view(keep_mixed(data.rows, criterion) if is_restricted else data.rows, criterion)


def _check_labels(data: Preferences, view: View, criterion: Criterion) -> None:
    """Raises DataError if the rows have no labels for this criterion."""
    if data.form == DataSchema.pku:
        fields = label_fields(view, criterion)
        lacking = ", ".join(f"`{name}`" for name in fields if data.rows and name not in data.rows[0])
        reason = "no field with labels for it" if not fields else lacking and f"no field {lacking}"
    else:
        reason = "" if data.criterion == criterion.name else f"labels for {data.criterion} only"
    if reason:
        raise DataError(
            f"these rows are {data.form.value} with {reason}, but a stage is about {criterion.name}. Give that stage a "
            f"dataset of its own. Try: dataset@stages.{criterion.name}.dataset=NAME"
        )


def label_fields(view: View, criterion: Criterion) -> list[str]:
    """Fields of pku rows that a view of a criterion is made from; none if the criterion names none."""
    if view == View.labels and criterion.acceptable is not None:
        return [criterion.acceptable.format(i=i) for i in (0, 1)]
    return [] if criterion.preferred is None else [criterion.preferred]


def keep_mixed(rows: Sequence[Row], criterion: Criterion) -> list[Row]:
    """Rows of which exactly one response is acceptable.

    Raises:
        DataError: there are none.
    """
    kept = [row for row in rows if is_acceptable(row, 0, criterion) != is_acceptable(row, 1, criterion)]
    if rows and not kept:
        raise DataError(
            f"`dataset.only_mixed_pairs=true` leaves no pairs for {criterion.name}: both responses of each of the "
            f"{len(rows)} rows have the same label."
        )
    return kept


def is_acceptable(row: Row, index: int, criterion: Criterion) -> bool:
    """Whether response `index` of a pku row is desirable: by its own label if there is one, else by the pair."""
    if criterion.acceptable is not None:
        return bool(row[criterion.acceptable.format(i=index)])
    return preferred_index(row, criterion) == index


def preferred_index(row: Row, criterion: Criterion) -> int:
    """Which response of a pku row is the better one for a criterion that has such a field."""
    assert criterion.preferred is not None
    return int(row[criterion.preferred])


def completion_view(rows: Sequence[Row]) -> list[Row]:
    """Both responses of every pku row: {"prompt", "completion"}."""
    return [
        {"prompt": said("user", row["prompt"]), "completion": said("assistant", row[f"response_{i}"])}
        for row in rows
        for i in (0, 1)
    ]


def paired_view(rows: Sequence[Row], criterion: Criterion) -> list[Row]:
    """{"prompt", "chosen", "rejected"} of pku rows, by the criterion's field `preferred`."""
    view = []
    for row in rows:
        preferred = preferred_index(row, criterion)
        view.append(
            {
                "prompt": said("user", row["prompt"]),
                "chosen": said("assistant", row[f"response_{preferred}"]),
                "rejected": said("assistant", row[f"response_{1 - preferred}"]),
            }
        )
    return view


def unpaired_view(rows: Sequence[Row], criterion: Criterion) -> list[Row]:
    """{"prompt", "completion", "label"} of pku rows, two for each."""
    return [
        {
            "prompt": said("user", row["prompt"]),
            "completion": said("assistant", row[f"response_{i}"]),
            "label": is_acceptable(row, i, criterion),
        }
        for row in rows
        for i in (0, 1)
    ]


def pairs_as_view(rows: Sequence[Row], view: View) -> list[Row]:
    """Pairs as they are, or each as a desirable and an undesirable completion."""
    if view == View.pairs:
        return [{name: row[name] for name in ("prompt", "chosen", "rejected")} for row in rows]
    return [
        {"prompt": row["prompt"], "completion": row[name], "label": name == "chosen"}
        for row in rows
        for name in ("chosen", "rejected")
    ]


def completions_as_view(rows: Sequence[Row], view: View) -> list[Row]:
    """Labelled completions as they are.

    Raises:
        DataError: pairs are wanted.
    """
    if view == View.pairs:
        readers = ", ".join(loss.name for loss in LOSSES.values() if loss.view == View.labels)
        raise DataError(
            "the loss reads pairs (prompt, chosen, rejected), but these rows are single completions with labels "
            f"(prompt, completion, label), which {readers} read. Try: objective=kto"
        )
    return [{name: row[name] for name in ("prompt", "completion", "label")} for row in rows]


def chosen_completions(rows: Sequence[Row]) -> list[Row]:
    """Chosen responses of pairs, for supervised fine-tuning."""
    return [{"prompt": row["prompt"], "completion": row["chosen"]} for row in rows]


def desirable_completions(rows: Sequence[Row]) -> list[Row]:
    """Completions whose label is true, for supervised fine-tuning; raises DataError if there are none."""
    kept = [{"prompt": row["prompt"], "completion": row["completion"]} for row in rows if row["label"]]
    if rows and not kept:
        raise DataError(f"SFT reads completions whose label is true, but none of the {len(rows)} is such.")
    return kept


_FORMS = {
    DataSchema.pku: completion_view,
    DataSchema.pairs: chosen_completions,
    DataSchema.unpaired: desirable_completions,
}


def undesirable_weight(labels: Sequence[bool]) -> float:
    """The paper's weight of undesirable completions in KTO, from their labels; raises as `weigh_undesirable`."""
    desirable = sum(labels)
    return weigh_undesirable(desirable, len(labels) - desirable)


def weigh_undesirable(desirable: int, undesirable: int) -> float:
    """n_desirable / n_undesirable.

    Raises:
        DataError: all labels are alike, so that there is nothing to tell apart.
    """
    if not (desirable and undesirable):
        kind = "undesirable" if desirable else "desirable"
        raise DataError(
            f"the loss needs completions of both labels, but none of the {desirable + undesirable} is {kind}. "
            "Try: objective=dpo"
        )
    return desirable / undesirable


def said(role: str, content: str) -> Messages:
    """A text as a dialogue of one message."""
    return [{"role": role, "content": content}]
