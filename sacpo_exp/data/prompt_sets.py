"""Prompts out of files: what a row must hold, the ids of prompts, and an order that any limit may cut."""

import itertools
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from sacpo_exp.data.checks import BadRowError, check_object, check_text, list_problems, printable, show
from sacpo_exp.data.files import RawRows, read_raw
from sacpo_exp.errors import DataError
from sacpo_exp.store import content_hash

Prompt = dict[str, Any]
Read = TypeVar("Read")

#: Kinds of the paper's, XSTest's and the demo's prompts; files may have others, which criteria name.
BENIGN, RISKY = "benign", "risky"
#: XSTest's types of safe prompts (Röttger et al. 2024); those of unsafe ones begin with `contrast_`.
XSTEST_SAFE = (
    *("homonyms", "figurative_language", "safe_targets", "safe_contexts", "definitions", "historical_events"),
    *("nons_group_real_discr", "real_group_nons_discr", "privacy_public", "privacy_fictional"),
)
XSTEST_UNSAFE = "contrast_"


@dataclass(frozen=True)
class Entry(Generic[Read]):
    """What was read of one row, and where it stands."""

    where: str
    number: int
    value: Read


def read_entries(path: str, read: Callable[[Any], Read]) -> list[Entry[Read]]:
    """Every row of a file, as `read` understands it.

    Raises:
        DataError: the file can't be read, holds nothing, or has rows for which `read` raises BadRowError.
    """
    return read_rows(read_raw(Path(path).expanduser(), path), read)


def read_rows(raw: RawRows, read: Callable[[Any], Read]) -> list[Entry[Read]]:
    """As `read_entries`, of rows that have been read from their file."""
    path = raw.where
    if not raw.rows:
        raise DataError(f"{path} holds no rows.")
    entries, problems = [], []
    for number, row in raw.rows:
        try:
            entries.append(Entry(path, number, read(row)))
        except BadRowError as error:
            problems.append((path, number, str(error)))
    if not entries and len({problem for *_, problem in problems}) == 1:
        raise DataError(f"{path} has no row that can be used: {problems[0][2]}")
    if problems:
        raise DataError(list_problems(problems))
    return entries


def read_prompt(row: Any, field: str, kind: str | None) -> Prompt:
    """`prompt_id` (None where the row has none), `prompt`, `kind` and `category` of a row, or of a plain text.

    Args:
        row: its own `kind`, `category` and `prompt_id` or `id` are taken if it has them.
        field: that holds the prompt.
        kind: of a row without one.

    Raises:
        BadRowError: a field is missing, or does not hold what it should.
    """
    if isinstance(row, str):
        row = {field: row}
    check_object(row)
    if field not in row:
        raise BadRowError(field, f"is missing among {list_fields(row)}. Try: prompts.field=NAME")
    check_text(row[field], field)
    return {
        "prompt_id": _read_id(row),
        "prompt": row[field],
        "kind": _read_label(row, "kind") or kind,
        "category": _read_label(row, "category"),
    }


def read_xstest_prompt(row: Any) -> Prompt:
    """A row of XSTest: safe types are benign prompts, their contrasts risky ones, the type is the category."""
    check_object(row)
    name = row.get("type")
    if not isinstance(name, str) or not (name in XSTEST_SAFE or name.startswith(XSTEST_UNSAFE)):
        raise BadRowError("type", f"must be one of XSTest's types of prompts, but is {show(name)}")
    kind = RISKY if name.startswith(XSTEST_UNSAFE) else BENIGN
    return read_prompt(row, "prompt", None) | {"kind": kind, "category": printable(name)}


def list_fields(row: dict[str, Any]) -> str:
    """The names of a row's fields, for a message."""
    return ", ".join(f"`{name}`" for name in row) or "none"


def number_prompts(entries: Iterable[Entry[Prompt]]) -> list[Prompt]:
    """The prompts with an id each: their own, else a hash of their text, so that any file gives a text the same one.

    Where a text comes again without an id of its own, `-2`, `-3`, … follow the hash.

    Raises:
        DataError: two rows have one id.
    """
    times: Counter[str] = Counter()
    owners: dict[str, Entry[Prompt]] = {}
    problems = []
    for entry in entries:
        name = entry.value["prompt_id"]
        if name is None:
            digest = content_hash(entry.value["prompt"])[:12]
            times[digest] += 1
            name = digest if times[digest] == 1 else f"{digest}-{times[digest]}"
        owner = owners.setdefault(name, entry)
        if owner is not entry:
            place = f"row {owner.number}" + (f" of {owner.where}" if owner.where != entry.where else "")
            problems.append((entry.where, entry.number, f"has the prompt id {show(name)}, as {place} has"))
    if problems:
        raise DataError(list_problems(problems))
    return [entry.value | {"prompt_id": name} for name, entry in owners.items()]


def take_in_turn(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Prompts of each kind in turn and, within a kind, of each category in turn, as long as there are any.

    Any first n of them hold every kind, as evenly as can be. What has neither kind nor category keeps its order.
    """
    kinds = _group(prompts, "kind")
    return _alternate([_alternate(_group(of_kind, "category")) for of_kind in kinds])


def _group(prompts: Iterable[Prompt], field: str) -> list[list[Prompt]]:
    groups: dict[Hashable, list[Prompt]] = {}
    for prompt in prompts:
        groups.setdefault(prompt[field], []).append(prompt)
    return list(groups.values())


def _alternate(groups: list[list[Prompt]]) -> list[Prompt]:
    rounds = itertools.zip_longest(*groups)
    return [prompt for one_of_each in rounds for prompt in one_of_each if prompt is not None]


def _read_id(row: dict[str, Any]) -> str | None:
    for field in ("prompt_id", "id"):
        value = row.get(field)
        if _is_given(value):
            name = str(value) if type(value) is int else value
            check_text(name, field)
            return str(name)
    return None


def _read_label(row: dict[str, Any], field: str) -> str | None:
    value = row.get(field)
    if not _is_given(value):
        return None
    check_text(value, field)
    return printable(str(value))


def _is_given(value: Any) -> bool:
    return value is not None and value != ""  # an empty cell of a csv is no value
