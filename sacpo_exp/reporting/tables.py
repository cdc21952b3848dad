"""Tables as aligned text, as Markdown and as CSV, and how numbers are written in them."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sacpo_exp.method.policy import Policy
from sacpo_exp.statistics.intervals import Estimate

NOTHING: Final = "–"
WITHHELD: Final = "withheld"
WIDTH: Final = 120
SHORTEST: Final = 12  # that words may become; with more columns than fit, the table is wider
#: A spreadsheet takes a text that begins with one of these for a formula.
FORMULA: Final = ("=", "+", "-", "@")

Rows = Sequence[Sequence[str]]
Cell = Estimate | str | float | int | None
Row = dict[str, Cell]
#: Heading, key of the cells in a row, and format of numbers. An estimate is shown with its interval if that is "", or
#: "+" for differences; else its value alone.
Column = tuple[str, str, str]


@dataclass(frozen=True)
class Section:
    """A table with a title and a note: the first row holds the headings, the first `left` columns are words."""

    title: str
    rows: Rows
    left: int
    note: str


def make_section(title: str, rows: Sequence[Row], columns: Sequence[Column], left: int, note: str) -> Section:
    """Return some columns of the rows as text; the note's lines are wrapped."""
    lines = [[_format(row[key], spec) for _, key, spec in columns] for row in rows]
    note = "\n".join(textwrap.fill(line, WIDTH - 1) for line in note.splitlines())
    return Section(title, [[head for head, _, _ in columns], *lines], left, note)


def columns_of(*names: str, spec: str = "g") -> list[Column]:
    """Return columns whose headings are their keys."""
    return [(name, name, spec) for name in names]


def _format(cell: Cell, spec: str) -> str:
    if isinstance(cell, Estimate) and spec not in ("", "+"):
        return format_number(cell.value, spec)
    if isinstance(cell, Estimate):
        # Two blanks where there is no star, so that numbers are aligned.
        mark = (" *" if cell.excludes_zero else "  ") if spec == "+" else ""
        return format_estimate(cell, spec) + mark
    if isinstance(cell, int):
        return f"{cell:,}"
    return cell if isinstance(cell, str) else format_number(cell, spec)


def format_estimate(estimate: Estimate, sign: str = "") -> str:
    """Return "0.73 [0.62, 0.83]"; "–" if nothing was measured, "withheld" if too much is missing.

    `sign="+"` writes it before positive values too.
    """
    if estimate.n == 0:
        return NOTHING
    if math.isnan(estimate.value):
        return WITHHELD
    value, low, high = (format_number(number, f"{sign}.2f") for number in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def format_number(value: float | None, spec: str = "g") -> str:
    """Return `value` formatted by `spec`; "–" for None and NaN, and never a negative zero."""
    if value is None or math.isnan(value):
        return NOTHING
    return format(0.0 if float(format(value, spec)) == 0 else value, spec)


def format_weights(policy: Policy) -> str:
    """Return q of a merge of two policies, all weights of a merge of more, "–" for others."""
    return format_number(policy.merge_ratio) if len(policy.weights) < 3 else "/".join(f"{w:g}" for w in policy.weights)


def shorten(text: str, width: int) -> str:
    """Return `text` without its middle if it is too long; both ends tell policies apart."""
    return text if len(text) <= width else f"{text[: width // 2]}…{text[width // 2 + 1 - width :]}"


def format_text(heading: str, provenance: str, sections: Sequence[Section]) -> str:
    """Return a report as plain text, at most 120 columns wide."""
    parts = [f"{shorten(heading, WIDTH)}\n{shorten(provenance, WIDTH)}"]
    parts += ["\n".join([each.title, *align(each.rows, each.left), each.note]) for each in sections]
    return "\n\n".join(parts) + "\n"


def format_markdown(heading: str, provenance: str, sections: Sequence[Section]) -> str:
    """Return a report as Markdown, with nothing shortened."""
    parts = [f"# {_escape(heading)}", _escape(provenance)]
    for each in sections:
        parts += [f"## {each.title}", "\n".join(to_markdown(each.rows, each.left)), _escape(each.note)]
    return "\n\n".join(parts) + "\n"


def align(rows: Rows, left: int) -> list[str]:
    """Return lines with columns two spaces apart, words left and numbers right; long words are shortened to fit."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    while sum(widths) + 2 * (len(widths) - 1) > WIDTH and max(widths[:left], default=0) > SHORTEST:
        widths[max(range(left), key=lambda column: widths[column])] -= 1
    lines = []
    for row in rows:
        cells = [shorten(cell, width).ljust(width) for cell, width in zip(row[:left], widths, strict=False)]
        cells += [cell.rjust(width) for cell, width in zip(row[left:], widths[left:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines


def to_markdown(rows: Rows, left: int) -> list[str]:
    """Return the lines of a Markdown table; the first row holds the headings, the first `left` columns are words."""
    rule = ["---" if column < left else "--:" for column in range(len(rows[0]))]
    return [f"| {' | '.join(_escape(cell).strip() for cell in row)} |" for row in (rows[0], rule, *rows[1:])]


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("_", "\\_")


def to_csv(rows: Sequence[Mapping[str, Cell]]) -> str:
    """Return rows as CSV with full precision; None and NaN are empty cells, and no text is a formula."""
    import pandas as pd

    def escape(cell: Cell) -> Cell:
        return f"'{cell}" if isinstance(cell, str) and cell.lstrip().startswith(FORMULA) else cell

    frame = pd.DataFrame(map(spread_estimates, rows), dtype=object).map(escape)  # integers stay integers
    return str(frame.to_csv(index=False, lineterminator="\n"))


def spread_estimates(row: Mapping[str, Cell]) -> Row:
    """Return a row in which an estimate has four columns: value, `_low`, `_high`, and `_n` prompts."""
    cells: Row = {}
    for name, cell in row.items():
        if isinstance(cell, Estimate):
            cells |= {name: cell.value, f"{name}_low": cell.low, f"{name}_high": cell.high, f"{name}_n": cell.n}
        else:
            cells[name] = cell
    return cells
