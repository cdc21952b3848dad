"""From raw rows in one of five schemas to checked preferences in one of three forms (`data.preferences`). Pure.

Each converter takes a row whose fields have our names, and raises BadRowError for a row that it can't use.
"""

import contextlib
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from sacpo_exp.config.data import DataSchema, DatasetConfig, OnBadRow
from sacpo_exp.data.checks import (
    FLAG_FIELDS,
    ID_FIELDS,
    PKU_FIELDS,
    TEXT_FIELDS,
    BadRowError,
    check_flag,
    check_id,
    check_object,
    check_text,
    list_problems,
    read_margin,
    show,
)
from sacpo_exp.data.files import RawRows
from sacpo_exp.data.preferences import Messages, Preferences, Row, as_message
from sacpo_exp.errors import DataError
from sacpo_exp.method.criteria import HELPFULNESS, SAFETY

SHOWN_FIELDS = 10

HARM_FIELDS = ("response_0_harm_category", "response_1_harm_category")
#: Fields that every row of a schema needs; `prompt` of pairs may be missing where chosen and rejected are dialogues.
FIELDS = {
    DataSchema.pku: PKU_FIELDS,
    DataSchema.pairs: ("prompt", "chosen", "rejected"),
    DataSchema.unpaired: ("prompt", "completion", "label"),
    DataSchema.hh: ("chosen", "rejected"),
    DataSchema.sharegpt: ("conversations", "chosen", "rejected"),
}
OPTIONAL_FIELDS = ("categories", *HARM_FIELDS, "margin")

#: Names of the role field, the text field and the roles in a message of one kind.
MessageKind = tuple[str, str, dict[str, str]]
_CHAT = ("role", "content", {"system": "system", "user": "user", "assistant": "assistant"})
_SHAREGPT = ("from", "value", {"system": "system", "human": "user", "gpt": "assistant"})
_HH_ROLES = {"Human": "user", "Assistant": "assistant"}
_HH_TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
_WORDS = {"true": True, "1": True, "false": False, "0": False}


def read_cells(row: dict[str, str]) -> Row:
    """Return a CSV row with its flags, ids and categories parsed; empty cells are missing fields.

    A cell that can't be parsed stays a text, which the converter reports.
    """
    read: Row = {name: text for name, text in row.items() if text.strip()}
    for name in read.keys() & {*FLAG_FIELDS, "label"}:
        read[name] = _WORDS.get(read[name].strip().lower(), read[name])
    for name in read.keys() & {*ID_FIELDS}:
        if re.fullmatch(r"\s*[0-9]{1,9}\s*", read[name]):
            read[name] = int(read[name])
    if "margin" in read:
        with contextlib.suppress(ValueError):
            read["margin"] = float(read["margin"])
    for name in read.keys() & {*HARM_FIELDS, "categories"}:
        read[name] = _read_json(read[name])
    return read


def _read_json(text: str) -> Any:
    try:
        return json.loads(text) if text.lstrip().startswith(("{", "[")) else text
    except (ValueError, RecursionError):
        return text


def to_pku(row: Row) -> Row:
    """Return the seven fields of PKU-SafeRLHF, with `categories` where the row has them."""
    kept = {name: _get(row, name) for name in PKU_FIELDS}
    for names, check in ((TEXT_FIELDS, check_text), (FLAG_FIELDS, check_flag), (ID_FIELDS, check_id)):
        for name in names:
            check(row[name], name)
    if given := [name for name in ("categories", *HARM_FIELDS) if row.get(name) is not None]:
        kept["categories"] = sorted({category for name in given for category in _read_categories(row[name], name)})
    return kept


def _read_categories(value: Any, field: str) -> list[str]:
    """Return names from a list of names, one name, or {name: true or false}."""
    if isinstance(value, dict):
        for name, flag in value.items():
            check_flag(flag, f"{field}.{name}")
        value = [name for name, flag in value.items() if flag]
    elif field in HARM_FIELDS:
        raise BadRowError(field, f"must be an object of categories with true or false, but is {show(value)}")
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list):
        raise BadRowError(field, f"must be a list of names, but is {show(value)}")
    for name in names:
        check_text(name, field)
    return names


def to_pairs(row: Row) -> Row:
    """Return a pair from texts or messages; without `prompt`, the turns that both dialogues share are the prompt.

    `margin` is kept if the row has one.
    """
    margin = {} if row.get("margin") is None else {"margin": read_margin(row["margin"])}
    if "prompt" not in row and all(isinstance(row.get(name), list) for name in ("chosen", "rejected")):
        chosen, rejected = (_read_messages(row[name], name, _CHAT) for name in ("chosen", "rejected"))
        return _split_dialogues(chosen, rejected) | margin
    prompt = read_conversation(_get(row, "prompt"), "prompt")
    return {"prompt": prompt} | {name: _read_completion(row, name, prompt) for name in ("chosen", "rejected")} | margin


