"""The files of a report. Each is written under another name and renamed, so that none is seen incomplete."""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sacpo_exp.config.schema import FigureForm
from sacpo_exp.reporting.cohorts import Cohort, gap_rows
from sacpo_exp.reporting.figures import draw_preferences, draw_trade_off
from sacpo_exp.reporting.lineage import Lineage
from sacpo_exp.reporting.page import write_page
from sacpo_exp.reporting.panels import draw_panels
from sacpo_exp.reporting.preferences import PreferenceTable
from sacpo_exp.reporting.published import published_rows
from sacpo_exp.reporting.scores import GroupScores, policy_row
from sacpo_exp.reporting.sections import make_cohort_sections, make_sections
from sacpo_exp.reporting.tables import Row, format_markdown, to_csv

#: Files that an earlier report may have left: those of a second and further group, and those that not all groups have.
PASSING = re.compile(
    r"(table|differences|trade_off)-\d+\.\w+|(lengths|categories|judge|ratings|rewards|published|panels|across|seeds|gaps|preferences)"
    r"(-\d+)?\.(csv|md|png|svg|pdf)"
)

#: Pictures that the page shows.
PICTURES = ("trade_off.svg", "seeds.svg", "preferences.svg")


def write_report(
    scores: Sequence[GroupScores],
    cohorts: Sequence[Cohort],
    lineage: Lineage,
    folder: Path,
    form: FigureForm = FigureForm.screen,
    preferences: Sequence[PreferenceTable] = (),
) -> list[Path]:
    """Write the files of all groups, remove those of groups that are no longer shown, and return the paths written.

    Files about the second group or cohort end in `-2`, and so on. `report.html` is about all of them; panels are drawn
    for a paper, and beside published numbers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    groups = [_make_group_files(each, form) for each in scores]
    across = [_make_cohort_files(each) for each in cohorts]
    pairs = [{"preferences.csv": to_csv(table.rows).encode(), **_draw_pairs(table)} for table in preferences]
    files = {}
    for contents in (groups, across, pairs):
        for number, named in enumerate(contents, start=1):
            for name, content in named.items():
                stem, ending = name.split(".")
                files[folder / (name if number == 1 else f"{stem}-{number}.{ending}")] = content
    pictures = [
        next((content for name, content in contents.items() if name in PICTURES), None)
        for contents in (*groups, *across, *pairs)
    ]
    files[folder / "report.html"] = write_page(scores, cohorts, lineage, pictures, preferences)
    for path, content in files.items():
        _write_whole(path, content)
    for path in folder.iterdir():
        if PASSING.fullmatch(path.name) and path not in files:
            path.unlink(missing_ok=True)
    return list(files)


def _make_group_files(scores: GroupScores, form: FigureForm) -> dict[str, bytes]:
    files = {name: to_csv(rows).encode() for name, rows in group_rows(scores).items()}
    group = scores.group
    files["table.md"] = format_markdown(group.heading, group.provenance, make_sections(scores)).encode()
    files |= {f"trade_off.{kind}": content for kind, content in draw_trade_off(scores).items()}
    if set(scores.axes) <= group.measures.keys():
        by_score = draw_trade_off(replace(scores, by_score=True))
        files |= {f"rewards.{kind}": content for kind, content in by_score.items()}
    if form is FigureForm.paper or scores.published:
        files |= {f"panels.{kind}": content for kind, content in draw_panels(scores).items()}
    return files


def _draw_pairs(table: PreferenceTable) -> dict[str, bytes]:
    return {f"preferences.{kind}": content for kind, content in draw_preferences(table).items()}


def _make_cohort_files(cohort: Cohort) -> dict[str, bytes]:
    text = format_markdown(cohort.heading, cohort.provenance, make_cohort_sections(cohort))
    files = {"across.md": text.encode()}
    if cohort.means:
        files["seeds.csv"] = to_csv([policy_row(row) for row in cohort.means.policies]).encode()
        files |= {f"seeds.{kind}": content for kind, content in draw_trade_off(cohort.means).items()}
    if cohort.gaps:
        files["gaps.csv"] = to_csv(list(gap_rows(cohort))).encode()
    return files


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
