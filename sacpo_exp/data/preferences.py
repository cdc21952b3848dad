"""Rows in the PKU-SafeRLHF schema, checked, and the views that training reads. Pure.

A row has `prompt`, `response_0`, `response_1`, `is_response_0_safe`, `is_response_1_safe`, `better_response_id` and
`safer_response_id`. Views use TRL's conversational format: lists of {"role", "content"}.
"""

import random
from collections.abc import Sequence
from typing import Any

from sacpo_exp.config.schema import Criterion, LossName
from sacpo_exp.errors import DataError

Row = dict[str, Any]

TEXT_FIELDS = ("prompt", "response_0", "response_1")
FLAG_FIELDS = ("is_response_0_safe", "is_response_1_safe")
ID_FIELDS = ("better_response_id", "safer_response_id")
#: Which field says, for a pair, the response to prefer (as in the paper's code).
PREFERRED = {Criterion.helpfulness: "better_response_id", Criterion.safety: "safer_response_id"}
SHOWN = 5


def check_rows(rows: Sequence[Any], where: str) -> None:
    """Check every row of `where` (a file's name).

    Raises:
        DataError: naming row number (from 1) and field of the first five offenders, and how many more there are.
    """
    problems = [f"row {number}: {problem}" for number, row in enumerate(rows, 1) if (problem := _find_problem(row))]
    if not rows:
        raise DataError(f"{where} holds no rows.")
    if problems:
        more = f"\n… and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise DataError(f"{where} has rows that can't be used:\n" + "\n".join(problems[:SHOWN]) + more)


def _find_problem(row: Any) -> str | None:
    if not isinstance(row, dict):
        return f"must be an object, but is {type(row).__name__}"
    for name in (*TEXT_FIELDS, *FLAG_FIELDS, *ID_FIELDS):
        if name not in row:
            return f"`{name}` is missing"
    for name in TEXT_FIELDS:
        if not isinstance(row[name], str) or not row[name].strip():
            return f"`{name}` must be a text, but is {row[name]!r}"
    for name in FLAG_FIELDS:
        if not isinstance(row[name], bool):
            return f"`{name}` must be true or false, but is {row[name]!r}"
    for name in ID_FIELDS:
        if type(row[name]) is not int or row[name] not in (0, 1):
            return f"`{name}` must be 0 or 1, but is {row[name]!r}"
    return None


def split_by_prompt(rows: Sequence[Row], fraction: float, seed: int) -> tuple[list[Row], list[Row]]:
    """(training rows, held-out rows): about `fraction` of the prompts, each with all its rows, are held out."""
    prompts = sorted({row["prompt"] for row in rows})
    random.Random(f"heldout-{seed}").shuffle(prompts)
    held_out = set(prompts[: max(1, round(fraction * len(prompts)))])
    return (
        [row for row in rows if row["prompt"] not in held_out],
        [row for row in rows if row["prompt"] in held_out],
    )


def make_view(rows: Sequence[Row], loss: LossName, criterion: Criterion | None) -> list[Row]:
    """The view that a loss reads: responses for SFT, pairs for DPO, labelled completions for KTO."""
    if loss == LossName.sft or criterion is None:
        return completion_view(rows)
    return paired_view(rows, criterion) if loss == LossName.dpo else unpaired_view(rows, criterion)


def completion_view(rows: Sequence[Row]) -> list[Row]:
    """Both responses of every row: {"prompt", "completion"}."""
    return [
        {"prompt": _said("user", row["prompt"]), "completion": _said("assistant", row[f"response_{i}"])}
        for row in rows
        for i in (0, 1)
    ]


def paired_view(rows: Sequence[Row], criterion: Criterion) -> list[Row]:
    """{"prompt", "chosen", "rejected"}, by `better_response_id` or `safer_response_id`."""
    view = []
    for row in rows:
        preferred = row[PREFERRED[criterion]]
        view.append(
            {
                "prompt": _said("user", row["prompt"]),
                "chosen": _said("assistant", row[f"response_{preferred}"]),
                "rejected": _said("assistant", row[f"response_{1 - preferred}"]),
            }
        )
    return view


def unpaired_view(rows: Sequence[Row], criterion: Criterion) -> list[Row]:
    """{"prompt", "completion", "label"}: for helpfulness by the pair, for safety by `is_response_{0,1}_safe`."""
    view = []
    for row in rows:
        for i in (0, 1):
            by_pair = row["better_response_id"] == i
            label = by_pair if criterion == Criterion.helpfulness else row[f"is_response_{i}_safe"]
            said = {"prompt": _said("user", row["prompt"]), "completion": _said("assistant", row[f"response_{i}"])}
            view.append(said | {"label": label})
    return view


def undesirable_weight(labels: Sequence[bool]) -> float:
    """n_desirable / n_undesirable, the paper's weight of undesirable completions in KTO.

    Raises:
        DataError: all labels are alike, so that KTO has nothing to tell apart.
    """
    desirable = sum(labels)
    if desirable in (0, len(labels)):
        kind = "undesirable" if desirable else "desirable"
        raise DataError(f"KTO needs completions of both labels, but none of the {len(labels)} is {kind}.")
    return desirable / (len(labels) - desirable)


def _said(role: str, content: str) -> list[dict[str, str]]:
    return [{"role": role, "content": content}]