def to_unpaired(row: Row) -> Row:
    """Return prompt and completion, each a text or messages, and label."""
    prompt = read_conversation(_get(row, "prompt"), "prompt")
    completion = _read_completion(row, "completion", prompt)
    check_flag(_get(row, "label"), "label")
    return {"prompt": prompt, "completion": completion, "label": row["label"]}


def from_hh(row: Row) -> Row:
    """Return a pair from two dialogues as in HH-RLHF, which differ in the last turn of the assistant."""
    chosen, rejected = (_parse_hh(_get(row, name), name) for name in ("chosen", "rejected"))
    return _split_dialogues(chosen, rejected)


def from_sharegpt(row: Row) -> Row:
    """Return a pair from `conversations`, the messages of the prompt, and one message each in chosen and rejected."""
    prompt = read_conversation(_get(row, "conversations"), "conversations", _SHAREGPT)
    pair = {}
    for name in ("chosen", "rejected"):
        pair[name] = [_read_message(_get(row, name), name, _SHAREGPT)]
        _check_one_answer(pair[name], name)
    return {"prompt": prompt} | pair


def _get(row: Row, field: str) -> Any:
    if field not in row:
        raise BadRowError(field, "is missing")
    return row[field]


def read_conversation(value: Any, field: str, kind: MessageKind = _CHAT) -> Messages:
    """Return a prompt as messages: those given, which must end with one of the user, or a text as the user's."""
    if kind is _CHAT and not isinstance(value, list):
        check_text(value, field)
        return as_message("user", value)
    messages = _read_messages(value, field, kind)
    if messages[-1]["role"] != "user":
        raise BadRowError(field, f"must end with a message of the user, but ends with one of {messages[-1]['role']}")
    return messages


def _read_completion(row: Row, field: str, prompt: Messages) -> Messages:
    value = _get(row, field)
    if not isinstance(value, list):
        check_text(value, field)
        return as_message("assistant", value)
    messages = _read_messages(value, field, _CHAT)
    if messages[: len(prompt)] == prompt:  # some files have the prompt again at the start of every response
        messages = messages[len(prompt) :]
    _check_one_answer(messages, field)
    return messages


def _check_one_answer(messages: Messages, field: str) -> None:
    roles = [message["role"] for message in messages]
    if roles != ["assistant"]:
        raise BadRowError(field, f"must be one message of the assistant, but is {show(roles)}")


def _read_messages(value: Any, field: str, kind: MessageKind) -> Messages:
    """Return messages of one kind as {"role", "content"}, without their other fields."""
    if not isinstance(value, list) or not value:
        raise BadRowError(field, f"must be a list of messages, but is {show(value)}")
    return [_read_message(message, f"{field}[{number}]", kind) for number, message in enumerate(value)]


def _read_message(message: Any, place: str, kind: MessageKind) -> dict[str, str]:
    role_field, text_field, names = kind
    if not isinstance(message, dict):
        raise BadRowError(place, f'must be a message {{"{role_field}", "{text_field}"}}, but is {show(message)}')
    role = message.get(role_field)
    if not isinstance(role, str) or role not in names:
        raise BadRowError(f"{place}.{role_field}", f"must be one of {', '.join(names)}, but is {show(role)}")
    check_text(message.get(text_field), f"{place}.{text_field}")
    return {"role": names[role], "content": message[text_field]}


def _parse_hh(text: Any, field: str) -> Messages:
    check_text(text, field)
    before, *turns = _HH_TURN.split(text)
    if before or not turns:
        raise BadRowError(field, f'must be turns "\\n\\nHuman: …" and "\\n\\nAssistant: …", but is {show(text)}')
    messages: Messages = []
    for name, content in zip(turns[::2], turns[1::2], strict=True):
        if not content.strip():
            raise BadRowError(field, f"has an empty turn of {name} (number {len(messages) + 1})")
        if messages and messages[-1]["role"] == _HH_ROLES[name]:
            # chat templates want the roles to take turns
            messages[-1]["content"] += "\n\n" + content.strip()
        else:
            messages += as_message(_HH_ROLES[name], content.strip())
    return messages


def _split_dialogues(chosen: Messages, rejected: Messages) -> Row:
    for name, messages in (("chosen", chosen), ("rejected", rejected)):
        if messages[-1]["role"] != "assistant":
            last = messages[-1]["role"]
            raise BadRowError(name, f"must end with a turn of the assistant, but ends with one of the {last}")
    if chosen[:-1] != rejected[:-1]:
        raise BadRowError(None, "`chosen` and `rejected` must share all turns before the last, but do not")
    if len(chosen) < 2 or chosen[-2]["role"] != "user":
        raise BadRowError("chosen", "must have a turn of the user before the assistant's last, but has none")
    return {"prompt": chosen[:-1], "chosen": chosen[-1:], "rejected": rejected[-1:]}


