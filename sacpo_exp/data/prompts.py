"""Prompts: rows of files, their ids and order, and the prompts of an evaluation.

A prompt has `prompt_id`, `prompt` and, where known, `kind` (as criteria name it) and `category`, else None. A prompt of
several messages also has `messages`; `prompt` is then the text of all, which judges and readers see.
"""

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from sacpo_exp.config.data import DatasetConfig, DatasetSource, PromptsConfig, PromptsSource
from sacpo_exp.data.checks import BadRowError, check_object, check_text, list_problems, printable, show
from sacpo_exp.data.demo import generate_prompts
from sacpo_exp.data.files import RawRows, read_raw
from sacpo_exp.data.forms import read_conversation
from sacpo_exp.data.preferences import Key, Messages, as_message, key_of, messages_of
from sacpo_exp.data.sources import read_hub
from sacpo_exp.errors import DataError
from sacpo_exp.method.criteria import Criterion
from sacpo_exp.store import content_hash

Prompt = dict[str, Any]
Read = TypeVar("Read")

#: Kinds of the paper's and the demo's prompts; files may have others, which criteria name.
BENIGN, RISKY = "benign", "risky"
#: Not values: an empty cell of a csv is ''.
EMPTY = (None, "")


@dataclass(frozen=True)
class Entry(Generic[Read]):
    """The value read from a row, and the place of the row."""

    where: str
    number: int
    value: Read


def read_rows(raw: RawRows, read: Callable[[Any], Read]) -> list[Entry[Read]]:
    """Apply `read` to every row of a file; DataError without rows, or where `read` raises BadRowError."""
    path = raw.where
    if not raw.rows:
        raise DataError(f"{path} holds no rows.")
    entries, problems = [], []
    for number, row in raw.rows:
        try:
            entries.append(Entry(path, number, read(row)))
        except BadRowError as error:
            problems.append((path, number, str(error)))
    if problems:
        raise DataError(list_problems(problems))
    return entries


def read_prompt(row: Any, prompts: PromptsConfig, kind: str | None) -> Prompt:
    """Read the prompt of a row, or of a plain text, by the fields that `prompts` names.

    `prompt_id` is that of the row, or its `id`, or None. `kind` is that of a row that gives none.
    """
    field = prompts.field
    if isinstance(row, str):
        row = {field: row}
    check_object(row)
    if field not in row:
        raise BadRowError(field, f"is missing among {list_fields(row)}. Try: prompts.field=NAME")
    messages = read_conversation(row[field], field)
    label = _read_label(row, prompts.kind_field)
    if prompts.kinds and label not in prompts.kinds:
        raise BadRowError(prompts.kind_field, f"must be one of {', '.join(prompts.kinds)}, but is {show(label)}")
    prompt = {
        "prompt_id": _read_id(row),
        "prompt": messages[0]["content"],
        "kind": prompts.kinds.get(label or "", label) or kind,
        "category": _read_label(row, prompts.category_field),
    }
    return prompt if len(messages) == 1 else _with_messages(prompt, messages)


def _with_messages(prompt: Prompt, messages: Messages) -> Prompt:
    text = "\n\n".join(f"[{message['role']}]\n{message['content']}" for message in messages)
    return prompt | {"prompt": text, "messages": messages}


def asked_of(prompt: Prompt) -> str | Key:
    """Return what a policy is asked: the text of the user's only message, or the key of several messages."""
    return key_of(prompt["messages"]) if "messages" in prompt else str(prompt["prompt"])


def list_fields(row: dict[str, Any]) -> str:
    """Return the names of a row's fields for a message."""
    return ", ".join(f"`{name}`" for name in row) or "none"


def number_prompts(entries: Iterable[Entry[Prompt]]) -> list[Prompt]:
    """Return the prompts, each with an id: its own, or a hash of its text, which is the same in every file.

    A text without an id that occurs again gets `-2`, `-3`, … after the hash. DataError if two rows have one id.
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
    """Order prompts by taking kinds in turn and, within a kind, categories in turn.

    The first n hold all kinds as evenly as possible, for any n. Prompts without kind and category keep their order.
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
        if value not in EMPTY:
            name = str(value) if type(value) is int else value
            check_text(name, field)
            return str(name)
    return None


