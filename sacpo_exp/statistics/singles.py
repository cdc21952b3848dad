"""Single judgments of a match as columns, for ratings and for what they tell about the judge. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sacpo_exp.method.criteria import Criterion
from sacpo_exp.statistics.win_rate import Record, entries_of


@dataclass(frozen=True)
class Singles:
    """Columns of shape (judgments,), of those with a verdict.

    Attributes:
        prompt: prompt ids.
        shown: +1 where the policy's response was shown first, −1 where its opponent's, 0 where the judge sees one.
        repeat: from 0.
        verdict: 1 the policy wins, 0.5 tie, 0 its opponent wins.
        asked: False for ties of equal responses, about which no judge was asked.
    """

    prompt: list[str]
    shown: NDArray[np.int8]
    repeat: NDArray[np.int64]
    verdict: NDArray[np.float64]
    asked: NDArray[np.bool_]


def list_singles(records: Sequence[Record], criterion: Criterion) -> Singles:
    """The single judgments of one match on the prompts that count for `criterion`, by prompt id.

    Equal responses count as a tie in as many judgments as other prompts have, so that all prompts weigh alike.
    """
    entries = entries_of(records, criterion)
    usual = max((len(entry.get("singles", ())) for entry in entries.values()), default=0)
    rows = [(key, *row) for key, entry in entries.items() for row in _rows(entry, usual)]
    columns = list(zip(*rows, strict=True)) or [()] * 5
    return Singles(
        list(columns[0]),
        np.array(columns[1], np.int8),
        np.array(columns[2], np.int64),
        np.array(columns[3], np.float64),
        np.array(columns[4], np.bool_),
    )


def _rows(entry: Mapping[str, Any], usual: int) -> list[tuple[int, int, float, bool]]:
    """(shown, repeat, verdict, asked) of one prompt."""
    if entry.get("is_same"):
        return [(1 - 2 * (place % 2) if usual else 0, place // 2, 0.5, False) for place in range(max(usual, 1))]
    if "singles" not in entry:
        return [(0, 0, entry["verdict"], True)] if entry["state"] == "ok" else []
    return [
        (1 if single["is_first"] else -1, single["repeat"], single["verdict"], True)
        for single in entry["singles"]
        if single["state"] == "ok"
    ]
