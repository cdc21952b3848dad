"""Texts side by side in a terminal. Pure."""

import itertools
import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Final

#: Narrower columns are not worth reading: then one text stands below the other.
NARROWEST: Final = 24
GAP: Final = "  "


def format_columns(texts: Sequence[tuple[str, str]], width: int) -> str:
    """(title, text) in columns of equal width, or below one another where `width` has no room for all of them."""
    room = (width - len(GAP) * (len(texts) - 1)) // len(texts)
    if room < NARROWEST and len(texts) > 1:
        return "\n\n".join(format_columns([one], width) for one in texts)
    columns = [[*wrap(title, room), "─" * room, *wrap(text, room)] for title, text in texts]
    heads = max(len(wrap(title, room)) for title, _ in texts)
    columns = [
        [""] * (heads - len(wrap(title, room))) + column for (title, _), column in zip(texts, columns, strict=True)
    ]
    rows = itertools.zip_longest(*columns, fillvalue="")
    return "\n".join(GAP.join(_pad(cell, room) for cell in row).rstrip() for row in rows)


def wrap(text: str, width: int) -> list[str]:
    """Lines of at most `width` cells, paragraphs kept, without what would move the cursor."""
    lines: list[str] = []
    for paragraph in text.splitlines():
        shown = "".join(c if c.isprintable() else " " for c in paragraph)
        lines += [part for line in textwrap.wrap(shown, width) or [""] for part in _cut(line, width)]
    return lines


def _cut(line: str, width: int) -> Iterator[str]:
    """Parts of a line whose characters may take two cells each, as Chinese ones do."""
    part = ""
    for character in line:
        if measure(part + character) > width:
            yield part
            part = ""
        part += character
    yield part


def _pad(text: str, width: int) -> str:
    return text + " " * (width - measure(text))


def measure(text: str) -> int:
    """Cells that a text takes in a terminal."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
