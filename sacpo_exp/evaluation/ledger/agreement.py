"""Compare verdicts in the ledger with the preferences of people about the same responses."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from sacpo_exp.config.loading import shipped_criteria
from sacpo_exp.data.checks import ID_FIELDS, TEXT_FIELDS
from sacpo_exp.data.files import find_files, read_raw
from sacpo_exp.data.forms import read_cells
from sacpo_exp.errors import DataError
from sacpo_exp.evaluation.judges.parsing import read_single
from sacpo_exp.evaluation.judges.verdicts import combine
from sacpo_exp.evaluation.ledger.records import Answer, Question

Row = Mapping[str, Any]


def read_preferences(path: str) -> list[Row]:
    """Return rows with people's preferences between two responses, in the form of PKU-SafeRLHF."""
    rows = []
    for source in (read_raw(file, str(file)) for file in find_files(path)):
        for number, cells in source.rows:
            row = read_cells(cells) if source.is_text else cells
            for name in (*TEXT_FIELDS, *ID_FIELDS):
                value = row.get(name) if isinstance(row, dict) else None
                if not (isinstance(value, str) if name in TEXT_FIELDS else value in (0, 1)):
                    needed = "a text" if name in TEXT_FIELDS else "0 or 1"
                    raise DataError(f"{source.where}, row {number}: `{name}` must be {needed}, but is {value!r:.80}.")
            rows.append(row)
    return rows


def match_judgments(
    rows: list[Row], judgments: Iterable[tuple[Question, Answer]]
) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """Return pairs of labels, the judge's and people's, for each judge and criterion in the ledger.

    A label is `response_0` or `response_1`. Rows are found by their texts; those without a verdict on both orders and
    ties are left out.
    """
    places: dict[tuple[str, str, str], list[tuple[int, bool]]] = {}
    for index, row in enumerate(rows):
        prompt, one, two = (row[name] for name in TEXT_FIELDS)
        places.setdefault((prompt, one, two), []).append((index, True))
        places.setdefault((prompt, two, one), []).append((index, False))
    fields = {name: criterion.preferred for name, criterion in shipped_criteria().items()}
    found: dict[tuple[str, str], dict[int, list[Row]]] = {}
    for question, answer in judgments:
        if fields.get(question.criterion) not in ID_FIELDS:
            continue  # people have given no labels for it
        for index, is_first in places.get((question.prompt, question.first, question.second), ()):
            by_row = found.setdefault((_name_judge(question), question.criterion), {})
            by_row.setdefault(index, []).append(read_single(question, answer, is_first))
    pairs = {}
    for (judge, criterion), by_row in sorted(found.items()):
        verdicts = {index: combine(singles)["verdict"] for index, singles in by_row.items()}
        pairs[judge, criterion] = [
            (f"response_{int(verdict < 0.5)}", f"response_{int(rows[index][str(fields[criterion])])}")
            for index, verdict in verdicts.items()
            if verdict not in (None, 0.5)
        ]
    return pairs


def _name_judge(question: Question) -> str:
    """Return the judge with its protocol; the seed, which differs between repeats, is left out."""
    names = ("temperature", "reasoning_effort")
    protocol = {name: question.sampling[name] for name in names if name in question.sampling}
    return f"{question.model} at {question.base_url}, {question.template}, {json.dumps(protocol)}"
