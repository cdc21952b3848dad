"""The files of a report. Each is written under another name and renamed, so that none is seen incomplete."""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sacpo_exp.config.schema import FigureForm
from sacpo_exp.reporting.cohorts import Cohort, gap_rows
from sacpo_exp.reporting.figures import draw_preferences, draw_trade_off
from sacpo_exp.reporting.lineage import Lineage
from sacpo_exp.reporting.page import write_page
from sacpo_exp.reporting.panels import draw_panels
from sacpo_exp.reporting.preferences import PreferenceTable, preference_section
from sacpo_exp.reporting.published import published_rows
from sacpo_exp.reporting.scores import GroupScores, policy_row
from sacpo_exp.reporting.sections import Part, make_cohort_sections, make_sections
from sacpo_exp.reporting.tables import Row, format_markdown, to_csv

#: Files that an earlier report may have left: those of a second and further group, and those that not all groups have.
PASSING = re.compile(
    r"(table|differences|trade_off)-\d+\.\w+|(lengths|categories|judge|ratings|rewards|published|panels|across|seeds|gaps|preferences)"
    r"(-\d+)?\.(csv|md|png|svg|pdf)"
)


def write_report(parts: Sequence[Part], lineage: Lineage, folder: Path) -> list[Path]:
    """Write the files of all parts, remove those of parts that are no longer shown, and return the paths written.

    Files of the second part with a file of this name end in `-2`, and so on. `report.html` is about all of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[Path, bytes] = {}
    numbers: Counter[str] = Counter()
    for part in parts:
        kind = next(iter(part.files))
        numbers[kind] += 1
        for name, content in part.files.items():
            stem, ending = name.split(".")
            files[folder / (name if numbers[kind] == 1 else f"{stem}-{numbers[kind]}.{ending}")] = content
    files[folder / "report.html"] = write_page(parts, lineage)
    for path, content in files.items():
        _write_whole(path, content)
    for path in folder.iterdir():
        if PASSING.fullmatch(path.name) and path not in files:
            path.unlink(missing_ok=True)
    return list(files)


def make_group_part(scores: GroupScores, form: FigureForm = FigureForm.screen) -> Part:
    """Return tables and figures of a group; panels are drawn for a paper, and beside published numbers."""
    group, sections = scores.group, make_sections(scores)
    files = {name: to_csv(rows).encode() for name, rows in group_rows(scores).items()}
    files["table.md"] = format_markdown(group.heading, group.provenance, sections).encode()
    files |= _name("trade_off", draw_trade_off(scores))
    if set(scores.axes) <= group.measures.keys():
        files |= _name("rewards", draw_trade_off(replace(scores, by_score=True)))
    if form is FigureForm.paper or scores.published:
        files |= _name("panels", draw_panels(scores))
    return Part(group.heading, group.provenance, sections, files, scores)


def make_cohort_part(cohort: Cohort) -> Part:
    """Return tables and figures across groups."""
    sections = make_cohort_sections(cohort)
    files = {"across.md": format_markdown(cohort.heading, cohort.provenance, sections).encode()}
    if cohort.means:
        files["seeds.csv"] = to_csv([policy_row(row) for row in cohort.means.policies]).encode()
        files |= _name("seeds", draw_trade_off(cohort.means))
    if cohort.gaps:
        files["gaps.csv"] = to_csv(list(gap_rows(cohort))).encode()
    return Part(cohort.heading, cohort.provenance, sections, files, cohort.means)


def make_preference_part(table: PreferenceTable) -> Part:
    """Return the table and the figure of held-out pairs."""
    files = {"preferences.csv": to_csv(table.rows).encode(), **_name("preferences", draw_preferences(table))}
    return Part(table.heading, table.provenance, [preference_section(table)], files)


def _name(stem: str, drawn: Mapping[str, bytes]) -> dict[str, bytes]:
    return {f"{stem}.{kind}": content for kind, content in drawn.items()}


def _write_whole(path: Path, content: bytes) -> None:
    # The process id keeps two reports at the same moment from writing into the same file.
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def group_rows(scores: GroupScores) -> dict[str, list[Row]]:
    """Return the rows of each CSV file about a group; of all but the first two only those that have rows."""
    optional = {
        "lengths.csv": list(scores.lengths),
        "judge.csv": list(scores.conduct),
        "ratings.csv": [row for rows, _ in scores.ratings.values() for row in rows],
        "published.csv": list(published_rows(scores.published, scores.confidence)) if scores.published else [],
    }
    always = {"table.csv": list(map(policy_row, scores.policies)), "differences.csv": list(scores.differences)}
    return always | {name: rows for name, rows in optional.items() if rows}
