"""Labels of two raters on the same rows: two columns of a file, or the ledger's verdicts beside those of people.

Part of the command: the ledger itself knows no verdicts.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sacpo_exp.config.loading import shipped_criteria
from sacpo_exp.data.checks import ID_FIELDS, TEXT_FIELDS, BadRowError, check_object, check_text, list_problems, show
from sacpo_exp.data.files import RawRows, find_files, read_raw
from sacpo_exp.data.forms import read_cells
from sacpo_exp.errors import DataError
from sacpo_exp.evaluation.judges.parsing import read_scores
from sacpo_exp.evaluation.judges.verdicts import combine, compare
from sacpo_exp.evaluation.ledger.records import Answer, Question

ONE_ORDER = "judged in one order only"

Row = Mapping[str, Any]


@dataclass
class Labels:
    """What two raters said of the same rows.

    Attributes:
        pairs: (ours, theirs) of rows that both have labelled.
        ties: rows about which our judge is undecided.
        without: rows that one of them has not labelled, by the reason.
    """

    pairs: list[tuple[str, str]] = field(default_factory=list)
    ties: int = 0
    without: Counter[str] = field(default_factory=Counter)


def read_rows(path: str) -> list[tuple[str, int, Any]]:
    """(file, row number, row) of all rows; empty cells of a csv file are missing fields."""
    sources: list[RawRows] = [read_raw(file, str(file)) for file in find_files(path)]
    return [
        (source.where, number, read_cells(row) if source.is_text else row)
        for source in sources
        for number, row in source.rows
    ]


def read_columns(path: str, ours: str, theirs: str) -> Labels:
    """The labels that stand in two columns of a file.

    Raises:
        DataError: the file can't be read, or no row has such a column.
    """
    rows = read_rows(path)
    for name in (ours, theirs):
        if not any(isinstance(row, dict) and name in row for _, _, row in rows):
            known = dict.fromkeys(str(key) for _, _, row in rows if isinstance(row, dict) for key in row)
            raise DataError(f"{path} has no rows with `{name}`, but with {', '.join(known) or 'nothing'}.")
    labels = Labels()
    for _, _, row in rows:
        cells = [_to_label(row.get(name)) if isinstance(row, dict) else "" for name in (ours, theirs)]
        if all(cells):
            labels.pairs.append((cells[0], cells[1]))
        else:
            labels.without["without a label"] += 1
    return labels


def _to_label(cell: Any) -> str:
    if cell is None:
        return ""
    return cell.strip() if isinstance(cell, str) else json.dumps(cell)


def read_preferences(path: str) -> list[Row]:
    """Rows that say which of two responses people preferred, by both criteria.

    Raises:
        DataError: the file can't be read, or has rows that can't be used.
    """
    rows, problems = [], []
    for where, number, row in read_rows(path):
        try:
            _check(row)
            rows.append(row)
        except BadRowError as error:
            problems.append((where, number, str(error)))
    if problems:
        raise DataError(list_problems(problems))
    return rows


def _check(row: Any) -> None:
    check_object(row)
    for name in (*TEXT_FIELDS, *ID_FIELDS):
        if name not in row:
            raise BadRowError(name, "is missing")
    for name in TEXT_FIELDS:
        check_text(row[name], name)
    for name in ID_FIELDS:
        if type(row[name]) is not int or row[name] not in (0, 1):
            raise BadRowError(name, f"must be 0 or 1, but is {show(row[name])}")


def match_judgments(rows: list[Row], judgments: Iterable[tuple[Question, Answer]]) -> dict[tuple[str, str], Labels]:
    """The verdicts of every judge on `rows`, found by the texts, beside the labels in them.

    Returns:
        By judge and criterion; a label is `response_0` or `response_1`.
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
            by_row = found.setdefault((_name(question), question.criterion), {})
            by_row.setdefault(index, []).append(_read(question, answer, is_first))
    return {key: _label(rows, by_row, str(fields[key[1]])) for key, by_row in sorted(found.items())}


def _name(question: Question) -> str:
    """The judge with its protocol: verdicts of two protocols are not one judge's. The seed tells repeats apart."""
    sampling = {name: value for name, value in question.sampling.items() if name != "seed"}
    return f"{question.model} at {question.base_url}, {question.template}, {json.dumps(sampling, sort_keys=True)}"


def _read(question: Question, answer: Answer, is_first: bool) -> Row:
    """One judgment as `combine` takes it; `is_first`: response_0 was shown first."""
    known = (answer.finish_reason, question.scale, question.criterion)
    reading = None if answer.raw is None else read_scores(answer.raw, *known)
    if reading is None or reading.scores is None:
        return {"is_first": is_first, "state": (reading or answer).state.value}
    first, second = reading.scores
    return {"is_first": is_first} | (compare(first, second) if is_first else compare(second, first))


def _label(rows: list[Row], by_row: Mapping[int, list[Row]], name: str) -> Labels:
    labels = Labels()
    if missing := len(rows) - len(by_row):
        labels.without["not in the ledger"] = missing
    for index, singles in by_row.items():
        verdict = combine(singles)["verdict"]
        if verdict is None:
            states = [single["state"] for single in singles if single["state"] != "ok"]
            labels.without[states[0] if states else ONE_ORDER] += 1
        elif verdict == 0.5:
            labels.ties += 1
        else:
            labels.pairs.append((f"response_{int(verdict < 0.5)}", f"response_{rows[index][name]}"))
    return labels
