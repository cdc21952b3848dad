"""One row of every schema, converted into one of the three forms of `data.preferences`. Pure.

Each converter takes a row whose fields have our names, and raises BadRowError for what it can't use.
"""

import json
import re
from collections.abc import Callable
from typing import Any

from sacpo_exp.config.data import DataSchema
from sacpo_exp.data.checks import (
    FLAG_FIELDS,
    ID_FIELDS,
    PKU_FIELDS,
    BadRowError,
    check_flag,
    check_object,
    check_pku,
    check_text,
    show,
)
from sacpo_exp.data.preferences import Messages, Row, said

HARM_FIELDS = ("response_0_harm_category", "response_1_harm_category")
SEVERITY_FIELDS = ("response_0_severity_level", "response_1_severity_level")
#: Fields that every row of a schema needs; `prompt` of pairs may be missing where chosen and rejected are dialogues.
FIELDS = {
    DataSchema.pku: PKU_FIELDS,
    DataSchema.pairs: ("prompt", "chosen", "rejected"),
    DataSchema.unpaired: ("prompt", "completion", "label"),
    DataSchema.hh: ("chosen", "rejected"),
    DataSchema.sharegpt: ("conversations", "chosen", "rejected"),
}
OPTIONAL_FIELDS = ("categories", *HARM_FIELDS, *SEVERITY_FIELDS)

#: (who, what, names of roles) in a message of each kind.
_CHAT = ("role", "content", {"system": "system", "user": "user", "assistant": "assistant"})
_SHAREGPT = ("from", "value", {"system": "system", "human": "user", "gpt": "assistant"})
_HH_ROLES = {"Human": "user", "Assistant": "assistant"}
_HH_TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
_WORDS = {"true": True, "1": True, "false": False, "0": False}


def read_cells(row: dict[str, str]) -> Row:
    """A row of texts with its flags, ids and categories read; empty cells are missing fields.

    What can't be read stays a text, for the converter to complain about.
    """
    read: Row = {name: text for name, text in row.items() if text.strip()}
    for name in read.keys() & {*FLAG_FIELDS, "label"}:
        read[name] = _WORDS.get(read[name].strip().lower(), read[name])
    for name in read.keys() & {*ID_FIELDS, *SEVERITY_FIELDS}:
        if re.fullmatch(r"\s*[0-9]{1,9}\s*", read[name]):
            read[name] = int(read[name])
    for name in read.keys() & {*HARM_FIELDS, "categories"}:
        read[name] = _read_json(read[name])
    return read


def _read_json(text: str) -> Any:
    try:
        return json.loads(text) if text.lstrip().startswith(("{", "[")) else text
    except (ValueError, RecursionError):
        return text


def to_pku(row: Any) -> Row:
    """The seven fields, `categories` and `severity` where the row has them, and nothing else."""
    check_pku(row)
    kept = {name: row[name] for name in PKU_FIELDS}
    if given := [name for name in ("categories", *HARM_FIELDS) if row.get(name) is not None]:
        kept["categories"] = sorted({category for name in given for category in _read_categories(row[name], name)})
    if any(row.get(name) is not None for name in SEVERITY_FIELDS):
        kept["severity"] = [_read_severity(row.get(name), name) for name in SEVERITY_FIELDS]
    return kept


def _read_categories(value: Any, field: str) -> list[str]:
    """Names out of a list of names, one name, or {name: whether}."""
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


def _read_severity(value: Any, field: str) -> int:
    if type(value) is not int or value < 0:
        raise BadRowError(field, f"must be a whole number from 0, but is {show(value)}")
    return value


def to_pairs(row: Any) -> Row:
    """prompt, chosen, rejected, each a text or messages; without `prompt` the dialogues' shared start is it."""
    check_object(row)
    if "prompt" not in row:
        if all(isinstance(row.get(name), list) for name in ("chosen", "rejected")):
            chosen, rejected = (_read_messages(row[name], name, _CHAT) for name in ("chosen", "rejected"))
            return _split_dialogues(chosen, rejected)
        raise BadRowError("prompt", "is missing")
    prompt = _read_prompt(row, "prompt", _CHAT)
    return {"prompt": prompt} | {name: _read_completion(row, name, prompt) for name in ("chosen", "rejected")}


def to_unpaired(row: Any) -> Row:
    """prompt and completion, each a text or messages, and label."""
    check_object(row)
    prompt = _read_prompt(row, "prompt", _CHAT)
    completion = _read_completion(row, "completion", prompt)
    check_flag(_get(row, "label"), "label")
    return {"prompt": prompt, "completion": completion, "label": row["label"]}


