"""What a row's fields have to hold, and how a user is told which do not. Pure."""

import itertools
import math
import re
import reprlib
from collections.abc import Sequence
from typing import Any

TEXT_FIELDS = ("prompt", "response_0", "response_1")
FLAG_FIELDS = ("is_response_0_safe", "is_response_1_safe")
ID_FIELDS = ("better_response_id", "safer_response_id")
PKU_FIELDS = (*TEXT_FIELDS, *FLAG_FIELDS, *ID_FIELDS)
SHOWN = 5
LONGEST = 80  # characters of a value that are shown

#: Characters that a terminal obeys: control characters, line separators, and those that turn the direction of writing.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")

_REPR = reprlib.Repr()  # looks no deeper and no further than it shows, however huge a value is
_REPR.maxstring = _REPR.maxother = LONGEST


class BadRowError(Exception):
    """One row can't be used: `field` (none: the row as a whole) and what is wrong with it."""

    def __init__(self, field: str | None, problem: str) -> None:
        self.field, self.problem = field, problem
        super().__init__(f"`{field}` {problem}" if field else problem)


def list_problems(problems: Sequence[tuple[str, int, str]]) -> str:
    """Return the first five of (file, row number, problem) with their files, and how many more there are."""
    lines: list[str] = []
    for where, group in itertools.groupby(problems[:SHOWN], key=lambda problem: problem[0]):
        lines.append(f"{where} has rows that can't be used:")
        lines += [f"row {number}: {problem}" for _, number, problem in group]
    if len(problems) > SHOWN:
        lines.append(f"… and {len(problems) - SHOWN} more")
    return "\n".join(lines)


def show(value: Any) -> str:
    """Return a value for a message, at most 80 characters of it."""
    text = _REPR.repr(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def printable(text: str) -> str:
    """Return the text on one line, without the characters that a terminal obeys."""
    return _CONTROL.sub("", " ".join(text.splitlines()))


def check_object(row: Any) -> None:
    """Raise BadRowError unless `row` is a mapping of fields."""
    if not isinstance(row, dict):
        raise BadRowError(None, f"must be an object, but is {type(row).__name__}")


def check_text(value: Any, field: str) -> None:
    """Raise BadRowError unless `value` is a text that says something and can be written as UTF-8."""
    if not isinstance(value, str) or not value.strip():
        raise BadRowError(field, f"must be a text, but is {show(value)}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:  # half a surrogate pair: JSON can say it, Arrow can't hold it
            spot = value[max(0, error.start - 10) : error.start + 10]
            raise BadRowError(field, f"must be valid Unicode, but has {show(spot)}") from error


def check_id(value: Any, field: str) -> None:
    """Raise BadRowError unless `value` is 0 or 1."""
    if type(value) is not int or value not in (0, 1):
        raise BadRowError(field, f"must be 0 or 1, but is {show(value)}")


def check_flag(value: Any, field: str) -> None:
    """Raise BadRowError unless `value` is true or false."""
    if not isinstance(value, bool):
        raise BadRowError(field, f"must be true or false, but is {show(value)}")


def read_margin(value: Any) -> float:
    """Return a number, or raise BadRowError for what is none or not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadRowError("margin", f"must be a finite number, but is {show(value)}")
    return float(value)
