"""Responses that were made elsewhere: read from files, and laid side by side."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sacpo_exp.data.checks import BadRowError, check_object, check_text, list_problems, printable, show
from sacpo_exp.data.files import SUFFIXES, RawRows, read_object, read_raw
from sacpo_exp.data.prompt_sets import Entry, Prompt, list_fields, number_prompts, read_prompt, read_rows
from sacpo_exp.errors import DataError

#: Names that a field has in the files of others; a row has one of each line.
PROMPT_FIELDS = ("prompt", "instruction")
RESPONSE_FIELDS = ("response", "output", "completion", "generation")
#: Of a file of the paper's code (https://github.com/line/sacpo): one object, with the policy's name and its rows.
NAME_FIELD, ROWS_FIELD = "model_name", "data"


@dataclass(frozen=True)
class ImportedResponses:
    """What one policy said.

    Attributes:
        name: of the policy: as the file says, else the file's own, without its ending.
        prompts: as `load_prompts` gives them, each text once.
        responses: one per prompt; may be empty.
        path: of the file; None for what the store holds.
    """

    name: str
    prompts: list[Prompt]
    responses: list[str]
    path: str | None = None


def read_responses(path: str) -> ImportedResponses:
    """Prompts and responses of a json, jsonl, csv or parquet file.

    The prompt stands in `prompt` or `instruction`, followed by `input` where that is not empty (Alpaca's form), the
    response in `response`, `output`, `completion` or `generation`; `kind`, `category` and `prompt_id` or `id` may be
    there. The rows may also stand in `data` of one object, whose `model_name` is the policy's (the paper's code).

    Raises:
        DataError: the file can't be read, holds no rows or rows that can't be used, or two with one prompt or id.
    """
    raw, name = _read_file(path)
    entries = read_rows(raw, _read_row)
    _check_distinct(entries)
    prompts = number_prompts(Entry(entry.where, entry.number, entry.value[0]) for entry in entries)
    return ImportedResponses(name, prompts, [entry.value[1] for entry in entries], path)


def _read_file(path: str) -> tuple[RawRows, str]:
    """Rows, and what the policy is called."""
    place = Path(path).expanduser()
    whole = read_object(place, path) or {}
    rows, name = whole.get(ROWS_FIELD), whole.get(NAME_FIELD)
    if isinstance(rows, list) and isinstance(name, str) and (name := printable(name)).strip():
        return RawRows(path, list(enumerate(rows, 1))), name
    return read_raw(place, path), _name(path)


def align_responses(sets: Sequence[ImportedResponses]) -> list[ImportedResponses]:
    """The same sets, each in the order and with the prompts of the first stored one, or of the first file.

    Prompts are matched by their text: ids may differ from file to file.

    Raises:
        DataError: two files have one name, or not all sets answer the same prompts.
    """
    _check_names(sets)
    if not sets:
        return []
    model = next((said for said in sets if said.path is None), sets[0])
    return [_align(said, model) for said in sets]


def _align(said: ImportedResponses, model: ImportedResponses) -> ImportedResponses:
    if said.prompts == model.prompts:
        return said
    places = {prompt["prompt"]: index for index, prompt in enumerate(said.prompts)}
    wanted = [prompt["prompt"] for prompt in model.prompts]
    lacking = [text for text in wanted if text not in places]
    surplus = [text for text in places if text not in set(wanted)]
    if lacking or surplus:
        lacks, text = ("lacks", lacking[0]) if lacking else ("has", surplus[0])
        raise DataError(
            f"{said.name} and {model.name} must answer the same prompts, but {said.name} lacks {len(lacking)} and has "
            f"{len(surplus)} others: it {lacks} {show(text)}."
        )
    return replace(said, prompts=model.prompts, responses=[said.responses[places[text]] for text in wanted])


def _check_names(sets: Sequence[ImportedResponses]) -> None:
    paths: dict[str, str] = {}
    for said in sets:
        if said.path is not None and paths.setdefault(said.name, said.path) != said.path:
            raise DataError(
                f"`responses` must be files of different names, but {paths[said.name]} and {said.path} are both called "
                f"{said.name}. Try: rename one of them"
            )


def _check_distinct(entries: Sequence[Entry[tuple[Prompt, str]]]) -> None:
    rows: dict[str, int] = {}
    problems = []
    for entry in entries:
        first = rows.setdefault(entry.value[0]["prompt"], entry.number)
        if first != entry.number:
            problems.append((entry.where, entry.number, f"has the prompt of row {first} again"))
    if problems:
        raise DataError(list_problems(problems))


def _read_row(row: Any) -> tuple[Prompt, str]:
    check_object(row)
    field, said = _find(row, PROMPT_FIELDS, "prompt"), _find(row, RESPONSE_FIELDS, "response")
    check_text(row[field], field)
    text = row[field]
    if row.get("input") not in (None, ""):
        check_text(row["input"], "input")
        text = f"{text}\n\n{row['input']}"
    response = row[said]
    if not isinstance(response, str) or response.strip():  # an empty response is one too
        check_text(response, said)
    return read_prompt(row | {field: text}, field, None), response


def _find(row: dict[str, Any], names: Sequence[str], what: str) -> str:
    """The one of `names` that the row has: of several it is not clear which is meant."""
    found = [name for name in names if name in row]
    if len(found) == 1:
        return found[0]
    known = ", ".join(f"`{name}`" for name in names)
    raise BadRowError(None, f"must have its {what} in one of {known}, but has {list_fields(row)}")


def _name(path: str) -> str:
    name = Path(path).name
    return printable(name).removesuffix(
        next((ending for ending in SUFFIXES if name.endswith(ending)), Path(path).suffix)
    )
