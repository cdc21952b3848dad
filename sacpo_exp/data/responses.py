"""Responses that were made elsewhere: read from files, and aligned by prompt."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sacpo_exp.config.data import PromptsConfig
from sacpo_exp.data.checks import BadRowError, check_object, check_text, list_problems, printable, show
from sacpo_exp.data.files import SUFFIXES, RawRows, read_object, read_raw
from sacpo_exp.data.prompts import Entry, Prompt, list_fields, number_prompts, read_prompt, read_rows
from sacpo_exp.errors import DataError

#: Names of a field in other projects' files; a row has exactly one of each line.
PROMPT_FIELDS = ("prompt", "instruction")
RESPONSE_FIELDS = ("response", "output", "completion", "generation")
#: Fields of a file of the paper's code (https://github.com/line/sacpo): one object with the policy's name and rows.
NAME_FIELD, ROWS_FIELD = "model_name", "data"


@dataclass(frozen=True)
class ImportedResponses:
    """The responses of one policy.

    Attributes:
        name: of the policy: given in the file, else the file's own name without its ending.
        prompts: in the form of `load_prompts`, each text once.
        responses: one per prompt; may be empty.
        path: of the file; None for stored responses.
    """

    name: str
    prompts: list[Prompt]
    responses: list[str]
    path: str | None = None


def read_responses(path: str) -> ImportedResponses:
    """Read the prompts and responses of a json, jsonl, csv or parquet file.

    The prompt is in `prompt` or `instruction`, followed by `input` if that is not empty (Alpaca's form), the
    response in `response`, `output`, `completion` or `generation`; `kind`, `category` and `prompt_id` or `id` are
    optional. The rows may also be in `data` of one object, whose `model_name` is the policy's (the paper's code).

    Raises:
        DataError: the file can't be read, has no rows or rows that can't be used, or two with one prompt or id.
    """
    raw, name = _read_file(path)
    entries = read_rows(raw, _read_row)
    numbers: dict[str, int] = {}
    problems = []
    for entry in entries:
        first = numbers.setdefault(entry.value[0]["prompt"], entry.number)
        if first != entry.number:
            problems.append((entry.where, entry.number, f"has the prompt of row {first} again"))
    if problems:
        raise DataError(list_problems(problems))
    prompts = number_prompts(Entry(entry.where, entry.number, entry.value[0]) for entry in entries)
    return ImportedResponses(name, prompts, [entry.value[1] for entry in entries], path)


def _read_file(path: str) -> tuple[RawRows, str]:
    """Return the rows and the policy's name."""
    file = Path(path).expanduser()
    whole = read_object(file, path) or {}
    rows, name = whole.get(ROWS_FIELD), whole.get(NAME_FIELD)
    if isinstance(rows, list) and isinstance(name, str) and (name := printable(name)).strip():
        return RawRows(path, list(enumerate(rows, 1))), name
    ending = next((suffix for suffix in SUFFIXES if file.name.endswith(suffix)), file.suffix)
    return read_raw(file, path), printable(file.name).removesuffix(ending)


def align_responses(sets: Sequence[ImportedResponses]) -> list[ImportedResponses]:
    """Return the sets, each with the prompts and in the order of the first stored one, or of the first file.

    Prompts are matched by their text: ids may differ from file to file.

    Raises:
        DataError: two files have one name, or not all sets answer the same prompts.
    """
    paths: dict[str, str] = {}
    for each in sets:
        if each.path is not None and paths.setdefault(each.name, each.path) != each.path:
            raise DataError(
                f"`responses` must be files of different names, but {paths[each.name]} and {each.path} are both called "
                f"{each.name}. Try: rename one of them"
            )
    model = next((each for each in sets if each.path is None), sets[0]) if sets else None
    return [_align(each, model) for each in sets] if model else []


def _align(ours: ImportedResponses, model: ImportedResponses) -> ImportedResponses:
    if ours.prompts == model.prompts:
        return ours
    positions = {prompt["prompt"]: index for index, prompt in enumerate(ours.prompts)}
    wanted = [prompt["prompt"] for prompt in model.prompts]
    lacking = [text for text in wanted if text not in positions]
    surplus = [text for text in positions if text not in set(wanted)]
    if lacking or surplus:
        lacks, text = ("lacks", lacking[0]) if lacking else ("has", surplus[0])
        raise DataError(
            f"{ours.name} and {model.name} must answer the same prompts, but {ours.name} lacks {len(lacking)} and has "
            f"{len(surplus)} others: it {lacks} {show(text)}."
        )
    return replace(ours, prompts=model.prompts, responses=[ours.responses[positions[text]] for text in wanted])


def _read_row(row: Any) -> tuple[Prompt, str]:
    check_object(row)
    field, response_field = _find(row, PROMPT_FIELDS, "prompt"), _find(row, RESPONSE_FIELDS, "response")
    check_text(row[field], field)
    text = row[field]
    if row.get("input") not in (None, ""):
        check_text(row["input"], "input")
        text = f"{text}\n\n{row['input']}"
    response = row[response_field]
    if not isinstance(response, str) or response.strip():  # an empty response is one too
        check_text(response, response_field)
    return read_prompt(row | {field: text}, PromptsConfig(field=field), None), response


def _find(row: dict[str, Any], names: Sequence[str], what: str) -> str:
    """Return the one of `names` that the row has; with several it is not clear which is meant."""
    found = [name for name in names if name in row]
    if len(found) == 1:
        return found[0]
    known = ", ".join(f"`{name}`" for name in names)
    raise BadRowError(None, f"must have its {what} in one of {known}, but has {list_fields(row)}")
