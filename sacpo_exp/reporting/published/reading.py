"""Published numbers from a yaml file: one that is shipped, by name, or one of a user, and what is wrong with it."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

import yaml

from sacpo_exp.config.messages import did_you_mean
from sacpo_exp.errors import ConfigError, DataError
from sacpo_exp.reporting.groups import Evaluation
from sacpo_exp.scoring.intervals import Estimate, wilson

Plain = Mapping[str, Any]

SHIPPED: Final = resources.files("sacpo_exp.reporting.published")
TEXTS: Final = ("title", "short", "url", "judge", "model", "dataset", "prompts")
COUNTS: Final = ("n_benign", "n_risky")
RATES: Final = ("helpfulness", "harmlessness")
#: Keys of a row: those that it must have, and those that it may have.
NEEDED: Final = ("family", *RATES, "source")
NUMBERS: Final = ("first_beta", "beta", "merge_ratio")
OPTIONAL: Final = (*NUMBERS, "note", "also")


@dataclass(frozen=True)
class PublishedRow:
    """What others found of one policy, with the intervals that their number of prompts gives.

    Attributes:
        policy: with its family, q, and β of its last and, where that is known, of its first stage; without records.
        source: the row of the table, and what else tells what was trained.
        note: what was corrected; mostly empty.
        also: other names of it: of its published weights, or in its authors' code.
    """

    policy: Evaluation
    helpfulness: Estimate
    harmlessness: Estimate
    source: str
    note: str
    also: tuple[str, ...]

    @property
    def seeds(self) -> tuple[()]:
        """None is published."""
        return ()


@dataclass(frozen=True)
class Published:
    """A table of others.

    Attributes:
        title, short: of the table, for notes and for legends.
        url: where it is.
        judge, model, dataset, prompts: as ours are called, so that a report can say where they differ.
        confidence: of the rows' intervals.
    """

    title: str
    short: str
    url: str
    judge: str
    model: str
    dataset: str
    prompts: str
    confidence: float
    rows: tuple[PublishedRow, ...]


def list_shipped() -> list[str]:
    """Names that `against` knows."""
    return sorted(Path(entry.name).stem for entry in SHIPPED.iterdir() if entry.name.endswith(".yaml"))


def read_published(against: str, confidence: float) -> Published:
    """The table of this name, or in this file.

    Args:
        confidence: of the Wilson intervals, in (0, 1).

    Raises:
        ConfigError: there is neither such a name nor such a file.
        DataError: the file is not of the form that it should be; the first thing that is wrong.
    """
    names = list_shipped()
    path = Path(against).expanduser()
    if against in names:
        text = (SHIPPED / f"{against}.yaml").read_text("utf-8")
    elif path.is_file():
        text = _read_text(path)
    else:
        raise ConfigError(
            f"`against` must be one of {', '.join(names)}, or a yaml file of the same form, but is {against}."
            f"{did_you_mean(against, names)}"
        )
    content = _parse(text, against)
    for problem in _find_problems(content):
        raise DataError(f"{against}: {problem}")
    rows = tuple(_make_row(row, content, confidence) for row in content["rows"])
    repeated = [title for title, n in Counter(row.policy.title for row in rows).items() if n > 1]
    if repeated:
        raise DataError(f"{against}: `rows` must each be about another policy, but more than one is {repeated[0]}.")
    return Published(**{name: content[name] for name in TEXTS}, confidence=confidence, rows=rows)


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} can't be read as text: {error}") from error


def _parse(text: str, name: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        reason = f"line {mark.line + 1}: {problem}" if mark else " ".join(str(error).split())
        raise DataError(f"{name} can't be read as yaml: {reason}.") from error


def _find_problems(content: Any) -> Iterator[str]:
    """Everything wrong with a parsed file, as sentences."""
    if not isinstance(content, dict):
        yield f"must hold keys, `title` and others, but holds {_show(content)}."
        return
    yield from _check_keys("", content, (*TEXTS, *COUNTS, "rows"), ())
    for name in TEXTS:
        yield from _check_text(name, content[name])
    for name in COUNTS:
        value = content[name]
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            yield f"`{name}` must be a number of prompts, 1 or more, but is {_show(value)}."
    if not isinstance(content["rows"], list) or not content["rows"]:
        yield f"`rows` must be a list of rows, but is {_show(content['rows'])}."
        return
    for place, row in enumerate(content["rows"]):
        yield from _check_row(f"rows[{place}]", row)


def _check_row(key: str, row: Any) -> Iterator[str]:
    if not isinstance(row, dict):
        yield f"`{key}` must hold keys, `family` and others, but is {_show(row)}."
        return
    yield from _check_keys(f"{key}.", row, NEEDED, OPTIONAL)
    for name in ("family", "source", "note"):
        if name in row:
            yield from _check_text(f"{key}.{name}", row[name])
    also = row.get("also", [])
    if not isinstance(also, list) or not all(isinstance(name, str) for name in also):
        yield f"`{key}.also` must be a list of names, but is {_show(also)}."
    for name in (*RATES, *(name for name in NUMBERS if row.get(name) is not None)):
        value = row[name]
        is_beta = "beta" in name
        if not _is_number(value) or value < 0 or (value > 1 and not is_beta) or (value == 0 and is_beta):
            allowed = "above 0" if is_beta else "from 0 to 1"
            yield f"`{key}.{name}` must be a number {allowed}, but is {_show(value)}."


def _check_keys(prefix: str, found: Plain, needed: tuple[str, ...], optional: tuple[str, ...]) -> Iterator[str]:
    for name in needed:
        if name not in found:
            yield f"`{prefix}{name}` is missing."
    for name in found:
        if name not in (*needed, *optional):
            yield f"`{prefix}{name}` is not known.{did_you_mean(str(name), [*needed, *optional])}"


def _check_text(key: str, value: Any) -> Iterator[str]:
    if not isinstance(value, str) or not value.strip():
        yield f"`{key}` must be a text, but is {_show(value)}."


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _show(value: Any) -> str:
    return "null" if value is None else repr(value)[:60]


def _make_row(row: Plain, content: Plain, confidence: float) -> PublishedRow:
    labels = {name: row.get(name) for name in ("family", *NUMBERS)}
    labels |= {"policy": row["family"], "policy_id": "", "baseline_id": None, "model": content["model"]}
    rates = {
        name: wilson(row[name] * content[n], content[n], confidence) for name, n in zip(RATES, COUNTS, strict=True)
    }
    return PublishedRow(
        Evaluation(labels, [], {}, ""),
        **rates,
        source=row["source"],
        note=row.get("note", ""),
        also=tuple(row.get("also", ())),
    )