def from_hh(row: Any) -> Row:
    """A pair out of two dialogues as in HH-RLHF, which differ in the last turn, the assistant's."""
    check_object(row)
    chosen, rejected = (_parse_hh(_get(row, name), name) for name in ("chosen", "rejected"))
    return _split_dialogues(chosen, rejected)


def from_sharegpt(row: Any) -> Row:
    """A pair out of `conversations`, the prompt's messages, and one message of the assistant in each of the others."""
    check_object(row)
    prompt = _read_prompt(row, "conversations", _SHAREGPT)
    pair = {}
    for name in ("chosen", "rejected"):
        pair[name] = _read_messages([_get(row, name)], name, _SHAREGPT, is_single=True)
        _check_one_answer(pair[name], name)
    return {"prompt": prompt} | pair


#: Form and converter of every schema.
CONVERTERS: dict[DataSchema, tuple[DataSchema, Callable[[Any], Row]]] = {
    DataSchema.pku: (DataSchema.pku, to_pku),
    DataSchema.pairs: (DataSchema.pairs, to_pairs),
    DataSchema.unpaired: (DataSchema.unpaired, to_unpaired),
    DataSchema.hh: (DataSchema.pairs, from_hh),
    DataSchema.sharegpt: (DataSchema.pairs, from_sharegpt),
}


def _get(row: Row, field: str) -> Any:
    if field not in row:
        raise BadRowError(field, "is missing")
    return row[field]


def _read_prompt(row: Row, field: str, kind: tuple[str, str, dict[str, str]]) -> Messages:
    value = _get(row, field)
    if kind is _CHAT and not isinstance(value, list):
        check_text(value, field)
        return said("user", value)
    messages = _read_messages(value, field, kind)
    if messages[-1]["role"] != "user":
        raise BadRowError(field, f"must end with a message of the user, but ends with one of {messages[-1]['role']}")
    return messages


def _read_completion(row: Row, field: str, prompt: Messages) -> Messages:
    value = _get(row, field)
    if not isinstance(value, list):
        check_text(value, field)
        return said("assistant", value)
    messages = _read_messages(value, field, _CHAT)
    if messages[: len(prompt)] == prompt:  # some files have the prompt again at the start of every response
        messages = messages[len(prompt) :]
    _check_one_answer(messages, field)
    return messages


def _check_one_answer(messages: Messages, field: str) -> None:
    roles = [message["role"] for message in messages]
    if roles != ["assistant"]:
        raise BadRowError(field, f"must be one message of the assistant, but is {show(roles)}")


def _read_messages(value: Any, field: str, kind: tuple[str, str, dict[str, str]], is_single: bool = False) -> Messages:
    """Messages of one kind as {"role", "content"}; what else they hold is left out."""
    who, what, names = kind
    if not isinstance(value, list) or not value:
        raise BadRowError(field, f"must be a list of messages, but is {show(value)}")
    messages = []
    for number, message in enumerate(value):
        place = field if is_single else f"{field}[{number}]"
        if not isinstance(message, dict):
            raise BadRowError(place, f'must be a message {{"{who}", "{what}"}}, but is {show(message)}')
        role = message.get(who)
        if not isinstance(role, str) or role not in names:
            raise BadRowError(f"{place}.{who}", f"must be one of {', '.join(names)}, but is {show(role)}")
        check_text(message.get(what), f"{place}.{what}")
        messages.append({"role": names[role], "content": message[what]})
    return messages


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
            messages += said(_HH_ROLES[name], content.strip())
    return messages


def _split_dialogues(chosen: Messages, rejected: Messages) -> Row:
    for name, messages in (("chosen", chosen), ("rejected", rejected)):
        if messages[-1]["role"] != "assistant":
            raise BadRowError(
                name, f"must end with a turn of the assistant, but ends with one of the {_last(messages)}"
            )
    if chosen[:-1] != rejected[:-1]:
        raise BadRowError(None, "`chosen` and `rejected` must share all turns before the last, but do not")
    if len(chosen) < 2 or chosen[-2]["role"] != "user":
        raise BadRowError("chosen", "must have a turn of the user before the assistant's last, but has none")
    return {"prompt": chosen[:-1], "chosen": chosen[-1:], "rejected": rejected[-1:]}


def _last(messages: Messages) -> str:
    return messages[-1]["role"]
