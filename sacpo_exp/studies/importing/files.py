"""Files of the paper's code: what a judgment row must hold, and which file is which."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sacpo_exp.data.checks import BadRowError, check_object, check_text, printable, show
from sacpo_exp.data.files import RawRows, find_files, read_object, read_raw
from sacpo_exp.data.prompt_sets import Entry, read_rows
from sacpo_exp.data.responses import NAME_FIELD, ROWS_FIELD, ImportedResponses, read_responses
from sacpo_exp.errors import DataError
from sacpo_exp.method.criteria import HELPFULNESS, SAFETY

#: What its criteria are here.
CRITERIA: Final = {"helpfulness": HELPFULNESS, "harmlessness": SAFETY}
TEXTS: Final = ("question", "model1", "model2")
ANSWERS: Final = ("answer1", "answer2")
LISTS: Final = ("score1", "score2", "gpt_content")


@dataclass(frozen=True)
class JudgedPair:
    """One row: a question, two models' answers in the order in which the judge saw them, and every judgment of them.

    Attributes:
        criterion: its name here.
        scores: (first, second), one per judgment; (0, 0) where the call failed or its text was not understood.
        texts: what the judge wrote, one per judgment; None where the call failed.
    """

    criterion: str
    prompt: str
    models: tuple[str, str]
    answers: tuple[str, str]
    scores: tuple[tuple[float, float], ...]
    texts: tuple[str | None, ...]


@dataclass(frozen=True)
class Results:
    """All that was given."""

    generations: list[ImportedResponses]
    judgments: list[Entry[JudgedPair]]


def read_results(paths: Iterable[str]) -> Results:
    """Every file, and every file in the folders, among `paths`; each once.

    Raises:
        DataError: a file can't be read, is of another form, or has rows that can't be used, with their numbers.
    """
    files = dict.fromkeys(file.resolve() for path in paths for file in find_files(path))
    generations, judgments = [], []
    for file in files:
        found = _read(file)
        if isinstance(found, ImportedResponses):
            generations.append(found)
        else:
            judgments += found
    return Results(generations, judgments)


def _read(file: Path) -> ImportedResponses | list[Entry[JudgedPair]]:
    where = _shorten(file)
    whole = read_object(file, where)
    if whole is not None and isinstance(whole.get(ROWS_FIELD), list) and isinstance(whole.get(NAME_FIELD), str):
        return read_responses(where)
    raw = RawRows(where, [(1, whole)]) if whole is not None else read_raw(file, where)
    if raw.rows and not any(isinstance(row, dict) and "criteria" in row for _, row in raw.rows):
        raise DataError(
            f"{where} is neither a generation file (`model_name`, `data`) nor a judgment file (rows with `criteria`, "
            "`question`, `model1`, …) of the paper's code. Responses of another form: "
            "sacpo eval responses=[FILE,FILE]"
        )
    return read_rows(raw, _read_row)


def _shorten(file: Path) -> str:
    """As it lies seen from here, for messages."""
    return str(file.relative_to(Path.cwd())) if file.is_relative_to(Path.cwd()) else str(file)


def _read_row(row: Any) -> JudgedPair:
    check_object(row)
    for name in ("criteria", *TEXTS, *ANSWERS, *LISTS):
        if name not in row:
            raise BadRowError(name, "is missing")
    if row["criteria"] not in CRITERIA:
        raise BadRowError("criteria", f"must be {' or '.join(CRITERIA)}, but is {show(row['criteria'])}")
    for name in TEXTS:
        check_text(row[name], name)
    models = (printable(row["model1"]), printable(row["model2"]))
    for name, model in zip(TEXTS[1:], models, strict=True):
        check_text(model, name)
    for name in ANSWERS:
        if not isinstance(row[name], str):
            raise BadRowError(name, f"must be a text, but is {show(row[name])}")
    if models[0] == models[1]:
        raise BadRowError("model2", f"must be another model than `model1`, but both are {show(models[0])}")
    return JudgedPair(
        CRITERIA[row["criteria"]],
        row["question"],
        models,
        (row["answer1"], row["answer2"]),
        *_read_judgments(row),
    )


def _read_judgments(row: dict[str, Any]) -> tuple[tuple[tuple[float, float], ...], tuple[str | None, ...]]:
    for name in LISTS:
        if not isinstance(row[name], list):
            raise BadRowError(name, f"must be a list, but is {show(row[name])}")
    counts = [len(row[name]) for name in LISTS]
    if len(set(counts)) > 1:
        said = ", ".join(f"{count} in `{name}`" for name, count in zip(LISTS, counts, strict=True))
        raise BadRowError(None, f"must have as many judgments in each list, but has {said}")
    for name in LISTS[:2]:
        for score in row[name]:
            if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
                raise BadRowError(name, f"must hold numbers, but has {show(score)}")
    for text in row["gpt_content"]:
        if text is not None and not isinstance(text, str):
            raise BadRowError("gpt_content", f"must hold texts or null, but has {show(text)}")
    pairs = zip(map(float, row["score1"]), map(float, row["score2"]), strict=True)
    return tuple(pairs), tuple(row["gpt_content"])
