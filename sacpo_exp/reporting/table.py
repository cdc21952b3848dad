"""Scores as aligned text for the terminal and as Markdown."""

from collections.abc import Sequence

from sacpo_exp.reporting.cohort_sections import make_cohort_sections
from sacpo_exp.reporting.cohorts import Cohort
from sacpo_exp.reporting.numbers import shorten
from sacpo_exp.reporting.scores import GroupScores
from sacpo_exp.reporting.section import Rows, Section
from sacpo_exp.reporting.sections import make_sections

WIDTH = 120
SHORTEST = 12  # that words may become; with more columns than fit, the table is wider


def format_report(scores: GroupScores) -> str:
    """Everything about one group as plain text, at most 120 columns wide."""
    return _format(scores.group.heading, scores.group.provenance, make_sections(scores))


def format_cohort(cohort: Cohort) -> str:
    """Everything about groups that differ in the seed alone, in the same form."""
    return _format(f"Across policies: {cohort.heading}", cohort.provenance, make_cohort_sections(cohort))


def _format(heading: str, provenance: str, sections: Sequence[Section]) -> str:
    parts = [f"{shorten(heading, WIDTH)}\n{shorten(provenance, WIDTH)}"]
    for section in sections:
        parts.append("\n".join([section.title, *align(section.rows, section.left), section.note]))
    return "\n\n".join(parts) + "\n"


def format_markdown(scores: GroupScores) -> str:
    """The same as a Markdown document, with nothing shortened."""
    return _format_markdown(scores.group.heading, scores.group.provenance, make_sections(scores))


def format_cohort_markdown(cohort: Cohort) -> str:
    """The same about a cohort."""
    return _format_markdown(f"Across policies: {cohort.heading}", cohort.provenance, make_cohort_sections(cohort))


def _format_markdown(heading: str, provenance: str, sections: Sequence[Section]) -> str:
    parts = [f"# {_escape(heading)}", _escape(provenance)]
    for section in sections:
        parts += [f"## {section.title}", "\n".join(to_markdown(section.rows, section.left)), _escape(section.note)]
    return "\n\n".join(parts) + "\n"


def align(rows: Rows, left: int) -> list[str]:
    """Columns two spaces apart, words left and numbers right; the longest words are shortened to fit."""
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
    """Lines of a Markdown table; the first row holds the headings, the first `left` columns are words."""
    rule = ["---" if column < left else "--:" for column in range(len(rows[0]))]
    return [f"| {' | '.join(_escape(cell).strip() for cell in row)} |" for row in (rows[0], rule, *rows[1:])]


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("_", "\\_")