def _read_label(row: dict[str, Any], field: str) -> str | None:
    value = row.get(field)
    if value in EMPTY:
        return None
    check_text(value, field)
    return printable(str(value))


def load_prompts(prompts: PromptsConfig, dataset: DatasetConfig) -> list[Prompt]:
    """Load the evaluation prompts, kinds in turn, so that the first `prompts.limit` hold all kinds evenly.

    The demo's evaluation prompts depend on the dataset's seed, because its split does.

    Raises:
        DataError: a file can't be read, has no rows or rows that can't be used, or two with one id.
    """
    if prompts.source == PromptsSource.demo:
        seed = dataset.seed if dataset.source == DatasetSource.demo else 0
        loaded = generate_prompts(seed)[: prompts.limit]
    else:
        loaded = take_in_turn(number_prompts(_read_files(prompts)))[: prompts.limit]
    if prompts.system is None:
        return loaded
    asked = [(prompt, messages_of(asked_of(prompt))) for prompt in loaded]
    first = as_message("system", prompts.system)
    return [p if m[0]["role"] == "system" else _with_messages(p, first + m) for p, m in asked]


def check_kinds(prompts: Collection[Prompt], criteria: Collection[Criterion]) -> None:
    """Raise DataError for the first prompt that none of the criteria counts: its kind may be misspelt."""
    for prompt in prompts:
        if not any(criterion.counts(prompt["kind"]) for criterion in criteria):
            kinds = dict.fromkeys(kind for criterion in criteria for kind in criterion.prompt_kinds)
            raise DataError(
                f"the prompt {show(prompt['prompt_id'])} is of the kind {show(prompt['kind'])}, which no criterion "
                f"counts; their `prompt_kinds` are {', '.join(kinds)}. Prompts without a kind count for all."
            )


def foresee_prompts(prompts: PromptsConfig) -> list[Prompt]:
    """Return as many blank prompts as there will be, for a plan; none if files are given or nothing is foreseen."""
    size = prompts.foreseen
    if size is None or prompts.helpful_path or prompts.safety_path:
        return []
    kinds = [BENIGN] * size.benign + [RISKY] * size.risky
    names = [f"foreseen-{number}" for number in range(1, len(kinds) + 1)]
    blank = [
        {"prompt_id": name, "prompt": name.ljust(size.characters, "."), "kind": kind, "category": None}
        for name, kind in zip(names, kinds, strict=True)
    ]
    return take_in_turn(blank)[: prompts.limit]


def fingerprint_prompts(prompts: PromptsConfig, dataset: DatasetConfig) -> str:
    """Return a hash of the prompts that `load_prompts` gives."""
    return content_hash(load_prompts(prompts, dataset))


def _read_files(prompts: PromptsConfig) -> list[Entry[Prompt]]:
    files: list[tuple[str, str | None]]
    if prompts.source == PromptsSource.sacpo:
        files = [(path, kind) for path, kind in ((prompts.helpful_path, BENIGN), (prompts.safety_path, RISKY)) if path]
    else:
        files = [(prompts.path or "", prompts.kind)]
    entries: list[Entry[Prompt]] = []
    is_hub = prompts.source == PromptsSource.hub
    for path, kind in files:
        if is_hub:
            hub = DatasetConfig(prompts.name, DatasetSource.hub, path, prompts.revision, prompts.subset)
            raw = read_hub(hub, prompts.split)
        else:
            raw = read_raw(Path(path).expanduser(), path)
        if where := prompts.where:
            kept = [(n, row) for n, row in raw.rows if isinstance(row, dict) and where.items() <= row.items()]
            raw = replace(raw, where=f"{raw.where} where {where}", rows=kept)
        entries += read_rows(raw, functools.partial(read_prompt, prompts=prompts, kind=kind))
    if is_hub:  # rows are often responses, so that prompts occur again and again
        first = {entry.value["prompt"]: entry for entry in reversed(entries)}
        entries = sorted(first.values(), key=lambda entry: entry.number)
    return entries