#: Form and converter of every schema.
CONVERTERS: dict[DataSchema, tuple[DataSchema, Callable[[Row], Row]]] = {
    DataSchema.pku: (DataSchema.pku, to_pku),
    DataSchema.pairs: (DataSchema.pairs, to_pairs),
    DataSchema.unpaired: (DataSchema.unpaired, to_unpaired),
    DataSchema.hh: (DataSchema.pairs, from_hh),
    DataSchema.sharegpt: (DataSchema.pairs, from_sharegpt),
}


def normalise(sources: Sequence[RawRows], dataset: DatasetConfig) -> Preferences:
    """Return the rows of all sources, which share one schema, in the form of that schema.

    Raises:
        DataError: a source is empty, the schema is unknown or needs `dataset.criterion`, or rows can't be used: the
            message has file, row, field and value of the first five. With `on_bad_row=skip` such rows are counted and
            left out, as long as others remain.
    """
    known = dict.fromkeys([*(name for names in FIELDS.values() for name in names), *OPTIONAL_FIELDS])
    if unknown := [name for name in dataset.fields if name not in known]:
        raise DataError(
            f"`dataset.fields` renames `{unknown[0]}`, which no schema has; the fields are {', '.join(known)}."
        )
    if empty := [source.where for source in sources if not source.rows]:
        raise DataError(f"{empty[0]} holds no rows.")
    schema = detect_schema(sources, dataset)
    form, _ = CONVERTERS[schema]
    if form != DataSchema.pku and dataset.criterion is None:
        raise DataError(
            f"{sources[0].where} has the schema {schema.value}, whose labels are about one criterion, but "
            f"`dataset.criterion` is null. Try: dataset.criterion={HELPFULNESS} or dataset.criterion={SAFETY}"
        )
    rows, problems = [], []
    for source in sources:
        for number, value in source.rows:
            try:
                rows.append(_convert(value, schema, dataset, source.is_text))
            except BadRowError as error:
                problems.append((source.where, number, str(error)))
    if problems and (not rows or dataset.on_bad_row == OnBadRow.stop):
        is_guessed = dataset.schema == DataSchema.auto and schema != DataSchema.pku
        note = f"\nThe first row looks like {schema.value}; `dataset.schema` can name another." if is_guessed else ""
        raise DataError(list_problems(problems) + note)
    criterion = None if form == DataSchema.pku else dataset.criterion
    return Preferences(form, schema, criterion, tuple(rows), len(problems))


def detect_schema(sources: Sequence[RawRows], dataset: DatasetConfig) -> DataSchema:
    """Return `dataset.schema`, or the schema that the fields of the first object suggest."""
    if dataset.schema != DataSchema.auto:
        return dataset.schema
    first = next(((s.where, value) for s in sources for _, value in s.rows if isinstance(value, dict)), None)
    if first is None:
        return DataSchema.pku  # no row is an object, which the converter reports
    where, row = first[0], _rename(first[1], dataset)
    names = row.keys()
    if "conversations" in names:
        return DataSchema.sharegpt
    if names & (set(PKU_FIELDS) - {"prompt"}) or names <= {"prompt"}:
        return DataSchema.pku
    if names & {"completion", "label"}:
        return DataSchema.unpaired
    if names & {"chosen", "rejected"}:
        is_hh = "prompt" not in names and any(isinstance(row.get(name), str) for name in ("chosen", "rejected"))
        return DataSchema.hh if is_hh else DataSchema.pairs
    shown = ", ".join(map(str, list(row)[:SHOWN_FIELDS])) + (", …" if len(row) > SHOWN_FIELDS else "")
    raise DataError(
        f"{where} has no known schema: its first row has the fields {shown}. The schemas are\n"
        + "".join(f"  {schema.value}: {', '.join(fields)}\n" for schema, fields in FIELDS.items())
        + "`dataset.fields` maps other names. Try: +dataset.fields.prompt=NAME_IN_FILE"
    )


def _convert(value: Any, schema: DataSchema, dataset: DatasetConfig, is_text: bool) -> Row:
    """Return a row in its form; an error names the field as the file does."""
    check_object(value)
    row = _rename(value, dataset)
    try:
        return CONVERTERS[schema][1](read_cells(row) if is_text else row)
    except BadRowError as error:
        if error.field is None:
            raise
        name = error.field.split("[")[0].split(".")[0]
        raise BadRowError(dataset.fields.get(name, name) + error.field[len(name) :], error.problem) from error


def _rename(row: Row, dataset: DatasetConfig) -> Row:
    """Return the row with our names for the fields in `dataset.fields`."""
    if not dataset.fields:
        return row
    taken = {*dataset.fields, *dataset.fields.values()}
    kept = {name: value for name, value in row.items() if name not in taken}
    return kept | {ours: row[theirs] for ours, theirs in dataset.fields.items() if theirs in row}
