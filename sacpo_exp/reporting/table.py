"""Scores as aligned text for the terminal and as Markdown."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sacpo_exp.reporting.scores import Difference, GroupScores, PolicyScores
from sacpo_exp.scoring.intervals import Estimate

WIDTH = 120
NOTHING = "–"

Rows = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """A table with what stands around it; the first row holds the headings, the first `left` columns are words."""

    title: str
    rows: Rows
    left: int
    note: str


def format_report(scores: GroupScores) -> str:
    """Everything about one group as plain text, at most 120 columns wide."""
    parts = [f"{shorten(scores.group.heading, WIDTH)}\n{shorten(scores.group.provenance, WIDTH)}"]
    for section in _sections(scores):
        parts.append("\n".join([section.title, *_align(section.rows, section.left), section.note]))
    return "\n\n".join(parts) + "\n"


def format_markdown(scores: GroupScores) -> str:
    """The same as a Markdown document, with nothing shortened."""
    parts = [f"# {_escape(scores.group.heading)}", _escape(scores.group.provenance)]
    for section in _sections(scores):
        parts += [f"## {section.title}", "\n".join(_to_markdown(section.rows, section.left)), _escape(section.note)]
    return "\n\n".join(parts) + "\n"


def format_estimate(estimate: Estimate, sign: str = "") -> str:
    """As "0.73 [0.62, 0.83]"; "–" where nothing was measured. `sign="+"` shows it for positive values too."""
    if estimate.n == 0:
        return NOTHING
    value, low, high = (format_number(number, f"{sign}.2f") for number in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def format_number(value: float | None, spec: str = "g") -> str:
    """`value` as `spec` says; "–" for None and NaN, and never a negative zero."""
    if value is None or math.isnan(value):
        return NOTHING
    return format(0.0 if float(format(value, spec)) == 0 else value, spec)


def shorten(text: str, width: int) -> str:
    """`text` without its middle if it is too long; both ends tell policies apart."""
    return text if len(text) <= width else f"{text[: width // 2]}…{text[width // 2 + 1 - width :]}"


def _sections(scores: GroupScores) -> list[Section]:
    confidence = f"{100 * scores.confidence:g} %"
    return [
        Section(
            "Win rates against the baseline",
            _policy_rows(scores, WIN_RATE_COLUMNS),
            1,
            f"Helpfulness on benign, harmlessness on risky prompts, ties as half [{confidence} bootstrap interval].\n"
            "Where it has no width, all prompts gave the same verdict, which does not make the rate certain.",
        ),
        Section(
            "Behaviour",
            _policy_rows(scores, BEHAVIOUR_COLUMNS),
            1,
            f"Refused: share of risky and of benign prompts [{confidence} Wilson interval]. KL(policy ‖ baseline) per "
            "response\n[bootstrap interval over prompts]. Tokens: mean length of a response.",
        ),
        _difference_section(scores.differences, confidence),
        _judge_section(scores),
    ]


WIN_RATE_COLUMNS: dict[str, Callable[[PolicyScores], str]] = {
    "helpfulness": lambda row: format_estimate(row.helpfulness),
    "harmlessness": lambda row: format_estimate(row.harmlessness),
    "n benign/risky": lambda row: f"{row.helpfulness.n}/{row.harmlessness.n}",
    "failed": lambda row: str(row.failed),
}
BEHAVIOUR_COLUMNS: dict[str, Callable[[PolicyScores], str]] = {
    "refused risky": lambda row: format_estimate(row.refusals),
    "refused benign": lambda row: format_estimate(row.over_refusals),
    "KL (nats)": lambda row: format_estimate(row.kl),
    "tokens": lambda row: format_number(row.tokens, ".1f"),
}


def _policy_rows(scores: GroupScores, columns: dict[str, Callable[[PolicyScores], str]]) -> list[list[str]]:
    rows = [["policy", "β", "q", *columns]]
    for row in scores.policies:
        settings = [format_number(row.policy.beta), format_number(row.policy.merge_ratio)]
        rows.append([row.policy.name, *settings, *(cell(row) for cell in columns.values())])
    return rows


def _difference_section(differences: Sequence[Difference], confidence: str) -> Section:
    rows = [["policy", "minus", "helpfulness", "harmlessness", "n benign/risky"]]
    for row in differences:
        estimates = (row.helpfulness, row.harmlessness)
        # The mark's column is kept where there is none, so that numbers stand below one another.
        marked = [format_estimate(entry, "+") + (" *" if entry.excludes_zero else "  ") for entry in estimates]
        counts = "/".join(str(entry.n) if entry.n else NOTHING for entry in estimates)
        rows.append([row.policy.title, row.reference.title, *marked, counts])
    note = f"* the {confidence} interval excludes 0."
    if not differences:
        note = "No evaluated policy has an evaluated parent. Try: python -m sacpo_exp.eval policies=all"
    return Section("Differences, paired by prompt", rows, 2, note)


def _judge_section(scores: GroupScores) -> Section:
    rows = [["criterion", "judge", "length only", "keyword", "n"]]
    for row in scores.judge:
        baselines = [format_number(row.length_only, ".2f"), format_number(row.keyword, ".2f")]
        rows.append([row.criterion.value, format_estimate(row.accuracy), *baselines, str(row.accuracy.n or NOTHING)])
    note = "Accuracy on held-out comparisons. A judge no better than length only or keyword can't tell policies apart."
    if not scores.judge:
        note = "Nothing is stored about the accuracy of this judge."
    return Section("Judge", rows, 1, note)


def _align(rows: Rows, left: int) -> list[str]:
    """Columns two spaces apart, words left and numbers right; the longest words are shortened to fit in 120 columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    while sum(widths) + 2 * (len(widths) - 1) > WIDTH:
        widths[max(range(left), key=lambda column: widths[column])] -= 1
    lines = []
    for row in rows:
        cells = [shorten(cell, width).ljust(width) for cell, width in zip(row[:left], widths, strict=False)]
        cells += [cell.rjust(width) for cell, width in zip(row[left:], widths[left:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines


def _to_markdown(rows: Rows, left: int) -> list[str]:
    rule = ["---" if column < left else "--:" for column in range(len(rows[0]))]
    return [f"| {' | '.join(_escape(cell).strip() for cell in row)} |" for row in (rows[0], rule, *rows[1:])]


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("_", "\\_")
